"""EVT3, reading: Prophesee's raw file of 16-bit words that say only what changed since the word before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.formats.catalogue import Format, register
from evsim.formats.evt2 import NOT_TIMED, RESTARTS
from evsim.formats.storage.prophesee import head_encoding, header_size, read_header, require_encoding
from evsim.formats.storage.words import Decoded, State, WordRecording, carried, unwrapped

ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW, TIME_HIGH = 0, 2, 3, 4, 5, 6, 8


def sniff(path: Path, head: bytes) -> bool:
    """True for a header that names EVT3."""
    return head_encoding(head) == "EVT3"


class Evt3Recording(WordRecording):
    """An EVT3 file; its clock of 24 bits starts again every 16.8 s, and times here run on.

    Triggers and words of other kinds are passed over. Raises InputError when the size must be told.
    """

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        header = read_header(path)
        require_encoding(path, header, "EVT3")
        super().__init__(
            path,
            "evt3",
            header_size(path, header, size),
            start=header.end,
            word="<u2",
            # upper time (run on; -1: not yet known), lower time, y, next x of a vector, its polarity
            initial=(-1, 0, 0, 0, 0),
            attributes=header.fields,
        )

    def _decode(self, words: NDArray[Any], state: State) -> Decoded:
        kind, value = words >> 12, (words & 0xFFF).astype(np.int64)
        upper, lower, turns = _clock(kind, value, state)
        is_y = kind == ADDR_Y
        y = carried(value & 0x7FF, is_y, state[2])
        next_x, polarity = _vectors(kind, value, state)
        is_single, is_12, is_8 = kind == ADDR_X, kind == VECT_12, kind == VECT_8
        # One bit for every event: a single event is a vector of one at its own x.
        masks = np.select([is_single, is_12, is_8], [1, value, value & 0xFF], 0)
        emitting = np.flatnonzero(masks)
        bits = (masks[emitting, None] >> np.arange(12)) & 1
        which, offset = np.nonzero(bits)
        row = emitting[which]
        single = is_single[row]
        x = np.where(single, value[row] & 0x7FF, next_x[row] + offset)
        p = np.where(single, value[row] >> 11, polarity[row])
        timed = upper[row] >= 0
        t = (upper[row] << 12) + lower[row]
        last = len(words) - 1
        advance = 12 * int(is_12[last]) + 8 * int(is_8[last])
        end = (
            int(upper[last]),
            int(lower[last]),
            int(y[last]),
            int(next_x[last]) + advance,
            int(polarity[last]),
        )
        return Decoded(
            t[timed],
            x[timed],
            y[row][timed],
            p[timed],
            end,
            {NOT_TIMED: int(np.count_nonzero(~timed)), RESTARTS: turns},
        )


def _clock(
    kind: NDArray[Any], value: NDArray[np.int64], state: State
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Upper (running on) and lower 12 bits of the time at every word, and how often the clock restarted."""
    is_high, is_low = kind == TIME_HIGH, kind == TIME_LOW
    run_on, turns = unwrapped(value[is_high], state[0], 1 << 12)
    highs = np.zeros(len(kind), np.int64)
    highs[is_high] = run_on
    upper = carried(highs, is_high, state[0])
    # A new upper part is meant with a lower part of zero until that is said, else time would run ahead.
    before = np.concatenate([[state[0]], upper[:-1]])
    lower = carried(np.where(is_low, value, 0), is_low | (is_high & (upper != before)), state[1])
    return upper, lower, turns


def _vectors(
    kind: NDArray[Any], value: NDArray[np.int64], state: State
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The x at which a vector word's first bit lies, and its polarity, at every word."""
    is_base = kind == VECT_BASE_X
    steps = 12 * (kind == VECT_12).astype(np.int64) + 8 * (kind == VECT_8)
    travelled = np.cumsum(steps) - steps
    since = travelled - carried(travelled, is_base, 0)
    return carried(value & 0x7FF, is_base, state[3]) + since, carried(value >> 11, is_base, state[4])


register(
    Format(
        name="evt3",
        summary="Prophesee EVT3 .raw: 16-bit words, vectors of events (read only)",
        suffixes=(".raw",),
        sniff=sniff,
        open=Evt3Recording,
    )
)
