"""What the compiled passes of the v2e pixel exchange: light, planes, explicit fields, one pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

UINT8, UINT16, FLOAT_FAST, FLOAT_EXACT = 0, 1, 2, 3
"""How a frame becomes log intensity: by table, by float32 polynomial, by float64 functions."""


class Light(NamedTuple):
    """One frame and how to read it; the frames of the other kinds are empty.

    log_table: float32[codes]. alpha_table: float64[codes], weight of the new value in the low-pass.
    pair_table: uint64[codes], both as float32 in one word. log_bytes, alpha_bytes: the same for `look_up`,
    of 8-bit codes only. dn: code value times this is DN 0..255.
    gain: interval over the low-pass time constant at white, 0 without filter.
    largest: bound of e, the interval over the pixel's time constant. exponential: the weight is 1 - exp(-e)
    instead of e.
    """

    kind: int
    codes8: NDArray[np.uint8]
    codes16: NDArray[np.uint16]
    values: NDArray[np.float32]
    log_table: NDArray[np.float32]
    alpha_table: NDArray[np.float64]
    pair_table: NDArray[np.uint64]
    log_bytes: NDArray[np.uint8]
    alpha_bytes: NDArray[np.uint8]
    dn: float
    gain: float
    largest: float
    exponential: bool


class Planes(NamedTuple):
    """The state of the pixels, (H, W); planes equal for all rows have one row. P is float32 or float64.

    low_pass, base: P, the filtered log intensity and the level of the last event. theta_on, theta_off: P.
    leak_rate: float32, events per second. leak_sum: float32, leak since the last event, in log intensity.
    last_event: int32 microseconds (grid clock: float32 seconds), or one element without dead time.
    shot_bound: float64[H], the row's largest sum over polarities of nominal over actual threshold.
    """

    low_pass: NDArray[Any]
    base: NDArray[Any]
    theta_on: NDArray[Any]
    theta_off: NDArray[Any]
    leak_rate: NDArray[np.float32]
    leak_sum: NDArray[np.float32]
    last_event: NDArray[Any]
    shot_bound: NDArray[np.float64]


class Fields(NamedTuple):
    """Random fields passed in explicitly, (H, W); one without its flag is empty and drawn instead."""

    has_jitter: bool
    has_bypass: bool
    has_shot: bool
    jitter: NDArray[np.float32]
    bypass: NDArray[np.bool_]
    shot: NDArray[np.float32]


class Pass(NamedTuple):
    """The scalars of one pass.

    key_low, key_high, index: of the random generator. slots: whole microseconds of the interval.
    duration, offset: P, microseconds of the interval, and of its start before slot 0, plus one half.
    seconds: float32 of the interval. jitter: float32. bypass_level: 0..4096. filtered, leaks, draws: what
    the pixels do and whether that needs random words. many_leaks: leak may reach half a threshold.
    keep: P, 1 to add events to the base, 0 to leave that to the caller. dead_time: a pixel fires again when
    more whole microseconds than this have passed; -1 for no dead time. start: slot 0 relative to the origin
    of `Planes.last_event`. shot_mean: events of each polarity at DN -20. nominal_on, nominal_off: configured
    thresholds. slot_mask: 0xFFFF, or 0 for keys without slot.
    """

    key_low: np.uint32
    key_high: np.uint32
    index: np.uint32
    slots: int
    duration: Any
    offset: Any
    seconds: np.float32
    jitter: np.float32
    bypass_level: np.uint32
    filtered: bool
    leaks: bool
    draws: bool
    many_leaks: bool
    keep: Any
    dead_time: int
    start: int
    shot_mean: float
    nominal_on: float
    nominal_off: float
    slot_mask: np.uint32


class Scratch(NamedTuple):
    """Working rows of each thread or block, (blocks, W), small enough to stay in the cache; P as in `Planes`.

    key, count, first, spacing: see `row_arithmetic.advance_row`. column: 0, 1, 2 ... . deeper: columns that
    fired more than once. aside, held: crossings that the dead time may concern, and their columns. words:
    four quarters. shot_words: (blocks, 4, batch). shot_low, shot_slot: (blocks, batch).
    """

    values: NDArray[np.float32]
    alpha: NDArray[Any]
    jitter: NDArray[np.float32]
    before: NDArray[Any]
    count: NDArray[np.int32]
    key: NDArray[np.uint32]
    first: NDArray[Any]
    spacing: NDArray[Any]
    column: NDArray[np.uint32]
    aside: NDArray[np.int32]
    deeper: NDArray[np.uint32]
    held: NDArray[np.uint32]
    words: NDArray[np.uint32]
    shot_words: NDArray[np.uint32]
    shot_low: NDArray[np.uint32]
    shot_slot: NDArray[np.int64]
