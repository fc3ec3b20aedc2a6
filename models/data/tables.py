"""Windows of a recording as a table: which events are in each, and which image belongs to it.

The table is made once; a window is then read from any position, in any order. (The same windows as a stream,
for recordings read once from begin to end, are in `evsim.formats.storage.windows`.)
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evsim.configuration import check_choices, require_range
from evsim.errors import ConfigError, InputError
from evsim.models.data.sources import Source
from evsim.models.data.stretch import NO_IMAGE

WindowKind = Literal["between_frames", "stored", "exposures", "k_events", "t_seconds"]


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How a recording's events are cut into windows."""

    kind: WindowKind = "between_frames"
    """between_frames, stored (the file's own index table), exposures, k_events or t_seconds."""
    events: int = 25_000
    """Events in a window of kind k_events."""
    seconds: float = 0.04
    """Length of a window of kind t_seconds."""
    overlap: float = 0.0
    """Share of a window of kind k_events or t_seconds that the next one repeats, 0 to below 1."""

    def __post_init__(self) -> None:
        check_choices(self)
        require_range("events", self.events, 1)
        require_range("seconds", self.seconds, 1e-6)
        require_range("overlap", self.overlap, 0, 1)
        if self.overlap == 1:
            raise ConfigError("overlap = 1, expected below 1: windows would not advance")


@dataclass(frozen=True)
class WindowTable:
    """The windows of one recording.

    rows: int64 (K, 2), window k holds the events rows[k, 0]..rows[k, 1] - 1 by position.
    edges_us: float64 (K, 2), begin and end of each on the clock of the events; a begin is NaN where it is the
    time of the window's first event.
    images: int64 (K,), the image at its end, NO_IMAGE where there is none.
    opening_images: int64 (K,), the image at its begin, likewise.
    """

    rows: NDArray[np.int64]
    edges_us: NDArray[np.float64]
    images: NDArray[np.int64]
    opening_images: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ends_us(self) -> NDArray[np.float64]:
        """float64 (K,), the end of each window."""
        return self.edges_us[:, 1]


def make_table(source: Source, config: WindowConfig) -> WindowTable:
    """The windows of a recording; only whole ones, so a short recording may give none.

    between_frames: after one image's time and up to the next one's, with that next image; K images give
    K - 1 windows; sharp images behind blurry ones are not counted among them. stored: the file's table, with
    the image of each row. exposures: begin <= t < end of each image's exposure, likewise, with that image.
    k_events and t_seconds: windows of that many events or seconds, without images. Raises InputError where
    the file lacks what the kind needs.
    """
    return _MAKERS[config.kind](source, config)


def given_table(source: Source, rows: NDArray[np.integer]) -> WindowTable:
    """The table of windows that the caller chose: (K, 2) positions [start, end) of events.

    A table of as many rows as there are images pairs row k with image k, which then belongs to the begin and
    the end of the window; otherwise no window has one.
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
        return WindowTable(table, _edges(times), np.arange(len(table)), np.arange(len(table)))
    return _without_images(table, _edges(_last_times(source, table)))


def _between_frames(source: Source, config: WindowConfig) -> WindowTable:
    frames = _frames(source)
    times = source.image_times()[frames]
    if len(times) < 2:
        raise InputError(
            f"{source.recording.path} holds {len(times)} images, expected at least 2 to take windows "
            "between; choose windows of kind k_events or t_seconds"
        )
    ends = [source.search(float(t), after=True) for t in times]
    rows = np.array(list(itertools.pairwise(ends)), np.int64)
    return WindowTable(rows, np.stack([times[:-1], times[1:]], 1), frames[1:], frames[:-1])


def _exposures(source: Source, config: WindowConfig) -> WindowTable:
    facts = source.image_facts()
    exposed = np.array([k for k in _frames(source) if facts[k].exposure_us > 0], np.int64)
    if not len(exposed):
        raise InputError(
            f"{source.recording.path} holds {len(facts)} images and the exposure of none of them; choose "
            "windows of kind between_frames"
        )
    ends = source.image_times()[exposed]
    edges = np.stack([ends - [facts[k].exposure_us for k in exposed], ends], 1)
    rows = np.array([[source.search(float(t)) for t in window] for window in edges], np.int64)
    return WindowTable(rows, edges, exposed, exposed)


def _frames(source: Source) -> NDArray[np.int64]:
    """The images that a camera gave: all but the sharp ones behind them; all where there is nothing else."""
    facts = source.image_facts()
    given = [k for k, image in enumerate(facts) if image.kind != "sharp"]
    return np.array(given or range(len(facts)), np.int64)


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
    return _without_images(rows, _edges(_last_times(source, rows)))


def _t_seconds(source: Source, config: WindowConfig) -> WindowTable:
    count = len(source)
    if count == 0:
        return _without_images(np.empty((0, 2), np.int64), np.empty((0, 2)))
    first, last = int(source.rows(0, 1).t[0]), int(source.rows(count - 1, count).t[0])
    length = config.seconds * 1e6
    step = length * (1 - config.overlap)
    # Whole windows only: the last one ends at or before the last event (which is then outside it).
    number = max(0, int((last - first - length) // step) + 1)
    begins = first + step * np.arange(number, dtype=np.float64)
    ends = begins + length
    rows = [[source.search(float(a)), source.search(float(b))] for a, b in zip(begins, ends)]
    return _without_images(np.array(rows, np.int64).reshape(-1, 2), np.stack([begins, ends], 1))


def _without_images(rows: NDArray[np.int64], edges_us: NDArray[np.float64]) -> WindowTable:
    none = np.full(len(rows), NO_IMAGE)
    return WindowTable(rows, edges_us, none, none)


def _edges(ends_us: NDArray[np.float64]) -> NDArray[np.float64]:
    """Windows that begin with their first event."""
    return np.stack([np.full(len(ends_us), np.nan), ends_us], 1)


def _last_times(source: Source, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Time of the last event of each window; for one without events that of the event before it."""
    if not len(source):
        return np.zeros(len(rows))
    return np.array([source.rows(i, i + 1).t[0] for i in np.maximum(rows[:, 1] - 1, 0)], np.float64)


_MAKERS = {
    "between_frames": _between_frames,
    "stored": _stored,
    "exposures": _exposures,
    "k_events": _k_events,
    "t_seconds": _t_seconds,
}
