"""Raw camera files: a header and then words of a few bytes, each decoded with what the words before it said.

Such a file has no index of its own. One pass works out what the decoder must know at the start of every
block, and the times in it; from then on a window is read without what lies before it.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats.storage.recording import Recording
from evsim.formats.storage.sidecar import Arrays, kept_index
from evsim.formats.storage.units import TimeUnit, to_pixels

WORDS = 1 << 17
"""Words decoded at a time, and between two entries of the index."""

State = tuple[int, ...]


class Decoded(NamedTuple):
    """Events of one block of words.

    t: int64 microseconds; x, y, p, label: integers; state: what the next block must know; dropped: what was
    left out or put right, counted by the end of a sentence that begins with the count.
    """

    t: NDArray[np.int64]
    x: NDArray[Any]
    y: NDArray[Any]
    p: NDArray[Any]
    state: State
    dropped: Mapping[str, int] = {}
    label: NDArray[np.uint8] | None = None


class WordRecording(Recording):
    """A file of words from byte `start` on; subclasses decode. Raises FormatError for half a word."""

    def __init__(
        self,
        path: Path,
        format: str,
        size: tuple[int, int],
        *,
        start: int,
        word: str,
        initial: State,
        t_origin: int = 0,
        unit: TimeUnit = "us",
        has_labels: bool = False,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            path, format, size, t_origin=t_origin, unit=unit, has_labels=has_labels, attributes=attributes
        )
        self._start = start
        self._word = np.dtype(word)
        self._initial = initial
        held = path.stat().st_size - start
        self._count, rest = divmod(held, self._word.itemsize)
        if rest:
            raise FormatError(
                path,
                f"is cut short: {rest} bytes follow the last whole record of {self._word.itemsize}",
                place=f"byte {start + self._count * self._word.itemsize}",
            )
        self._index: Arrays | None = None

    @abstractmethod
    def _decode(self, words: NDArray[Any], state: State) -> Decoded:
        """The events in `words`, which follow what `state` describes."""

    def __len__(self) -> int:
        return self._known.events if self._known else int(self._indexed()["events"].sum())

    def between(self, t0: int, t1: int) -> Events:
        index = self._indexed()
        parts = [self.empty()]
        inside = (index["events"] > 0) & (index["last"] >= t0) & (index["first"] < t1)
        for block in np.flatnonzero(inside).tolist():
            decoded = self._decode(self._words(block), tuple(index["states"][block].tolist()))
            start = int(index["events"][:block].sum())
            parts.append(self._check(self._events(decoded, block), start, None).between(t0, t1))
        return Events.concatenate(parts)

    def _blocks(self) -> Iterator[Events]:
        state = self._initial
        for block in range(-(-self._count // WORDS)):
            decoded = self._decode(self._words(block), state)
            for what, count in decoded.dropped.items():
                self.repairs[what] = self.repairs.get(what, 0) + count
            state = decoded.state
            yield self._events(decoded, block)

    def _words(self, block: int) -> NDArray[Any]:
        first = block * WORDS
        count = min(WORDS, self._count - first)
        try:
            words = np.fromfile(
                self.path, self._word, count, offset=self._start + first * self._word.itemsize
            )
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror}") from error
        if len(words) != count:
            raise FormatError(self.path, "became shorter while it was read", place=f"word {first}")
        return words

    def _events(self, decoded: Decoded, block: int) -> Events:
        place = f"words {block * WORDS}..{min((block + 1) * WORDS, self._count) - 1}"
        return Events(
            decoded.t,
            to_pixels(decoded.x, self.path, place),
            to_pixels(decoded.y, self.path, place),
            decoded.p.astype(np.uint8),
            self.width,
            self.height,
            self.t_origin,
            decoded.label,
        )

    def _indexed(self) -> Arrays:
        if self._index is None:
            self._index = kept_index(self.path, self.format, self._build_index)
        return self._index

    def _build_index(self) -> Arrays:
        blocks = -(-self._count // WORDS)
        states = np.zeros((blocks, len(self._initial)), np.int64)
        events, first, last = (np.zeros(blocks, np.int64) for _ in range(3))
        state = self._initial
        for block in range(blocks):
            states[block] = state
            decoded = self._decode(self._words(block), state)
            state = decoded.state
            events[block] = len(decoded.t)
            if len(decoded.t):
                first[block], last[block] = decoded.t[0], decoded.t[-1]
        return {"states": states, "events": events, "first": first, "last": last}


def carried(values: NDArray[Any], where: NDArray[np.bool_], before: int) -> NDArray[np.int64]:
    """For every word the value at the latest place up to it where `where` holds, else `before`."""
    rows = np.where(where, np.arange(1, len(where) + 1), 0)
    latest = np.maximum.accumulate(rows)
    return np.concatenate([np.array([before], np.int64), values.astype(np.int64)])[latest]


def unwrapped(values: NDArray[Any], before: int, period: int) -> tuple[NDArray[np.int64], int]:
    """A counter that starts again after `period`, made to run on, and how often it started again.

    before: its last value, already made to run on (negative: none). A step back of more than half the
    period is a new start.
    """
    counter = values.astype(np.int64)
    if not len(counter):
        return counter, 0
    previous = counter[0] if before < 0 else before % period
    steps = np.diff(counter, prepend=previous)
    turns = steps < -(period // 2)
    turned = np.cumsum(turns)
    base = before - before % period if before >= 0 else 0
    return counter + base + period * turned, int(turns.sum())


def header_lines(path: Path, prefix: bytes, *, end: bytes | None = None) -> tuple[list[str], int]:
    """The leading lines that begin with `prefix`, up to and including `end`, and the byte after them.

    Raises FormatError where such a line does not end.
    """
    lines: list[str] = []
    position = 0
    with path.open("rb") as file:
        for number in itertools.count(1):
            if file.peek(1)[:1] != prefix[:1]:
                return lines, position
            line = file.readline(1 << 16)
            if not line.endswith(b"\n"):
                raise FormatError(path, "the header is cut short or damaged", place=f"line {number}")
            position += len(line)
            lines.append(line.decode("latin-1").strip())
            if end is not None and line.strip() == end:
                return lines, position
    raise AssertionError("unreachable")


def header_fields(lines: list[str], prefix: str) -> dict[str, str]:
    """Lines '<prefix> key value' as a dictionary, the key in lower case."""
    fields = {}
    for line in lines:
        key, _, value = line.removeprefix(prefix).strip().partition(" ")
        if key:
            fields[key.lower()] = value.strip()
    return fields
