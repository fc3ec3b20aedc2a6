"""One row of v2e pixels through one pass: log intensity, low-pass, leak, difference, number of crossings.

Each step is a short loop without branches over at most a dozen arrays, which the compiler turns into vector
code; its rows stay in the cache between the steps. The order of the arithmetic is v2e's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evsim.kernels.compiled import INLINE, SPREAD
from evsim.kernels.philox.cpu import LANES, eight_blocks, fill_row
from evsim.sensor.pixels.v2e.pass_records import (
    FLOAT_FAST,
    UINT8,
    UINT16,
    Fields,
    Light,
    Pass,
    Planes,
    Scratch,
)
from evsim.sensor.vector import (
    CODES,
    bit_count,
    can_look_up,
    float_of,
    look_up,
    natural_log,
    one_minus_exp,
    prefetch,
    select,
)

KNEE = 20.0
SLOPE = math.log(KNEE) / KNEE
FILTER_WORDS = np.uint32(0)
LINE = 16
"""Floats in a cache line."""
DITHER_MEAN = np.float32(8 * 16 + 7.5)
DITHER_SCALE = np.float32(1 / math.sqrt(4 * 16**2 + (16**2 - 1) / 12))
ON, LEAK, ALL_LEAK, LABEL = np.uint32(4), np.uint32(2), np.uint32(3), np.uint32(3)
"""Bits of a key. The first key of a pixel carries label 3 where its later events are leak, too."""


@njit(**INLINE)
def lin_log(dn: float) -> np.float32:
    """v2e's map of intensity: linear up to 20 DN, natural logarithm above; rounded to 1e-8, as float32."""
    value = dn * SLOPE if dn <= KNEE else math.log(dn)
    return np.float32(np.rint(value * 1e8) / 1e8)


@njit(**INLINE)
def relative_brightness(dn: float) -> float:
    """(DN + 20) / 275, which scales the corner frequency and the shot noise."""
    return (dn + 20.0) / 275.0


@njit(**SPREAD)
def advance_row(
    block: int,
    y: int,
    light: Light,
    planes: Planes,
    fields: Fields,
    now: Pass,
    scratch: Scratch,
) -> None:
    """Move the signals of row y to the end of the pass; leaves its crossings in the scratch of `block`.

    count: crossings. first, spacing: crossing q lies at first + q * spacing, in microseconds after the
    centre of slot 0, plus one half. key: slot << 16 | x << 3 | p << 2 | label of the first, see ALL_LEAK;
    without the slot where `now.slot_mask` is 0.
    """
    low_pass, base, before = planes.low_pass[y], planes.base[y], scratch.before[block]
    theta_on = planes.theta_on[min(y, planes.theta_on.shape[0] - 1)]
    theta_off = planes.theta_off[min(y, planes.theta_off.shape[0] - 1)]
    leak_rate = planes.leak_rate[min(y, planes.leak_rate.shape[0] - 1)]
    leak_sum = planes.leak_sum[min(y, planes.leak_sum.shape[0] - 1)]
    values, alpha, jitter = scratch.values[block], scratch.alpha[block], scratch.jitter[block]
    if now.filtered or now.leaks:
        load_filtered(light, y, values, alpha)
        load_random(block, y, planes, fields, now, scratch)
        words, level = scratch.words[block], bypass_level(fields, now)
        if now.leaks:
            _follow_leaking(
                values, alpha, words, level, low_pass, base, before,
                jitter, leak_rate, theta_on, leak_sum, now.seconds, now.jitter,
            )  # fmt: skip
        else:
            _follow_filtered(values, alpha, words, level, low_pass, base, before)
    else:
        load_plain(light, y, values)
        _follow(values, low_pass, base, before)
    count_crossings(
        low_pass,
        base,
        before,
        theta_on,
        theta_off,
        leak_sum,
        scratch.count[block],
        scratch.key[block],
        scratch.first[block],
        scratch.spacing[block],
        now,
    )
    if now.many_leaks:
        mark_later_leaks(block, leak_rate, theta_on, now, scratch)


