"""Networks that interpolate or deblur, behind the contract of all predictors.

An interpolator is given the two frames around the times that are wanted, a deblurrer the blurry frame whose
exposure holds them: all times of a pair or of an exposure at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.models.prediction.needs import Needs
from evsim.models.prediction.predictor import Image
from evsim.models.prediction.scene import Scene
from evsim.progress import Report
from evsim.timed_image import TimedImage
from evsim.upsample.code_values import FULL_SCALE


class PairInterpolator(Protocol):
    """Makes the images between two frames."""

    def between(
        self, frame0: Image, frame1: Image, fractions: NDArray[np.float64], events: Events | None
    ) -> NDArray[np.float32]:
        """The images (N, H, W) or (N, H, W, 3) at fractions (N,) of the way, each above 0 and below 1.

        frame0, frame1: of one shape, full scale 1. events: between the two, after the first frame's time and
        up to the second's; None where the network needs none.
        """
        ...


class Deblurrer(Protocol):
    """Makes the sharp images behind a blurry one."""

    def sharp(
        self, blurry: TimedImage, events: Events | None, times_us: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """The images (N, H, W) or (N, H, W, 3) at times (N,) within the exposure.

        blurry: as the scene has it; its image need not have the size of the events. events: of the exposure;
        None where the network needs none.
        """
        ...


class FramePredictor:
    """An interpolator over the frames of a scene; at a frame's own time the frame, as it is."""

    def __init__(self, interpolator: PairInterpolator, *, events: bool = False) -> None:
        """events: whether the interpolator needs those between the frames."""
        self.interpolator = interpolator
        self.needs = Needs(frames=True, events=events)

    @property
    def facts(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def images(
        self, scene: Scene, times_us: NDArray[np.float64], *, report: Report | None = None
    ) -> Iterator[Image]:
        """The image at each time; see `Predictor`."""
        scene.require(self.needs, "the interpolator")
        times = np.asarray(times_us, np.float64)
        done = 0
        for frame0, frame1 in itertools.pairwise(scene.frames()):
            stop = int(np.searchsorted(times, frame1.t_us, "left"))
            yield from self._between(scene, frame0, frame1, times[done:stop])
            done = max(done, stop)
            last = frame1
        for _ in times[done:]:
            yield full_scale_1(last.image)

    def _between(
        self, scene: Scene, frame0: TimedImage, frame1: TimedImage, times_us: NDArray[np.float64]
    ) -> Iterator[Image]:
        early = int(np.searchsorted(times_us, frame0.t_us, "right"))
        for _ in range(early):
            yield full_scale_1(frame0.image)
        inner = times_us[early:]
        if not len(inner):
            return
        if frame0.image.shape != frame1.image.shape:
            raise InputError(
                f"{scene.title}: frames of {frame0.image.shape} and {frame1.image.shape} follow each other "
                f"at {frame1.t_us:g} us, expected one shape"
            )
        events = _events(scene, frame0.t_us, frame1.t_us) if self.needs.events else None
        fractions = (inner - frame0.t_us) / (frame1.t_us - frame0.t_us)
        yield from self.interpolator.between(
            full_scale_1(frame0.image), full_scale_1(frame1.image), fractions, events
        )


class ExposurePredictor:
    """A deblurrer over the blurry frames of a scene; each time belongs to the exposure that is nearest."""

    def __init__(self, deblurrer: Deblurrer, *, events: bool = True) -> None:
        """events: whether the deblurrer needs those of the exposure."""
        self.deblurrer = deblurrer
        self.needs = Needs(blurry_frames=True, events=events)

    @property
    def facts(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def images(
        self, scene: Scene, times_us: NDArray[np.float64], *, report: Report | None = None
    ) -> Iterator[Image]:
        """The image at each time; one outside every exposure gets that at the end of the nearest."""
        scene.require(self.needs, "the deblurrer")
        times = np.asarray(times_us, np.float64)
        done = 0
        following = itertools.chain(scene.blurry_frames(), [None])
        for blurry, after in itertools.pairwise(following):
            assert blurry is not None
            until = np.inf if after is None else (blurry.t_us + after.t_us - after.exposure_us) / 2
            stop = int(np.searchsorted(times, until, "left"))
            if stop > done:
                begin = blurry.t_us - blurry.exposure_us
                events = _events(scene, begin, blurry.t_us) if self.needs.events else None
                yield from self.deblurrer.sharp(blurry, events, np.clip(times[done:stop], begin, blurry.t_us))
            done = max(done, stop)


def full_scale_1(image: NDArray[Any]) -> Image:
    """The image as float32 of full scale 1. Raises InputError for a type that is no image's."""
    if image.dtype not in FULL_SCALE:
        raise InputError(f"an image of type {image.dtype}, expected uint8, uint16 or float32")
    return image.astype(np.float32) / np.float32(FULL_SCALE[image.dtype])


def _events(scene: Scene, after_us: float, until_us: float) -> Events:
    """The events with after < t <= until."""
    return scene.event_recording.between(int(np.floor(after_us)) + 1, int(np.floor(until_us)) + 1)
