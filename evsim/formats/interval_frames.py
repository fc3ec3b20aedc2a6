"""Sim2Real's simulated events: one int8 (H, W) .npy for each interval, every pixel's last polarity.

The layout keeps neither times inside an interval nor a pixel's earlier events; what is lost is counted.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats.catalogue import Format, register
from evsim.formats.storage.event_buffer import EventBuffer
from evsim.formats.storage.npy_stream import MAGIC, map_npy
from evsim.formats.storage.npz_folder import natural_names
from evsim.formats.storage.recording import Recording
from evsim.formats.storage.writer import EventWriter

DEFAULT_INTERVAL_US = 1000
MOST_INTERVALS = 1_000_000
MERGED = "events were lost: an interval keeps the last event of a pixel"
MOVED = "events were moved to the end of their interval"
_NAME = re.compile(r"^(?P<number>\d+)_(?P<start>-?\d+)_(?P<end>-?\d+)_us\.npy$")


class FrameInterval(NamedTuple):
    """A file and its interval (start, end] in microseconds."""

    file: Path
    start: int
    end: int


def sniff(path: Path, head: bytes) -> bool:
    """True for a folder of nothing but int8 .npy images, and perhaps fps.txt."""
    if not path.is_dir():
        return False
    files = [entry for entry in path.iterdir() if entry.name != "fps.txt"]
    if not files or not all(entry.suffix == ".npy" and entry.is_file() for entry in files):
        return False
    first = natural_names(files)[0]
    with first.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return False
    array = map_npy(first)
    return array.ndim == 2 and array.dtype == np.int8


class IntervalFramesRecording(Recording):
    """A folder of intervals; every non-zero pixel is an event at its interval's end.

    The intervals are in the names where evsim wrote them. Elsewhere fps.txt in the folder must give the
    frames per second: a name that is a number k is the frame at whose time, k / fps, the interval ends;
    other names count from 1. Raises FormatError for frames of another kind, InputError without times.
    """

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        self._intervals = _intervals(path)
        shape = map_npy(self._intervals[0].file).shape
        if len(shape) != 2:
            raise FormatError(self._intervals[0].file, f"has shape {shape}, expected (H, W)")
        super().__init__(
            path,
            "interval_frames",
            size or (shape[1], shape[0]),
            polarity="-1/1",
            attributes={"intervals": len(self._intervals)},
        )
        self._shape = shape

    def __len__(self) -> int:
        if self._known is not None:
            return self._known.events
        return sum(int(np.count_nonzero(self._frame(interval))) for interval in self._intervals)

    def between(self, t0: int, t1: int) -> Events:
        inside = [self._part(interval) for interval in self._intervals if t0 <= interval.end < t1]
        return Events.concatenate([self.empty(), *(self._check(part, 0, None) for part in inside)])

    def _blocks(self) -> Iterator[Events]:
        return map(self._part, self._intervals)

    def _part(self, interval: FrameInterval) -> Events:
        frame = self._frame(interval)
        y, x = np.nonzero(frame)
        return Events(
            np.full(len(x), interval.end, np.int64),
            x.astype(np.uint16),
            y.astype(np.uint16),
            (frame[y, x] > 0).astype(np.uint8),
            self.width,
            self.height,
        )

    def _frame(self, interval: FrameInterval) -> NDArray[np.int8]:
        frame = map_npy(interval.file)
        if frame.shape != self._shape or frame.dtype != np.int8:
            raise FormatError(
                interval.file,
                f"is {frame.dtype} {frame.shape}, expected int8 {self._shape} as the first file is",
            )
        if frame.size and (frame.min() < -1 or frame.max() > 1):
            raise FormatError(interval.file, f"spans {frame.min()}..{frame.max()}, expected -1, 0 and 1")
        return np.asarray(frame)


class IntervalFramesWriter(EventWriter):
    """Writes one file for each interval, also for those without events; see `EventWriter`.

    interval_us: length of an interval (k d, (k + 1) d]; the first and the last are those of the first and
    last event. edges_us: instead the ends of all intervals, one more than files; events outside are counted
    and left out. Names hold number and interval: they sort, and can be read again.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        width: int,
        height: int,
        *,
        t_origin: int = 0,
        labels: bool = False,
        seed: int | None = None,
        config: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        interval_us: int = DEFAULT_INTERVAL_US,
        edges_us: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(
            path,
            width,
            height,
            t_origin=t_origin,
            labels=labels,
            seed=seed,
            config=config,
            overwrite=overwrite,
        )
        if t_origin:
            raise InputError(f"{self.path}: this format has no place for t_origin = {t_origin}")
        if interval_us < 1:
            raise InputError(f"{self.path}: interval_us {interval_us}, expected at least 1")
        self._interval_us = interval_us
        self._edges = None if edges_us is None else np.asarray(edges_us, np.int64)
        if self._edges is not None and (len(self._edges) < 2 or np.any(np.diff(self._edges) <= 0)):
            raise InputError(f"{self.path}: edges_us must be at least two rising times")

    def _open(self, temporary: Path) -> None:
        temporary.mkdir()
        self._folder = temporary
        self._spool = EventBuffer(temporary)

    def _write(self, events: Events) -> None:
        self._spool.append(events)

    def _finish(self) -> None:
        edges = self._edges if self._edges is not None else self._even_edges()
        kept = moved = inside = 0
        for number, (start, end) in enumerate(itertools.pairwise(edges.tolist())):
            rows: dict[str, Any] = self._spool.rows(
                self._spool.search(start, after=True), self._spool.search(end, after=True)
            )
            frame = np.zeros((self.height, self.width), np.int8)
            # Where a pixel occurs more than once, the last assignment holds.
            frame[rows["y"], rows["x"]] = 2 * rows["p"].astype(np.int8) - 1
            np.save(self._folder / f"{number:06d}_{start}_{end}_us.npy", frame)
            inside += len(rows["t"])
            kept += int(np.count_nonzero(frame))
            moved += int(np.count_nonzero(rows["t"] != end))
        self.remarks[MERGED], self.remarks[MOVED] = inside - kept, moved
        self.remarks["events outside the edges were left out"] = len(self._spool) - inside
        self._spool.close()

    def _even_edges(self) -> NDArray[np.int64]:
        d = self._interval_us
        first = -(-(self.t_first if self.t_first is not None else d) // d) - 1
        last = -(-(self.t_last if self.t_last is not None else d) // d)
        if last - first > MOST_INTERVALS:
            raise InputError(
                f"{self.path}: {last - first} files of {d} us would be needed; give longer intervals"
            )
        return np.arange(first, last + 1, dtype=np.int64) * d

    def _abandon(self) -> None:
        if hasattr(self, "_spool"):
            self._spool.close()


def _intervals(path: Path) -> list[FrameInterval]:
    files = natural_names([entry for entry in path.iterdir() if entry.suffix == ".npy"])
    if not files:
        raise FormatError(path, "holds no .npy frame")
    named = [_NAME.match(file.name) for file in files]
    if all(named):
        found = [FrameInterval(file, int(m["start"]), int(m["end"])) for file, m in zip(files, named) if m]
    else:
        fps = _frames_per_second(path)
        numbers = [int(file.stem) if file.stem.isdecimal() else None for file in files]
        counted = (
            numbers
            if None not in numbers and len(set(numbers)) == len(numbers)
            else [*range(1, len(files) + 1)]
        )
        found = [
            FrameInterval(file, int((k - 1) * 1e6 / fps), int(k * 1e6 / fps))
            for file, k in zip(files, counted)
            if k is not None
        ]
    for one, next_one in itertools.pairwise(found):
        if next_one.end <= one.end:
            raise FormatError(next_one.file, f"ends at {next_one.end} us, not after the file before it")
    return found


def _frames_per_second(path: Path) -> float:
    file = path / "fps.txt"
    if not file.is_file():
        raise InputError(
            f"{path}: neither the names nor an fps.txt say when the intervals are; "
            "write the frames per second into fps.txt in this folder"
        )
    try:
        fps = float(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(file, f"is no number: {error}") from error
    if not 0 < fps < 1e6:
        raise FormatError(file, f"says {fps} frames per second")
    return fps


register(
    Format(
        name="interval_frames",
        summary="Sim2Real folder: int8 (H, W) .npy an interval, last polarity of each pixel",
        suffixes=(".intervals",),
        sniff=sniff,
        open=IntervalFramesRecording,
        create=IntervalFramesWriter,
        polarity="-1/1",
        options=("interval_us", "edges_us"),
    )
)