@njit(**INLINE)
def load_plain(light: Light, y: int, values: NDArray[np.float32]) -> None:
    """Log intensity of row y of the frame."""
    if light.kind == UINT8:
        codes8, table = light.codes8[y], light.log_table
        if can_look_up() and codes8.size >= CODES:
            _look_up_row(codes8, light.log_bytes, values)
        else:
            for x in range(codes8.size):
                values[x] = table[codes8[x]]
    elif light.kind == UINT16:
        codes16, table = light.codes16[y], light.log_table
        for x in range(codes16.size):
            values[x] = table[codes16[x]]
    elif light.kind == FLOAT_FAST:
        row, scale = light.values[y], np.float32(light.dn)
        for x in range(row.size):
            values[x] = _fast_lin_log(row[x] * scale)
    else:
        row = light.values[y]
        for x in range(row.size):
            values[x] = lin_log(row[x] * light.dn)


@njit(**INLINE)
def _look_up_row(codes: NDArray[np.uint8], table: NDArray[np.uint8], out: NDArray[Any]) -> None:
    """`look_up` of a row of at least CODES columns."""
    last = codes.size - CODES
    for x in range(0, codes.size, CODES):
        # The last ones overlap those before: cheaper than finishing one by one.
        prefetch(codes, np.int64(x + 2 * codes.size))
        look_up(codes, np.int64(min(x, last)), table, out)


@njit(**INLINE)
def load_filtered(light: Light, y: int, values: NDArray[np.float32], alpha: NDArray[Any]) -> None:
    """Log intensity of row y of the frame, and its weight in the low-pass (1 without filter)."""
    if light.gain == 0.0:
        load_plain(light, y, values)
        for x in range(alpha.size):
            alpha[x] = alpha.dtype.type(1)
    elif light.kind == UINT8 and light.pair_table.size:
        codes8, pairs = light.codes8[y], light.pair_table
        if can_look_up() and codes8.size >= CODES:
            _look_up_row(codes8, light.log_bytes, values)
            _look_up_row(codes8, light.alpha_bytes, alpha)
        else:
            for x in range(codes8.size):
                entry = pairs[codes8[x]]
                values[x] = float_of(np.int32(entry))
                alpha[x] = float_of(np.int32(entry >> np.uint64(32)))
    elif light.kind == UINT16 and light.pair_table.size:
        codes16, pairs = light.codes16[y], light.pair_table
        for x in range(codes16.size):
            entry = pairs[codes16[x]]
            values[x] = float_of(np.int32(entry))
            alpha[x] = float_of(np.int32(entry >> np.uint64(32)))
    elif light.kind == FLOAT_FAST:
        load_plain(light, y, values)
        _fast_alpha(light, y, alpha)
    else:
        load_plain(light, y, values)
        _exact_alpha(light, y, alpha)


@njit(**INLINE)
def _fast_lin_log(dn: Any) -> Any:
    positive = select(dn > np.float32(KNEE), dn, np.float32(KNEE))
    return select(dn > np.float32(KNEE), natural_log(positive), dn * np.float32(SLOPE))


@njit(**INLINE)
def _fast_alpha(light: Light, y: int, alpha: NDArray[Any]) -> None:
    row = light.values[y]
    slope, rise = np.float32(light.dn * light.gain / 275.0), np.float32(20.0 * light.gain / 275.0)
    for x in range(row.size):
        e = row[x] * slope + rise
        e = select(e < np.float32(1), e, np.float32(1))
        alpha[x] = select(light.exponential, one_minus_exp(e), e)


@njit(**INLINE)
def _exact_alpha(light: Light, y: int, alpha: NDArray[Any]) -> None:
    for x in range(alpha.size):
        if light.kind == UINT8:
            alpha[x] = light.alpha_table[light.codes8[y, x]]
        elif light.kind == UINT16:
            alpha[x] = light.alpha_table[light.codes16[y, x]]
        else:
            e = min(light.largest, relative_brightness(light.values[y, x] * light.dn) * light.gain)
            alpha[x] = 1.0 - math.exp(-e) if light.exponential else e


