"""Shot noise of a row: a Poisson process whose rate falls with brightness, or v2e's rule for given uniforms.

Drawn: the number of candidates of a row is Poisson with the row's largest rate, each has a uniform column
and is kept with the ratio of the rates there. This is the exact process, without a draw per pixel.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from evsim.kernels.compiled import INLINE, SPREAD
from evsim.kernels.philox.cpu import fill_blocks, philox4x32
from evsim.sensor.pixels.v2e.pass_records import UINT8, UINT16, Fields, Light, Pass, Planes, Scratch
from evsim.sensor.pixels.v2e.row_arithmetic import relative_brightness

BATCH = 16
SHOT_WORDS, SHOT_COUNT_WORDS = np.uint32(1), np.uint32(2)
LARGEST_MEAN = 32.0


@njit(**SPREAD)
def shot_candidates(y: int, planes: Planes, fields: Fields, now: Pass) -> int:
    """How many candidates `draw_shots` has to look at in row y; none of them makes more than one event."""
    if now.shot_mean == 0.0:
        return 0
    width = planes.base.shape[1]
    if fields.has_shot:
        return width
    left = _mean_at(0.0, now) * planes.shot_bound[y] * width
    total, part = 0, 0
    while left > 0.0:
        # A Poisson number of any mean is the sum of numbers of small means, which inversion handles.
        mean = min(left, LARGEST_MEAN)
        a, b, _, _ = philox4x32(
            np.uint32(part), np.uint32(y), now.index, SHOT_COUNT_WORDS, now.key_low, now.key_high
        )
        total += _invert_poisson(_fraction(a, b), mean)
        left -= mean
        part += 1
    return total


@njit(**SPREAD)
def draw_shots(
    block: int,
    y: int,
    candidate: int,
    candidates: int,
    light: Light,
    planes: Planes,
    fields: Fields,
    now: Pass,
    scratch: Scratch,
) -> int:
    """Look at up to BATCH candidates of row y from `candidate`; returns how many made events.

    Leaves them in shot_low (x << 3 | p << 2 | 1) and shot_slot (uniform in the interval), and sets the base
    of their pixels to the low-pass: a shot event is a reset.
    """
    batch = min(BATCH, candidates - candidate)
    words = scratch.shot_words[block]
    fill_blocks(
        now.key_low,
        now.key_high,
        np.uint32(candidate),
        np.uint32(y),
        now.index,
        SHOT_WORDS,
        words[0],
        words[1],
        words[2],
        words[3],
    )
    low, slot = scratch.shot_low[block], scratch.shot_slot[block]
    theta_on = planes.theta_on[min(y, planes.theta_on.shape[0] - 1)]
    theta_off = planes.theta_off[min(y, planes.theta_off.shape[0] - 1)]
    leak_sum = planes.leak_sum[min(y, planes.leak_sum.shape[0] - 1)]
    width = planes.base.shape[1]
    bound = _mean_at(0.0, now) * planes.shot_bound[y]
    made = 0
    for i in range(batch):
        x = candidate + i if fields.has_shot else _scaled(words[0][i], width)
        mean = _mean_at(dn_at(light, y, x), now)
        likely_on = mean * now.nominal_on / theta_on[x]
        likely_off = mean * now.nominal_off / theta_off[x]
        if fields.has_shot:
            on = fields.shot[y, x] > 1.0 - likely_on
            off = fields.shot[y, x] < likely_off
        else:
            u = _fraction(words[1][i], words[2][i]) * bound
            on = u < likely_on
            off = u < likely_on + likely_off
        if on or off:
            low[made] = (x << 3) | (4 if on else 0) | 1
            slot[made] = _scaled(words[3][i], now.slots)
            planes.base[y, x] = planes.low_pass[y, x]
            leak_sum[x] = 0
            made += 1
    return made


@njit(**INLINE)
def _mean_at(dn: float, now: Pass) -> float:
    """Events of one polarity that a pixel with nominal thresholds makes in this pass."""
    return now.shot_mean * max(0.0, 1.0 - 0.75 * relative_brightness(dn))


@njit(**INLINE)
def dn_at(light: Light, y: int, x: int) -> float:
    """Brightness of a pixel, 0..255."""
    if light.kind == UINT8:
        return light.codes8[y, x] * light.dn
    if light.kind == UINT16:
        return light.codes16[y, x] * light.dn
    return light.values[y, x] * light.dn


@njit(**INLINE)
def _scaled(word: Any, size: int) -> int:
    """A whole number below `size` (up to 2^31) from 32 random bits."""
    return np.int64((np.uint64(word) * np.uint64(size)) >> np.uint64(32))


@njit(**INLINE)
def _fraction(high: Any, low: Any) -> float:
    """Uniform in the open interval (0, 1), 52 bits."""
    bits = (np.uint64(high) << np.uint64(20)) | (np.uint64(low) >> np.uint64(12))
    return (np.float64(bits) + 0.5) * 2.0**-52


@njit(**INLINE)
def _invert_poisson(u: float, mean: float) -> int:
    term = math.exp(-mean)
    total = term
    n = 0
    while u > total and n < 1000:
        n += 1
        term *= mean / n
        total += term
    return n
