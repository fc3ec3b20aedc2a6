"""An event file to images, by a recurrent network: the work behind `evsim reconstruct`.

Windows are read, turned into images and written one by one: memory does not grow with the recording.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from evsim import configuration
from evsim.configuration import require_range
from evsim.errors import InputError
from evsim.files import atomic_output, require_absent
from evsim.formats import Recording
from evsim.media import open_writer
from evsim.models.data.windows import (
    Window,
    windows_between_images,
    windows_by_count,
    windows_by_duration,
)
from evsim.models.reconstruction import Normalization, Reconstructor, normalize_image

Report = Callable[[int, int | None, str], None]

TIMES_SAMPLED = 32
"""Images whose times decide the frame rate of a video."""


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """Which network, how a recording is cut into windows, and how images are brought to 0..1."""

    network: str = "firenet"
    """Name of a network that turns events into images."""
    weights: str | None = None
    """Weight file, or name of a published one; the first published file that is there where absent."""
    windows: Literal["auto", "frames", "time", "count"] = "auto"
    """One image per interval between the recording's own images, per time, or per count of events; auto is
    frames where the recording holds images, else time."""
    window_ms: float = 40.0
    """Length of a window by time, milliseconds."""
    events_per_window: int = 15_000
    """Events of a window by count."""
    normalize: Normalization = "none"
    """Stretch each image: none, standard (extremes), robust (percentiles 1 to 99), exprobust (of the
    exponential)."""
    fps: float | None = None
    """Frame rate of a video; by the windows' length where absent."""

    def __post_init__(self) -> None:
        require_range("window_ms", self.window_ms, 0.001)
        require_range("events_per_window", self.events_per_window, 1)


@dataclass(frozen=True)
class ReconstructionResult:
    """What was written. events_outside: in no window; clipped_share: of pixels outside 0..1 in 8 bit."""

    output: Path
    configuration: Path
    windows: str
    images: int
    empty_windows: int
    events: int
    events_outside: int
    clipped_share: float | None
    seconds: float

    def summary(self) -> dict[str, Any]:
        """Names and values to print."""
        rate = self.images / self.seconds if self.seconds else 0.0
        paths = {"output": str(self.output), "configuration": str(self.configuration)}
        return {**vars(self), **paths, "images_per_second": rate}


def reconstruct_to_file(
    recording: Recording,
    reconstructor: Reconstructor,
    output: Path,
    config: ReconstructionConfig | None = None,
    *,
    overwrite: bool = False,
    report: Report | None = None,
) -> ReconstructionResult:
    """Write an image for each window: 8-bit PNG or video, or float32 .npy that is not clipped.

    The network's state is kept from window to window. report: called with (windows done, windows expected
    or None, a few words). Raises InputError for a recording, window or output that cannot be used.
    """
    config = config or ReconstructionConfig()
    require_absent(output, overwrite=overwrite)
    started = time.perf_counter()
    kind = chosen_windows(recording, config)
    floats = output.suffix.lower() == ".npy"
    images = empty = events = clipped = 0
    fps = config.fps or frame_rate(recording, kind, config)
    reconstructor.reset()
    with open_writer(
        output, fps=fps, size=(recording.width, recording.height), overwrite=overwrite
    ) as writer:
        expected = expected_windows(recording, kind, config)
        for window in cut_windows(recording, kind, config):
            image: NDArray[Any] = normalize_image(reconstructor.step(window.events), config.normalize)
            codes, outside = (image, 0) if floats else to_8_bit(image)
            clipped += outside
            writer.write(codes, round(window.end_us * 1000))
            images, events = images + 1, events + len(window.events)
            empty += not len(window.events)
            if report:
                report(images, expected, "")
        if not images:
            raise InputError(f"{recording.path} holds no events, so there is nothing to reconstruct")
    pixels = images * recording.width * recording.height
    return ReconstructionResult(
        output=output,
        configuration=write_configuration(config, output),
        windows=kind,
        images=images,
        empty_windows=empty,
        events=events,
        events_outside=len(recording) - events,
        clipped_share=None if floats else clipped / pixels,
        seconds=time.perf_counter() - started,
    )


def write_configuration(config: ReconstructionConfig, output: Path) -> Path:
    """Write the resolved configuration beside `output` as ``<stem>.config.yaml``, which can be fed back."""
    path = output.with_name(f"{output.stem}.config.yaml")
    with atomic_output(path, overwrite=True) as temporary:
        temporary.write_text(yaml.safe_dump(configuration.to_tree(config), sort_keys=False), encoding="utf-8")
    return path


def plan(
    recording: Recording, output: Path, config: ReconstructionConfig, *, overwrite: bool = False
) -> dict[str, Any]:
    """What a reconstruction would write, as names and values to print; nothing is written."""
    require_absent(output, overwrite=overwrite)
    kind = chosen_windows(recording, config)
    return {
        "output": str(output),
        "size": f"{recording.width}x{recording.height}",
        "events": len(recording),
        "windows": kind,
        "images": expected_windows(recording, kind, config),
        "fps": config.fps or frame_rate(recording, kind, config),
        "written": "nothing",
    }


def chosen_windows(recording: Recording, config: ReconstructionConfig) -> str:
    """What the windows go by: "frames", "time" or "count"."""
    if config.windows != "auto":
        return config.windows
    return "frames" if recording.image_count > 1 else "time"


def cut_windows(recording: Recording, kind: str, config: ReconstructionConfig) -> Iterator[Window]:
    """The windows of a recording, one after another."""
    if kind == "frames":
        return windows_between_images(recording)
    if kind == "count":
        return windows_by_count(recording, config.events_per_window)
    return windows_by_duration(recording, round(config.window_ms * 1000))


def expected_windows(recording: Recording, kind: str, config: ReconstructionConfig) -> int | None:
    """How many windows there will be, or None when only reading can tell."""
    if kind == "frames":
        return max(0, recording.image_count - 1)
    return -(-len(recording) // config.events_per_window) if kind == "count" else None


def frame_rate(recording: Recording, kind: str, config: ReconstructionConfig) -> float | None:
    """Frames per second of the images; None for windows by count, which have no rate."""
    if kind == "time":
        return 1000.0 / config.window_ms
    if kind == "count" or recording.image_count < 2:
        return None
    times = [image.t_us for image in itertools.islice(recording.images(), TIMES_SAMPLED)]
    return float(1e6 / np.median(np.diff(times)))


def to_8_bit(image: NDArray[np.float32]) -> tuple[NDArray[np.uint8], int]:
    """Rounded codes of an image whose full scale is 1, and how many pixels lay outside 0..1."""
    outside = int(np.count_nonzero((image < 0) | (image > 1)))
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8), outside
