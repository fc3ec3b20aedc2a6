"""Samples with truth: what a predictor of frames is given, which images are asked of it, what they should be.

For interpolation every n-th frame of a sequence is given and the others are asked for; for deblurring the
blurry frames are given and the sharp ones are asked for. What a prediction is compared with is not in the
scene that it is made from.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.formats import Recording, open_events
from evsim.formats.evreal import EvrealRecording
from evsim.media import read_image
from evsim.models.evaluation.predictions import BEYOND, INPUTS
from evsim.models.evaluation.protocol import EvaluationConfig
from evsim.models.evaluation.sequences import TIMES_FILE, EvaluatedSequence, image_files, read_times
from evsim.models.prediction.scene import Scene
from evsim.timed_image import ImageKind, TimedImage

FrameRole = Literal["interpolate", "deblur"]
NOMINAL_INTERVAL_US = 1e6
"""Between the images of a folder that says no times."""
BLURRED = "inputs of the deblurring"
UNEXPOSED = "sharp images outside of every exposure"


class Sample(NamedTuple):
    """One image that is asked for.

    number: in the sequence; it names files. time_us: when, on the clock of the scene.
    time_s: when, for results; None where a folder says no times. key: what messages call it.
    """

    number: int
    time_us: float
    time_s: float | None
    key: str


@dataclass(frozen=True, kw_only=True)
class SequenceSamples:
    """A sequence as one role sees it.

    scene: what predictions are made from. wanted: in order of time. truths: gives the image of each, in the
    same order, anew for every call. unscored: why the other images of the sequence are not asked for.
    """

    scene: Scene
    wanted: tuple[Sample, ...]
    truths: Callable[[], Iterator[NDArray[Any]]]
    unscored: Mapping[str, int]


@contextlib.contextmanager
def open_samples(
    sequence: EvaluatedSequence, role: FrameRole, config: EvaluationConfig, *, events: bool
) -> Iterator[SequenceSamples]:
    """The samples of a sequence while the block runs; events: whether predictions need some.

    Raises InputError for a sequence in which nothing can be asked for.
    """
    if sequence.kind == "images":
        if events:
            raise InputError(f"{sequence.path} is a folder of images without events; the network needs some")
        yield _samples(_images_of_folder(sequence.path), None, role, config)
        return
    with open_events(sequence.path) as recording:
        yield _samples(_images_of_recording(recording), recording, role, config)


class _Images(NamedTuple):
    """The images of a sequence without their pixels; `read` gives those of increasing numbers, in order."""

    path: Path
    times_us: NDArray[np.float64]
    times_s: NDArray[np.float64] | None
    exposures_us: NDArray[np.float64]
    kinds: list[ImageKind]
    read: Callable[[NDArray[np.int64]], Iterator[TimedImage]]

    def numbers(self, kind: ImageKind) -> NDArray[np.int64]:
        return np.flatnonzero(np.array([own == kind for own in self.kinds], bool))


class _Chosen:
    """The images of some numbers, read anew every time."""

    def __init__(self, images: _Images, numbers: NDArray[np.int64]) -> None:
        self._images, self._numbers = images, numbers

    def __iter__(self) -> Iterator[TimedImage]:
        return self._images.read(self._numbers)


class _EventsAlone(Recording):
    """A recording without its images, so that none can be looked at that is asked for."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(
            recording.path,
            recording.format,
            (recording.width, recording.height),
            t_origin=recording.t_origin,
            unit=recording.unit,
            polarity=recording.polarity,
            has_labels=recording.has_labels,
            subpixel=recording.subpixel,
            attributes=recording.attributes,
        )
        self._whole, self._shift = recording, recording.moved_to_origin

    def __len__(self) -> int:
        return len(self._whole)

    def _blocks(self) -> Iterator[Events]:
        return self._whole.chunks()

    def between(self, t0: int, t1: int) -> Events:
        """Events with t0 <= t < t1, microseconds of column `t`."""
        return self._whole.between(t0, t1)

    def first_time(self) -> int | None:
        """Time of the first event in microseconds, None without events."""
        return self._whole.first_time()