@njit(**INLINE)
def load_random(block: int, y: int, planes: Planes, fields: Fields, now: Pass, scratch: Scratch) -> None:
    """Draw the random words and the jitter of the leak; given bypasses of the low-pass enter its weights."""
    alpha, jitter = scratch.alpha[block], scratch.jitter[block]
    if now.draws:
        words = scratch.words[block]
        _draw_words(y, planes, now, words)
        words = words[: alpha.size]
        if not fields.has_jitter:
            # Sum of 16 fair bits, smoothed by a uniform of 16 steps: normal but for a kurtosis of -0.12.
            for x in range(words.size):
                ones = np.int32(bit_count(words[x] & np.uint32(0xFFFF0000)))
                dither = np.int32((words[x] >> np.uint32(12)) & np.uint32(0xF))
                total = np.int32(np.int32(ones << np.int32(4)) | dither)
                jitter[x] = (np.float32(total) - DITHER_MEAN) * DITHER_SCALE
    if fields.has_bypass:
        explicit = fields.bypass[y]
        for x in range(explicit.size):
            if explicit[x]:
                alpha[x] = 1
    if fields.has_jitter:
        given = fields.jitter[y]
        for x in range(given.size):
            jitter[x] = given[x]


@njit(**INLINE)
def _draw_words(y: int, planes: Planes, now: Pass, words: NDArray[np.uint32]) -> None:
    """One random word per column, as `fill_row`; the planes of the row come into the cache meanwhile.

    The generator computes without touching memory, the steps after it wait for memory: together they take
    half a millisecond less for a million pixels.
    """
    quarter = words.size // 4
    if quarter < LANES:
        fill_row(now.key_low, now.key_high, np.uint32(y), now.index, FILTER_WORDS, words)
        return
    words0, words1 = words[:quarter], words[quarter : 2 * quarter]
    words2, words3 = words[2 * quarter : 3 * quarter], words[3 * quarter :]
    low_pass, base = planes.low_pass[y], planes.base[y]
    theta_on = planes.theta_on[min(y, planes.theta_on.shape[0] - 1)]
    theta_off = planes.theta_off[min(y, planes.theta_off.shape[0] - 1)]
    leak_rate = planes.leak_rate[min(y, planes.leak_rate.shape[0] - 1)]
    leak_sum = planes.leak_sum[min(y, planes.leak_sum.shape[0] - 1)]
    last_block, last_column = quarter - LANES, low_pass.size - 1
    for i in range(0, quarter, LANES):
        for line in range(2):
            x = np.int64(min(4 * i + line * LINE, last_column))
            prefetch(low_pass, x)
            prefetch(base, x)
            prefetch(theta_on, x)
            prefetch(theta_off, x)
            prefetch(leak_rate, x)
            prefetch(leak_sum, x)
        start = np.int64(min(i, last_block))
        eight_blocks(
            np.uint32(start),
            np.uint32(y),
            now.index,
            FILTER_WORDS,
            now.key_low,
            now.key_high,
            words0,
            words1,
            words2,
            words3,
            start,
        )


@njit(**INLINE)
def _follow(
    values: NDArray[np.float32], low_pass: NDArray[Any], base: NDArray[Any], before: NDArray[Any]
) -> None:
    for x in range(values.size):
        before[x] = low_pass[x] - base[x]
        low_pass[x] = values[x]


@njit(**INLINE)
def bypass_level(fields: Fields, now: Pass) -> Any:
    """Below how much of 4096 the low bits of a pixel's word let it bypass the low-pass."""
    return np.uint32(0) if fields.has_bypass else now.bypass_level


@njit(**INLINE)
def _follow_filtered(
    values: NDArray[np.float32],
    alpha: NDArray[Any],
    words: NDArray[np.uint32],
    level: Any,
    low_pass: NDArray[Any],
    base: NDArray[Any],
    before: NDArray[Any],
) -> None:
    for x in range(values.size):
        old = low_pass[x]
        before[x] = old - base[x]
        low_pass[x] = _filtered(old, values[x], alpha[x], words[x], level)


@njit(**INLINE)
def _filtered(old: Any, value: Any, alpha: Any, word: Any, level: Any) -> Any:
    """The low-pass after a value of weight `alpha`, or of weight 1 where the pixel bypasses it."""
    one = type(alpha)(1)
    weight = select(np.uint32(word & np.uint32(0xFFF)) < level, one, alpha)
    return (one - weight) * old + weight * value


