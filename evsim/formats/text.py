"""Text, one event a line: ``t x y p`` with t in seconds, as the event-camera dataset (ECD) has it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats.catalogue import HEAD_BYTES, Format, register
from evsim.formats.recording import BLOCK, Recording
from evsim.formats.rled_layout import sensor_size
from evsim.formats.units import (
    EXACT_SECONDS_US,
    TimeUnit,
    check_unit,
    polarity_coding,
    to_microseconds,
    to_pixels,
    to_polarity,
)
from evsim.formats.writer import EventWriter

HEADERS = ("comment", "size", "none")
_SIZE = re.compile(rb"\bwidth=(\d+) height=(\d+)")
_ORIGIN = re.compile(rb"\bt_origin=(-?\d+)")
_SIDES = re.compile(rb"^\s*(\d+)\s+(\d+)\s*$")
_NAMES = (
    {b"t", b"ts", b"time", b"timestamp"},
    {b"x"},
    {b"y"},
    {b"p", b"pol", b"polarity"},
)


def sniff(path: Path, head: bytes) -> bool:
    """True if the first line that is no comment, size or column header holds four numbers."""
    if not head or b"\0" in head:
        return False
    lines = head.splitlines()
    cut_off = len(head) >= HEAD_BYTES
    for line in lines[:-1] if cut_off else lines:
        text = line.strip()
        if not text or text.startswith(b"#") or _SIDES.match(text) or _names_columns(text):
            continue
        return len(_numbers(text)) == 4
    return b"evsim.events text" in lines[0] or (_SIDES.match(lines[-1]) is not None and not cut_off)


class TextRecording(Recording):
    """A text file of rows t x y p, streamed.

    Comment lines begin with #. The first other line may be "W H" or name the columns t x y p. Times with a
    decimal point are seconds; whole numbers are not guessed at. Raises FormatError naming the line that
    cannot be read, InputError when size or unit must be told.
    """

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        self._first_line, sides, origin, sample = _preamble(path)
        told = check_unit(unit)
        if told is None:
            told = _unit_of(path, sample)
        rows = _parse(path, sample, self._first_line)
        super().__init__(
            path,
            "text",
            sensor_size(path, sides, order="wh", image_shape=None, given=size),
            t_origin=origin,
            unit=told,
            polarity=polarity_coding(rows[:, 3]),
            subpixel=not np.array_equal(rows[:, 1:3], np.rint(rows[:, 1:3])),
        )
        self._count: int | None = None

    def __len__(self) -> int:
        if self._count is None:
            with self.path.open("rb") as file:
                self._count = sum(1 for line in islice(file, self._first_line, None) if _is_row(line))
        return self._count

    def _blocks(self) -> Iterator[Events]:
        with self.path.open("rb") as file:
            next(islice(file, self._first_line, self._first_line), None)
            line = self._first_line
            while lines := list(islice(file, BLOCK)):
                rows = _parse(self.path, lines, line)
                place = f"lines {line + 1}..{line + len(lines)}"
                line += len(lines)
                t, rounded = to_microseconds(np.ascontiguousarray(rows[:, 0]), self.unit, self.path, place)
                self.rounded_times += rounded
                yield Events(
                    t,
                    to_pixels(np.ascontiguousarray(rows[:, 1]), self.path, place),
                    to_pixels(np.ascontiguousarray(rows[:, 2]), self.path, place),
                    to_polarity(np.ascontiguousarray(rows[:, 3]), self.path, place),
                    self.width,
                    self.height,
                    self.t_origin,
                )


class TextWriter(EventWriter):
    """Writes rows "t x y p": seconds with 9 decimals (exact to the microsecond), p 0/1; see `EventWriter`.

    header: "comment" (a # line with sensor size and origin), "size" (a line "W H") or "none".
    """

    holds_subpixel = True
    largest_time = EXACT_SECONDS_US

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
        header: str = "comment",
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
        if header not in HEADERS:
            raise InputError(f"{self.path}: header {header!r}, expected one of {', '.join(HEADERS)}")
        if t_origin and header != "comment":
            raise InputError(f"{self.path}: only header comment has a place for t_origin = {t_origin}")
        self._header = header
        self._file: IO[str] | None = None

    def _open(self, temporary: Path) -> None:
        self._file = temporary.open("w", encoding="ascii", newline="\n")
        if self._header == "comment":
            self._file.write(
                f"# evsim.events text: width={self.width} height={self.height} t_origin={self.t_origin}; "
                "columns: t [s] x y p\n"
            )
        elif self._header == "size":
            self._file.write(f"{self.width} {self.height}\n")

    def _write(self, events: Events) -> None:
        assert self._file is not None
        whole = events.x.dtype.kind != "f"
        row = "%s%d.%06d000 %d %d %d\n" if whole else "%s%d.%06d000 %.9g %.9g %d\n"
        seconds, rest = np.divmod(np.abs(events.t), 1_000_000)
        signs = np.where(events.t < 0, "-", "")
        columns = (signs, seconds, rest, events.x, events.y, events.p)
        lists = [column.tolist() for column in columns]
        self._file.write("".join([row % values for values in zip(*lists)]))

    def _finish(self) -> None:
        if self._file is not None:
            self._file.close()

    def _abandon(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                self._file = None


def _is_row(line: bytes) -> bool:
    text = line.strip()
    return bool(text) and not text.startswith(b"#")


def _numbers(text: bytes) -> list[float]:
    try:
        return [float(word) for word in text.split()]
    except ValueError:
        return []


def _names_columns(text: bytes) -> bool:
    words = text.lower().replace(b",", b" ").split()
    return len(words) == 4 and all(word in names for word, names in zip(words, _NAMES))


def _preamble(path: Path) -> tuple[int, list[int] | None, int, list[bytes]]:
    """Number of lines before the data, sensor sides or None, origin, and the first data lines."""
    sides, origin, before = None, 0, 0
    with path.open("rb") as file:
        for line in file:
            text = line.strip()
            if text.startswith(b"#"):
                found, moved = _SIZE.search(text), _ORIGIN.search(text)
                sides = [int(side) for side in found.groups()] if found else sides
                origin = int(moved[1]) if moved else origin
            elif header := _SIDES.match(text):
                sides = [int(side) for side in header.groups()]
            elif text and not _names_columns(text):
                return before, sides, origin, [line, *islice(file, 1000)]
            before += 1
    return before, sides, origin, []


def _unit_of(path: Path, sample: list[bytes]) -> TimeUnit:
    times = [line.split()[0] for line in sample if _is_row(line)]
    if not times or any(b"." in time or b"e" in time.lower() for time in times):
        return "s"
    raise InputError(
        f"{path}: times such as {times[0].decode(errors='replace')} have no decimal point, so they may not "
        "be seconds; pass unit= (--unit s, ms, us or ns)"
    )


def _parse(path: Path, lines: list[bytes], before: int) -> np.ndarray:
    rows = [line for line in lines if _is_row(line)]
    if not rows:
        return np.empty((0, 4))
    try:
        table = np.loadtxt(rows, np.float64, ndmin=2)
    except ValueError:
        table = np.empty((0, 0))
    if table.shape == (len(rows), 4):
        return table
    for number, line in enumerate(lines, before + 1):
        if _is_row(line) and len(_numbers(line)) != 4:
            shown = line.strip().decode(errors="replace")[:60]
            raise FormatError(path, f"is {shown!r}, expected four numbers t x y p", place=f"line {number}")
    raise FormatError(
        path, "cannot be read as four columns", place=f"lines {before + 1}..{before + len(lines)}"
    )


register(
    Format(
        name="text",
        summary="text rows t x y p, t in seconds with 9 decimals (ECD)",
        suffixes=(".txt",),
        sniff=sniff,
        open=TextRecording,
        create=TextWriter,
        unit="s",
        subpixel=True,
        origin=True,
        options=("header",),
    )
)
