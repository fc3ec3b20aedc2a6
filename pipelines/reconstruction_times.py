"""At which times a recording is turned into images: windows for networks that run through it, times for
methods that see it as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evsim.configuration import check_choices, require_range
from evsim.errors import ConfigError, FormatError, InputError
from evsim.formats import Recording
from evsim.formats.storage.excerpt import time_span
from evsim.formats.storage.windows import (
    Window,
    windows_at,
    windows_between_images,
    windows_by_count,
    windows_by_duration,
)

WindowKind = Literal["frames", "time", "count", "number", "times"]


@dataclass(frozen=True, kw_only=True)
class ImageTimes:
    """When images are wanted."""

    t_start: float | None = None
    """Leave out what is earlier, seconds after the first event."""
    t_end: float | None = None
    """Leave out what is not earlier, seconds after the first event."""
    windows: Literal["auto", "frames", "time", "count", "number", "times"] = "auto"
    """One image per interval between the recording's own images, per time, per count of events, a number of
    images in all, or given times; auto: what `times` or `frames` asks for, else frames where the recording
    holds images, else time."""
    window_ms: float = 40.0
    """Length of a window by time, milliseconds."""
    events_per_window: int = 15_000
    """Events of a window by count."""
    frames: int | None = None
    """So many images, equally spaced."""
    times: str | None = None
    """Text file, one time a line, such as an images.txt, or NPY array: seconds on the recording's clock at
    which images are."""

    def __post_init__(self) -> None:
        check_choices(self)
        require_range("window_ms", self.window_ms, 0.001)
        require_range("events_per_window", self.events_per_window, 1)
        if self.frames is not None:
            require_range("frames", self.frames, 1)
        for name in ("t_start", "t_end"):
            value = getattr(self, name)
            if value is not None and not np.isfinite(value):
                raise ConfigError(f"{name} = {value}, expected seconds after the first event")
        if self.t_end is not None and self.t_end <= (self.t_start or 0.0):
            raise ConfigError(f"t_end = {self.t_end} is not later than t_start = {self.t_start or 0.0}")
        for kind, field in (("times", "times"), ("number", "frames")):
            if self.windows == kind and getattr(self, field) is None:
                raise ConfigError(f"windows = {kind}, but {field} is not set")


def chosen_windows(recording: Recording, config: ImageTimes) -> WindowKind:
    """What the images go by."""
    if config.windows != "auto":
        return config.windows
    if config.times is not None:
        return "times"
    if config.frames is not None:
        return "number"
    return "frames" if recording.image_count > 1 else "time"


def cut_windows(recording: Recording, kind: WindowKind, config: ImageTimes) -> Iterator[Window]:
    """The windows of a recording, one after another."""
    if kind == "frames":
        return windows_between_images(recording)
    if kind == "count":
        return windows_by_count(recording, config.events_per_window)
    if kind == "number":
        first, last = time_span(recording)
        return windows_at(recording, np.linspace(first, last, (config.frames or 1) + 1)[1:])
    if kind == "times":
        return windows_at(recording, given_times(recording, config))
    return windows_by_duration(recording, round(config.window_ms * 1000))


def image_times(recording: Recording, kind: WindowKind, config: ImageTimes) -> NDArray[np.float64]:
    """float64 (N,) microseconds: when a method that sees the whole recording is asked for images.

    All images of the recording for "frames", every `window_ms` from the first event on for "time", the
    windows' ends for "count", from the first to the last event for "number".
    """
    if kind == "frames":
        return recording.image_times()
    if kind == "times":
        return given_times(recording, config)
    if kind == "count":
        return np.array([end for _, end in windows_by_count(recording, config.events_per_window)])
    first, last = time_span(recording)
    if kind == "number":
        return np.linspace(first, last, config.frames or 1)
    return np.arange(first, last + 1, config.window_ms * 1000)


def expected_windows(recording: Recording, kind: WindowKind, config: ImageTimes) -> int | None:
    """How many windows there will be, or None when only reading can tell."""
    if kind == "frames":
        return max(0, recording.image_count - 1)
    if kind == "number":
        return config.frames
    if kind == "times":
        return len(given_times(recording, config))
    return -(-len(recording) // config.events_per_window) if kind == "count" else None


def frame_rate(recording: Recording, kind: WindowKind, config: ImageTimes) -> float | None:
    """Frames per second of the images; None for windows by count, which have no rate."""
    if kind == "time":
        return 1000.0 / config.window_ms
    if kind == "count":
        return None
    if kind == "number":
        first, last = time_span(recording)
        return 1e6 * (config.frames or 1) / (last - first) if last > first else None
    times = given_times(recording, config) if kind == "times" else recording.image_times()
    return float(1e6 / np.median(np.diff(times))) if len(times) > 1 else None


def given_times(recording: Recording, config: ImageTimes) -> NDArray[np.float64]:
    """float64 (N,) microseconds on the clock of the events: what the file of times says.

    Where the recording counts Unix time, so may the file. Raises InputError for a file that is not there,
    FormatError for one that does not hold increasing numbers, InputError where none lies within the events.
    """
    assert config.times is not None
    path = Path(config.times)
    seconds = read_seconds(path)
    # To the nanosecond, so that a time in seconds names the microsecond that it was written for.
    microseconds = np.round(seconds * 1e6, 3)
    if recording.moved_to_origin and microseconds[0] > recording.moved_to_origin / 2:
        microseconds = microseconds - recording.moved_to_origin
    first, last = time_span(recording)
    if not np.any((microseconds >= first) & (microseconds <= last)):
        raise InputError(
            f"{path}: its times, {seconds[0]:.9g} to {seconds[-1]:.9g} s, are all outside the events, "
            f"{first / 1e6:.9g} to {last / 1e6:.9g} s on the recording's clock"
        )
    return microseconds


def read_seconds(path: Path) -> NDArray[np.float64]:
    """float64 (N,) increasing seconds of an .npy array or a text file.

    Of a text file the last column that holds numbers counts: "3 0.5" and "0.5 images/3.png" are both 0.5.
    """
    if not path.is_file():
        raise InputError(f"no file of times at {path}")
    try:
        if path.suffix.lower() == ".npy":
            found = np.load(path, allow_pickle=False).astype(np.float64).ravel()
        else:
            lines = (line.partition("#")[0].split() for line in path.read_text("utf-8").splitlines())
            found = np.array([_seconds_of(line) for line in lines if line], np.float64)
    except (ValueError, UnicodeDecodeError) as error:
        raise FormatError(path, f"{error}; expected one time in seconds a line") from None
    if not len(found) or not np.isfinite(found).all() or np.any(np.diff(found) <= 0):
        raise FormatError(path, "expected at least one time, in seconds, each later than the one before")
    return found


def _seconds_of(words: list[str]) -> float:
    """Of the last column, or of the one before where that is a name. Raises ValueError without a number."""
    try:
        return float(words[-1])
    except ValueError:
        if len(words) == 1:
            raise
        return float(words[-2])