@njit(**INLINE)
def _follow_leaking(
    values: NDArray[np.float32],
    alpha: NDArray[Any],
    words: NDArray[np.uint32],
    level: Any,
    low_pass: NDArray[Any],
    base: NDArray[Any],
    before: NDArray[Any],
    jitter: NDArray[np.float32],
    leak_rate: NDArray[np.float32],
    theta_on: NDArray[Any],
    leak_sum: NDArray[np.float32],
    seconds: Any,
    spread: Any,
) -> None:
    """`_follow_filtered` and `leak_away` in one loop."""
    for x in range(values.size):
        old, level_before = low_pass[x], base[x]
        before[x] = old - level_before
        low_pass[x] = _filtered(old, values[x], alpha[x], words[x], level)
        delta = _leak(leak_rate[x], jitter[x], theta_on[x], seconds, spread)
        base[x] = level_before - delta
        leak_sum[x] = leak_sum[x] + delta


@njit(**INLINE)
def _leak(leak_rate: Any, jitter: Any, theta_on: Any, seconds: Any, spread: Any) -> Any:
    """What the base of a pixel loses in an interval."""
    rate = leak_rate * (np.float32(1) - spread * jitter)
    return (seconds * rate) * np.float32(theta_on)


@njit(**INLINE)
def leak_away(
    jitter: NDArray[np.float32],
    leak_rate: NDArray[np.float32],
    theta_on: NDArray[Any],
    base: NDArray[Any],
    leak_sum: NDArray[np.float32],
    seconds: Any,
    spread: Any,
) -> None:
    """Lower the base of a row by its leak; `leak_sum` adds it up."""
    for x in range(jitter.size):
        delta = _leak(leak_rate[x], jitter[x], theta_on[x], seconds, spread)
        base[x] = base[x] - delta
        leak_sum[x] = leak_sum[x] + delta


@njit(**INLINE)
def count_crossings(
    low_pass: NDArray[Any],
    base: NDArray[Any],
    before: NDArray[Any],
    theta_on: NDArray[Any],
    theta_off: NDArray[Any],
    leak_sum: NDArray[np.float32],
    count: NDArray[np.int32],
    key: NDArray[np.uint32],
    first: NDArray[Any],
    spacing: NDArray[Any],
    now: Pass,
) -> None:
    """Crossings of a row whose difference was `before` and is low_pass - base; see `advance_row`."""
    keep, duration, offset, mask = now.keep, now.duration, now.offset, now.slot_mask
    zero = base.dtype.type(0)
    last_slot = base.dtype.type(now.slots - 1)
    for x in range(base.size):
        difference = low_pass[x] - base[x]
        on = difference > zero
        theta_up = theta_on[x]
        theta = select(on, theta_up, theta_off[x])
        size = abs(difference)
        n = np.int32(size / theta)
        step = base.dtype.type(np.float32(n) * np.float32(theta))
        base[x] = base[x] + select(on, step, -step) * keep
        old = select(on, before[x], -before[x])
        change = size - old
        # A signal that lies beyond its threshold already and does not move away fires at once.
        per_unit = select(change > zero, duration / change, zero)
        position = offset + (theta - old) * per_unit
        inside = select(position > zero, position, zero)
        inside = select(inside < last_slot, inside, last_slot)
        slot = np.uint32(np.uint32(np.int32(inside)) & mask)
        leak = select(leak_sum[x] + leak_sum[x] >= theta_up, LEAK, np.uint32(0))
        polarity = select(on, np.uint32(ON | leak), np.uint32(0))
        first[x] = position
        spacing[x] = theta * per_unit
        count[x] = n
        key[x] = (
            np.uint32(np.uint32(slot << np.uint32(16)) | np.uint32(np.uint32(x) << np.uint32(3))) | polarity
        )


@njit(**INLINE)
def mark_later_leaks(
    block: int, leak_rate: NDArray[np.float32], theta_on: NDArray[Any], now: Pass, scratch: Scratch
) -> None:
    """Events after a pixel's first are leak where leak makes at least half of the change of this interval."""
    jitter, key, spacing = scratch.jitter[block], scratch.key[block], scratch.spacing[block]
    for x in range(key.size):
        delta = now.seconds * leak_rate[x] * (np.float32(1) - now.jitter * jitter[x])
        if key[x] & LEAK and 2 * delta * spacing[x] >= now.duration:
            key[x] |= ALL_LEAK
