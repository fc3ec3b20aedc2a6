"""Text, one event a line: ``t x y p`` with t in seconds, as the event-camera dataset has it; also gzipped."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats.catalogue import HEAD_BYTES, Format, register
from evsim.formats.storage.recording import BLOCK, Recording
from evsim.formats.storage.rled_layout import sensor_size
from evsim.formats.storage.sidecar import Arrays, kept_index
from evsim.formats.storage.units import (
    EXACT_SECONDS_US,
    TimeUnit,
    check_unit,
    epoch_origin,
    polarity_coding,
    to_microseconds,
    to_pixels,
    to_polarity,
)
from evsim.formats.storage.writer import EventWriter

HEADERS = ("comment", "size", "none")
GZIP_MAGIC = b"\x1f\x8b"
V2E_MARK = b"#!events.txt"
"""How v2e begins its text, which is a format of its own: it may have a fifth column."""
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
    head = unzipped(head)
    if not head or b"\0" in head or head.startswith(V2E_MARK):
        return False
    lines = head.splitlines()
    cut_off = len(head) >= HEAD_BYTES
    for line in lines[:-1] if cut_off else lines:
        text = line.strip()
        if not text or text.startswith(b"#") or _SIDES.match(text) or _names_columns(text):
            continue
        return len(_numbers(text)) == 4
    return b"evsim.events text" in lines[0] or (_SIDES.match(lines[-1]) is not None and not cut_off)


def unzipped(head: bytes) -> bytes:
    """The first bytes of a file as text, whether it is gzipped or not; nothing where that is damaged."""
    if not head.startswith(GZIP_MAGIC):
        return head
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, HEAD_BYTES)
    except zlib.error:
        return b""


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[IO[bytes]]:
    """The file's lines as bytes, gzipped or not. Raises FormatError where gzip finds damage."""
    with path.open("rb") as plain:
        packed = plain.read(2) == GZIP_MAGIC
        plain.seek(0)
        if not packed:
            yield plain
            return
        try:
            with gzip.GzipFile(fileobj=plain) as file:
                yield cast(IO[bytes], file)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise FormatError(path, f"damaged or cut short: {error}") from error


class TextRecording(Recording):
    """A text file of rows t x y p, streamed.

    Comment lines begin with #. The first other line may be "W H" or name the columns t x y p. Times with a
    decimal point are seconds; whole numbers are not guessed at. Raises FormatError naming the line that
    cannot be read, InputError when size or unit must be told.
    """

    name: ClassVar[str] = "text"
    widths: ClassVar[tuple[int, ...]] = (4,)

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        self._first_line, self._first_byte, sides, origin, sample = _preamble(path)
        told = check_unit(unit)
        if told is None:
            told = _unit_of(path, sample)
        rows = _parse(path, sample, self._first_line, self.widths)
        self._columns = rows.shape[1] or self.widths[0]
        self._shift = 0
        if origin is None:
            times = to_microseconds(np.ascontiguousarray(rows[:1, 0]), told, path, "the first event")[0]
            origin = self._shift = epoch_origin(int(times[0])) if len(times) else 0
        super().__init__(
            path,
            self.name,
            sensor_size(path, sides, order="wh", image_shape=None, given=size),
            t_origin=origin,
            unit=told,
            polarity=polarity_coding(rows[:, 3]),
            subpixel=not np.array_equal(rows[:, 1:3], np.rint(rows[:, 1:3])),
            has_labels=self._columns == 5,
        )
        self._index: Arrays | None = None

    def __len__(self) -> int:
        return self._known.events if self._known else int(self._indexed()["events"].sum())

    def between(self, t0: int, t1: int) -> Events:
        index = self._indexed()
        inside = np.flatnonzero((index["events"] > 0) & (index["last"] >= t0) & (index["first"] < t1))
        if not len(inside):
            return self.empty()
        counted = self.rounded_times, dict(self.repairs)
        parts = [self.empty()]
        for block in self._parsed(index, int(inside[0]), int(inside[-1]) + 1):
            parts.append(self._check(block, int(index["events"][: inside[0]].sum()), None).between(t0, t1))
        self.rounded_times, self.repairs = counted
        return Events.concatenate(parts)

    def _blocks(self) -> Iterator[Events]:
        start = {"bytes": np.array([self._first_byte]), "lines": np.array([self._first_line])}
        return self._parsed(start, 0, None)

    def _parsed(
        self, index: Mapping[str, NDArray[np.int64]], first: int, stop: int | None
    ) -> Iterator[Events]:
        """The events of blocks first..stop-1, to the end of the file without `stop`."""
        with open_text(self.path) as file:
            file.seek(int(index["bytes"][first]))
            line = int(index["lines"][first])
            for _ in itertools.count() if stop is None else range(first, stop):
                lines = list(islice(file, BLOCK))
                if not lines:
                    return
                yield self._events(lines, line)
                line += len(lines)

    def _events(self, lines: list[bytes], before: int) -> Events:
        rows = _parse(self.path, lines, before, (self._columns,))
        place = f"lines {before + 1}..{before + len(lines)}"
        t, x, y, p, *label = (np.ascontiguousarray(column) for column in rows.T)
        times, rounded = to_microseconds(t, self.unit, self.path, place)
        self.rounded_times += rounded
        return Events(
            times - self._shift,
            to_pixels(x, self.path, place),
            to_pixels(y, self.path, place),
            to_polarity(self._repaired(p), self.path, place),
            self.width,
            self.height,
            self.t_origin,
            self._labels(label[0], place) if label else None,
        )

    def _repaired(self, polarity: NDArray[np.float64]) -> NDArray[np.float64]:
        """The polarity column without what old writers of this format did to it."""
        return polarity

    def _labels(self, column: NDArray[np.float64], place: str) -> NDArray[np.uint8]:
        raise FormatError(self.path, "has five columns, expected four", place=place)

    def _indexed(self) -> Arrays:
        if self._index is None:
            counted = self.rounded_times, dict(self.repairs)
            self._index = kept_index(self.path, self.format, self._build_index)
            self.rounded_times, self.repairs = counted
        return self._index

    def _build_index(self) -> Arrays:
        """Where every block of lines begins, how many events it holds and their first and last time."""
        rows: list[tuple[int, ...]] = []
        place, line = self._first_byte, self._first_line
        with open_text(self.path) as file:
            file.seek(place)
            while lines := list(islice(file, BLOCK)):
                t = self._events(lines, line).t
                rows.append((place, line, len(t), int(t[0]) if len(t) else 0, int(t[-1]) if len(t) else 0))
                place, line = place + sum(map(len, lines)), line + len(lines)
        table = np.array(rows, np.int64).reshape(-1, 5)
        return dict(zip(("bytes", "lines", "events", "first", "last"), table.T))


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
        self._plain: IO[bytes] | None = None

    def _open(self, temporary: Path) -> None:
        if self.path.name.lower().endswith(".gz"):
            # Without a name and a time in its header, so that the same input gives the same bytes.
            self._plain = temporary.open("wb")
            packed = gzip.GzipFile("", "wb", 6, self._plain, mtime=0)
            self._file = io.TextIOWrapper(packed, encoding="ascii", newline="\n")
        else:
            self._file = temporary.open("w", encoding="ascii", newline="\n")
        self._write_header(self._file)

    def _write_header(self, file: IO[str]) -> None:
        if self._header == "comment":
            file.write(
                f"# evsim.events text: width={self.width} height={self.height} t_origin={self.t_origin}; "
                "columns: t [s] x y p\n"
            )
        elif self._header == "size":
            file.write(f"{self.width} {self.height}\n")

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
        for file in (self._file, self._plain):
            if file is not None:
                file.close()

    def _abandon(self) -> None:
        for file in (self._file, self._plain):
            if file is not None:
                with contextlib.suppress(OSError, ValueError):
                    file.close()
        self._file = self._plain = None


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