def _images_of_folder(folder: Path) -> _Images:
    files = image_files(folder)
    seconds = read_times(folder, files) if (folder / TIMES_FILE).is_file() else None
    times_us = NOMINAL_INTERVAL_US * np.arange(len(files), dtype=np.float64)
    if seconds is not None:
        times_us = 1e6 * seconds

    def read(numbers: NDArray[np.int64]) -> Iterator[TimedImage]:
        return (TimedImage(read_image(files[k]), float(times_us[k])) for k in numbers)

    return _Images(folder, times_us, seconds, np.zeros(len(files)), ["frame"] * len(files), read)


def _images_of_recording(recording: Recording) -> _Images:
    times_us, facts = recording.image_times(), list(recording.image_facts())
    seconds: NDArray[np.float64] = times_us / 1e6
    if isinstance(recording, EvrealRecording):
        seconds = np.asarray(recording.image_seconds, np.float64)

    def read(numbers: NDArray[np.int64]) -> Iterator[TimedImage]:
        chosen = np.zeros(len(facts), bool)
        chosen[numbers] = True
        for image in itertools.compress(recording.images(), chosen):
            yield TimedImage(image.image, image.t_us, image.exposure_us, image.kind)

    exposures = np.array([fact.exposure_us for fact in facts], np.float64)
    return _Images(recording.path, times_us, seconds, exposures, [fact.kind for fact in facts], read)


def _samples(
    images: _Images, recording: Recording | None, role: FrameRole, config: EvaluationConfig
) -> SequenceSamples:
    choose = _interpolation if role == "interpolate" else _deblurring
    given, asked, unscored = choose(images, config)
    # An image stands for the middle of its exposure.
    moments = images.times_us - images.exposures_us / 2
    seconds = images.times_s
    wanted = tuple(
        Sample(
            int(k),
            float(moments[k]),
            None if seconds is None else float(seconds[k] - images.exposures_us[k] / 2e6),
            f"{images.path}, image {k}",
        )
        for k in asked
    )
    return SequenceSamples(
        scene=Scene(
            recording=None if recording is None else _EventsAlone(recording),
            images=_Chosen(images, given),
            name=str(images.path),
        ),
        wanted=wanted,
        truths=lambda: (image.image for image in images.read(asked)),
        unscored=unscored,
    )


Choice = tuple[NDArray[np.int64], NDArray[np.int64], dict[str, int]]
"""Numbers of the images that are given, of those that are asked for, and why others are neither."""


def _interpolation(images: _Images, config: EvaluationConfig) -> Choice:
    if config.inserted < 2:
        raise InputError(
            f"inserted = {config.inserted} gives every frame and asks for none; expected 2 or more "
            "(--inserted)"
        )
    frames = images.numbers("frame")
    given = frames[:: config.inserted]
    if len(given) < 2:
        raise InputError(
            f"{images.path} holds {len(frames)} frames, expected at least {config.inserted + 1}: every "
            f"{config.inserted}th is given and what lies between is asked for (--inserted)"
        )
    asked = frames[(frames < given[-1]) & ~np.isin(frames, given)]
    beyond = int(np.count_nonzero(frames > given[-1]))
    return given, asked, {INPUTS: len(given), **({BEYOND: beyond} if beyond else {})}


def _deblurring(images: _Images, config: EvaluationConfig) -> Choice:
    given, sharp = images.numbers("blurry"), images.numbers("sharp")
    if not len(given) or not len(sharp):
        raise InputError(
            f"{images.path} holds {len(given)} blurry and {len(sharp)} sharp images, expected some of "
            "both: the sharp ones are what predictions are compared with"
        )
    stops = images.times_us[given]
    starts = stops - images.exposures_us[given]
    if np.any(starts == stops):
        unknown = int(given[np.argmax(starts == stops)])
        raise InputError(
            f"{images.path}: blurry image {unknown} has no exposure time, which deblurring needs"
        )
    moments = (images.times_us - images.exposures_us / 2)[sharp]
    inside = np.any((moments[:, None] >= starts) & (moments[:, None] <= stops), axis=1)
    if not inside.any():
        raise InputError(
            f"{images.path}: none of its {len(sharp)} sharp images lies within a blurry one's exposure"
        )
    outside = int(np.count_nonzero(~inside))
    return given, sharp[inside], {BLURRED: len(given), **({UNEXPOSED: outside} if outside else {})}
