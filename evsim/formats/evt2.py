"""EVT2: Prophesee's raw file of 32-bit words, times split between words."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from evsim.events import Events
from evsim.formats.catalogue import Format, register
from evsim.formats.npy import abandon_file
from evsim.formats.storage.prophesee import (
    EVT21,
    ORIGIN,
    TIME_BASE,
    head_encoding,
    header_size,
    read_header,
    require_encoding,
)
from evsim.formats.storage.words import Decoded, State, WordRecording, carried, unwrapped
from evsim.formats.storage.writer import EventWriter

OFF, ON, TIME_HIGH = 0, 1, 8
HIGH_PERIOD = 1 << 28
PERIOD_US = HIGH_PERIOD << 6
LONGEST_STEP = 1 << 26
"""A pause of more such steps of 64 us is bridged by words of time alone: restarts of the clock must show."""
NOT_TIMED = "events before the first word of time were left out"
RESTARTS = "times the file's clock started again; times run on"


def sniff(path: Path, head: bytes) -> bool:
    """True for a header that names EVT2, or EVT2.1, which opening refuses by name."""
    return head_encoding(head) in ("EVT2", *EVT21)


class Evt2Recording(WordRecording):
    """An EVT2 file; other words than events and times (triggers, ...) are passed over.

    Raises InputError when the size must be told, and for EVT2.1.
    """

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        header = read_header(path)
        require_encoding(path, header, "EVT2")
        self._base = header.time_base
        super().__init__(
            path,
            "evt2",
            header_size(path, header, size),
            start=header.end,
            word="<u4",
            initial=(-1,),
            t_origin=header.t_origin,
            attributes=header.fields,
        )

    def _decode(self, words: NDArray[Any], state: State) -> Decoded:
        kind = words >> 28
        is_high = kind == TIME_HIGH
        high, turns = unwrapped(words[is_high] & np.uint32(HIGH_PERIOD - 1), state[0], HIGH_PERIOD)
        run_on = np.zeros(len(words), np.int64)
        run_on[is_high] = high
        latest = carried(run_on, is_high, state[0])
        is_event = kind <= ON
        timed = is_event & (latest >= 0)
        found = words[timed]
        return Decoded(
            (latest[timed] << 6) + ((found >> 22) & 63).astype(np.int64) + self._base,
            ((found >> 11) & 2047).astype(np.uint16),
            (found & 2047).astype(np.uint16),
            kind[timed],
            (int(high[-1]) if len(high) else state[0],),
            {NOT_TIMED: int(np.count_nonzero(is_event)) - len(found), RESTARTS: turns},
        )


class Evt2Writer(EventWriter):
    """Writes EVT2; see `EventWriter`.

    The clock of 2^34 us starts again as often as needed; what the first event's time exceeds it by stands
    in the header (evsim_time_base_us), where other readers do not look.
    """

    largest_side = 2048
    signed_time = False

    def _open(self, temporary: Path) -> None:
        self._file: IO[bytes] = temporary.open("wb")
        self._high = -1
        self._base: int | None = None

    def _start(self, first: int) -> int:
        base = first - first % PERIOD_US
        fields = [f"{TIME_BASE} {base}"] * bool(base) + [f"{ORIGIN} {self.t_origin}"] * bool(self.t_origin)
        lines = [
            "evt 2.0",
            f"format EVT2;height={self.height};width={self.width}",
            f"geometry {self.width}x{self.height}",
            *fields,
            "end",
        ]
        self._file.write("".join(f"% {line}\n" for line in lines).encode("ascii"))
        return base

    def _write(self, events: Events) -> None:
        if self._base is None:
            self._base = self._start(int(events.t[0]))
        t = events.t - self._base
        high = t >> 6
        steps = np.diff(high, prepend=self._high)
        words = (
            (events.p.astype(np.uint32) << 28)
            | ((t & 63).astype(np.uint32) << 22)
            | (events.x.astype(np.uint32) << 11)
            | events.y.astype(np.uint32)
        )
        new = np.flatnonzero(steps)
        clock = (high[new] % HIGH_PERIOD).astype(np.uint32) | np.uint32(TIME_HIGH << 28)
        long = new[steps[new] > LONGEST_STEP] if self._high >= 0 else new[1:][steps[new[1:]] > LONGEST_STEP]
        places, inserted = new, clock
        if len(long):
            bridges = [
                (row, value)
                for row in long.tolist()
                for value in range(int(high[row] - steps[row]) + LONGEST_STEP, int(high[row]), LONGEST_STEP)
            ]
            rows = np.array([row for row, _ in bridges], np.int64)
            values = np.array([value % HIGH_PERIOD for _, value in bridges], np.int64).astype(np.uint32)
            places = np.concatenate([rows, new])
            inserted = np.concatenate([values | np.uint32(TIME_HIGH << 28), clock])
        self._file.write(np.insert(words, places, inserted).astype("<u4").tobytes())
        self._high = int(high[-1])

    def _finish(self) -> None:
        if self._base is None:
            self._start(0)
        self._file.close()

    def _abandon(self) -> None:
        abandon_file(self)


register(
    Format(
        name="evt2",
        summary="Prophesee EVT2 .raw: 32-bit words, times split between words",
        suffixes=(".raw",),
        sniff=sniff,
        open=Evt2Recording,
        create=Evt2Writer,
        origin=True,
    )
)