def _preamble(path: Path) -> tuple[int, int, list[int] | None, int | None, list[bytes]]:
    """Lines and bytes before the data, sensor sides and origin or None, and the first data lines."""
    sides, origin, before, place = None, None, 0, 0
    with open_text(path) as file:
        for line in file:
            text = line.strip()
            if text.startswith(b"#"):
                found, moved = _SIZE.search(text), _ORIGIN.search(text)
                sides = [int(side) for side in found.groups()] if found else sides
                origin = int(moved[1]) if moved else origin
            elif header := _SIDES.match(text):
                sides = [int(side) for side in header.groups()]
            elif text and not _names_columns(text):
                return before, place, sides, origin, [line, *islice(file, 1000)]
            before += 1
            place += len(line)
    return before, place, sides, origin, []


def _unit_of(path: Path, sample: list[bytes]) -> TimeUnit:
    times = [line.split()[0] for line in sample if _is_row(line)]
    if not times or any(b"." in time or b"e" in time.lower() for time in times):
        return "s"
    raise InputError(
        f"{path}: times such as {times[0].decode(errors='replace')} have no decimal point, so they may not "
        "be seconds; pass unit= (--unit s, ms, us or ns)"
    )


def _parse(path: Path, lines: list[bytes], before: int, widths: tuple[int, ...]) -> NDArray[np.float64]:
    rows = [line for line in lines if _is_row(line)]
    if not rows:
        return np.empty((0, widths[0]))
    try:
        table = np.loadtxt(rows, np.float64, ndmin=2)
    except ValueError:
        table = np.empty((0, 0))
    if table.shape[0] == len(rows) and table.shape[1] in widths:
        return table
    for number, line in enumerate(lines, before + 1):
        if _is_row(line) and len(_numbers(line)) not in widths:
            shown = line.strip().decode(errors="replace")[:60]
            raise FormatError(path, f"is {shown!r}, expected four numbers t x y p", place=f"line {number}")
    raise FormatError(
        path, "cannot be read as four columns", place=f"lines {before + 1}..{before + len(lines)}"
    )


register(
    Format(
        name="text",
        summary="text rows t x y p, t in seconds with 9 decimals (ECD)",
        suffixes=(".txt", ".txt.gz"),
        sniff=sniff,
        open=TextRecording,
        create=TextWriter,
        unit="s",
        subpixel=True,
        origin=True,
        options=("header",),
    )
)
