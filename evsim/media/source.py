"""What all frame sources have in common: their attributes, fitting of frames, and a description."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.media.frame import Frame, Transfer
from evsim.media.selection import Selection

TRANSFERS: tuple[Transfer, ...] = ("srgb", "gamma", "linear", "raw", "log")


class Source:
    """A clip that can be read from the start any number of times; see `FrameSource`.

    Beside the attributes of the protocol: kind (one word), timing (in words, where the times come from),
    fps (float by the median interval, 0.0 if unknown), frames_expected (an estimate where frame_count is
    None), duration_s (float, from the first to the last frame, None if unknown).
    """

    kind = "source"

    def __init__(
        self,
        name: str,
        probe: NDArray[Any],
        *,
        selection: Selection,
        transfer: Transfer,
        timing: str,
        fps: float,
        frame_count: int | None,
        frames_expected: int | None,
        duration_s: float | None,
    ) -> None:
        if transfer not in TRANSFERS:
            raise InputError(f"{name}: transfer = {transfer!r}, expected one of {', '.join(TRANSFERS)}")
        self.name = name
        self.selection = selection
        self.transfer: Transfer = transfer
        self.timing = timing
        self.fps = fps
        self.frame_count = frame_count
        self.frames_expected = frames_expected
        self.duration_s = duration_s
        self.channels = 1 if probe.ndim == 2 else int(probe.shape[2])
        self.dtype: np.dtype[Any] = probe.dtype
        self.source_width, self.source_height = int(probe.shape[1]), int(probe.shape[0])
        self.width, self.height = selection.fitted_size(self.source_width, self.source_height, name)

    def __iter__(self) -> Iterator[Frame]:
        raise NotImplementedError

    def stretch(self, first: int, last: int) -> Iterator[Frame]:
        """The frames first..last - 1 of the selection; what lies before them may have to be decoded."""
        return itertools.islice(iter(self), first, last)

    def describe(self) -> dict[str, Any]:
        """What is known without reading the clip: plain values, ready for JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "width": self.width,
            "height": self.height,
            "channels": self.channels,
            "dtype": self.dtype.name,
            "bit_depth": self.dtype.itemsize * 8,
            "frame_count": self.frame_count,
            "frames_expected": self.frames_expected,
            "duration_s": self.duration_s,
            "fps": self.fps,
            "transfer": self.transfer,
            "timing": self.timing,
        }

    def _fit(self, image: NDArray[Any], label: str) -> NDArray[Any]:
        """The image cropped and resized; InputError if its size, channels or dtype is not the clip's."""
        height, width = image.shape[:2]
        channels = 1 if image.ndim == 2 else image.shape[2]
        if (width, height) != (self.source_width, self.source_height):
            raise InputError(
                f"{self.name}: {label} is {width}x{height} pixels, the frames before it "
                f"{self.source_width}x{self.source_height}; all frames must have one size"
            )
        if channels != self.channels or image.dtype != self.dtype:
            raise InputError(
                f"{self.name}: {label} has {channels} channels of {image.dtype}, the frames before it "
                f"{self.channels} of {self.dtype}; all frames must be alike"
            )
        return self.selection.fit(image)


def require_light(image: NDArray[Any], label: str, transfer: Transfer) -> None:
    """InputError if a float image holds NaN, infinities or, unless it is logarithmic, negative values."""
    if image.dtype.kind != "f":
        return
    unusable = int(np.count_nonzero(~np.isfinite(image)))
    if unusable:
        raise InputError(f"{label} holds {unusable} values that are NaN or infinite, expected finite light")
    negative = 0 if transfer == "log" else int(np.count_nonzero(image < 0))
    if negative:
        raise InputError(f"{label} holds {negative} negative values, expected light of 0 or more")


def no_frame_selected(name: str, selection: Selection, first_ns: int, last_ns: int) -> InputError:
    """The error for a window in time that holds none of a clip's frames."""
    from evsim.media.timing import format_seconds

    start = "the start" if selection.start_s is None else f"{selection.start_s:g} s"
    stop = "the end" if selection.stop_s is None else f"{selection.stop_s:g} s"
    return InputError(
        f"{name}: no frame from {start} to before {stop}; "
        f"its frames are at {format_seconds(first_ns)} to {format_seconds(last_ns)} s"
    )
