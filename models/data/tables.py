"""Windows of a recording as a table: which events are in each, and which image belongs to it.

The table is made once; a window is then read from any position, in any order. (`windows.py` has the same
windows as a stream, for recordings read once from begin to end.)
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from evsim.configuration import require_range
from evsim.errors import ConfigError, InputError
from evsim.models.data.sources import Source

WindowKind = Literal["between_frames", "stored", "k_events", "t_seconds"]
NO_IMAGE = -1


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How a recording's events are cut into windows."""

    kind: WindowKind = "between_frames"
    """between_frames, stored (the file's own index table), k_events or t_seconds."""
    events: int = 25_000
    """Events in a window of kind k_events."""
    seconds: float = 0.04
    """Length of a window of kind t_seconds."""
    overlap: float = 0.0
    """Share of a window of kind k_events or t_seconds that the next one repeats, 0 to below 1."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(WindowKind):
            raise ConfigError(f"kind = {self.kind!r}, expected one of {', '.join(get_args(WindowKind))}")
        require_range("events", self.events, 1)
        require_range("seconds", self.seconds, 1e-6)
        require_range("overlap", self.overlap, 0, 1)
        if self.overlap == 1:
            raise ConfigError("overlap = 1, expected below 1: windows would not advance")


@dataclass(frozen=True)
class WindowTable:
    """The windows of one recording.

    rows: int64 (K, 2), window k holds the events rows[k, 0]..rows[k, 1] - 1 by position.
    ends_us: float64 (K,), the end of each on the clock of the events.
    images: int64 (K,), the image at its end, NO_IMAGE where there is none.
    """

    rows: NDArray[np.int64]
    ends_us: NDArray[np.float64]
    images: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)


def make_table(source: Source, config: WindowConfig) -> WindowTable:
    """The windows of a recording; only whole ones, so a short recording may give none.

    between_frames: after one image's time and up to the next one's, with that next image; K images give
    K - 1 windows. stored: the file's table, with the image of each row. k_events and t_seconds: windows of
    that many events or seconds, without images. Raises InputError where the file lacks what the kind needs.
    """
    return _MAKERS[config.kind](source, config)


def given_table(source: Source, rows: NDArray[np.integer]) -> WindowTable:
    """The table of windows that the caller chose: (K, 2) positions [start, end) of events.

    A table of as many rows as there are images pairs row k with image k; otherwise no window has one.
    Raises InputError for another shape or positions outside the recording.
    """
    table = np.asarray(rows, np.int64)
    if table.ndim != 2 or table.shape[1] != 2:
        raise InputError(f"windows have shape {table.shape}, expected (K, 2) positions [start, end)")
    wrong = (table[:, 0] < 0) | (table[:, 1] < table[:, 0]) | (table[:, 1] > len(source))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"window {row} is {table[row].tolist()}, expected start <= end within the {len(source)} events "
            f"of {source.recording.path}"
        )
    times = source.image_times()
    if len(times) == len(table):
        return WindowTable(table, times, np.arange(len(table)))
    return WindowTable(table, _last_times(source, table), np.full(len(table), NO_IMAGE))


def _between_frames(source: Source, config: WindowConfig) -> WindowTable:
    times = source.image_times()
    if len(times) < 2:
        raise InputError(
            f"{source.recording.path} holds {len(times)} images, expected at least 2 to take windows "
            "between; choose windows of kind k_events or t_seconds"
        )
    ends = [source.search(float(t), after=True) for t in times]
    rows = np.array(list(itertools.pairwise(ends)), np.int64)
    return WindowTable(rows, times[1:], np.arange(1, len(times)))


def _stored(source: Source, config: WindowConfig) -> WindowTable:
    rows = source.recording.event_windows
    if rows is None:
        raise InputError(
            f"{source.recording.path} holds no index table of event windows; choose kind between_frames"
        )
    return given_table(source, rows)


def _k_events(source: Source, config: WindowConfig) -> WindowTable:
    step = max(1, round(config.events * (1 - config.overlap)))
    starts = np.arange(0, len(source) - config.events + 1, step, dtype=np.int64)
    rows = np.stack([starts, starts + config.events], 1)
    return WindowTable(rows, _last_times(source, rows), np.full(len(rows), NO_IMAGE))


def _t_seconds(source: Source, config: WindowConfig) -> WindowTable:
    count = len(source)
    if count == 0:
        return WindowTable(np.empty((0, 2), np.int64), np.empty(0), np.empty(0, np.int64))
    first, last = int(source.rows(0, 1).t[0]), int(source.rows(count - 1, count).t[0])
    length = config.seconds * 1e6
    step = length * (1 - config.overlap)
    # Whole windows only: the last one ends at or before the last event (which is then outside it).
    number = max(0, int((last - first - length) // step) + 1)
    begins = first + step * np.arange(number, dtype=np.float64)
    ends = begins + length
    rows = [[source.search(float(a)), source.search(float(b))] for a, b in zip(begins, ends)]
    return WindowTable(np.array(rows, np.int64).reshape(-1, 2), ends, np.full(number, NO_IMAGE))


def _last_times(source: Source, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Time of the last event of each window; for one without events that of the event before it."""
    if not len(source):
        return np.zeros(len(rows))
    return np.array([source.rows(i, i + 1).t[0] for i in np.maximum(rows[:, 1] - 1, 0)], np.float64)


_MAKERS = {
    "between_frames": _between_frames,
    "stored": _stored,
    "k_events": _k_events,
    "t_seconds": _t_seconds,
}
