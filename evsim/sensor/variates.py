"""Random numbers of single pixels, and float32 functions that vectorise, for the pixel models.

A pixel's draws in one pass are Philox blocks with counter (column and draw number, row, pass, purpose).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from evsim.kernels.compiled import INLINE
from evsim.kernels.philox.cpu import philox4x32
from evsim.sensor.vector import float_of, natural_log, select

FRACTION = np.float32(2.0**-24)
TURN = np.float32(2.0**-32)
LOG2E = np.float32(1.4426950408889634)
LN2_HIGH, LN2_LOW = np.float32(0.693145751953125), np.float32(1.4286068203094172e-06)
LARGEST_EXPONENT = np.float32(86.0)


@njit(**INLINE)
def draw_block(x: Any, y: Any, number: int, index: Any, purpose: int, low: Any, high: Any) -> Any:
    """The four words of draw `number` of pixel (x, y) in pass `index`; `low` and `high` are the key."""
    column = np.uint32(np.uint32(x) | np.uint32((number & 0xFFFF) << 16))
    kind = np.uint32(np.uint32(purpose) | np.uint32((number >> 16) << 8))
    return philox4x32(column, np.uint32(y), np.uint32(index), kind, np.uint32(low), np.uint32(high))


@njit(**INLINE)
def fraction(word: Any) -> float:
    """Uniform in the open interval (0, 1), 32 bits."""
    return (np.float64(word) + 0.5) * 2.0**-32


@njit(**INLINE)
def normal_pair(first: Any, second: Any) -> tuple[float, float]:
    """Two independent standard normal numbers (Box and Muller 1958)."""
    length = math.sqrt(-2.0 * math.log(fraction(first)))
    turn = 2.0 * math.pi * fraction(second)
    return length * math.cos(turn), length * math.sin(turn)


@njit(**INLINE)
def squared_normal(first: Any, second: Any) -> Any:
    """The square of a standard normal number, float32, from two words (Box and Muller 1958)."""
    u = (np.float32(np.int32(first >> np.uint32(8))) + np.float32(0.5)) * FRACTION
    x = np.float32(math.pi) * (np.float32(np.int32(second)) * TURN)
    q = x * x
    tail = np.float32(1 / 362880) - q * np.float32(1 / 39916800)
    tail = np.float32(1 / 120) - q * (np.float32(1 / 5040) - q * tail)
    sine = x * (np.float32(1) - q * (np.float32(1 / 6) - q * tail))
    return np.float32(-2) * natural_log(u) * (sine * sine)


@njit(**INLINE)
def normal_pair_fast(first: Any, second: Any) -> tuple[Any, Any]:
    """As `normal_pair`, float32, up to 5.9 standard deviations, in operations that vectorise."""
    u = (np.float32(np.int32(first >> np.uint32(8))) + np.float32(0.5)) * FRACTION
    length = np.sqrt(np.float32(-2) * natural_log(u))
    # Of half the angle, within -pi/2..pi/2, by Taylor's series; then the double angle.
    x = np.float32(math.pi) * (np.float32(np.int32(second)) * TURN)
    q = x * x
    tail = np.float32(1 / 362880) - q * np.float32(1 / 39916800)
    tail = np.float32(1 / 120) - q * (np.float32(1 / 5040) - q * tail)
    sine = x * (np.float32(1) - q * (np.float32(1 / 6) - q * tail))
    tail = np.float32(1 / 40320) - q * (np.float32(1 / 3628800) - q * np.float32(1 / 479001600))
    tail = np.float32(1 / 24) - q * (np.float32(1 / 720) - q * tail)
    cosine = np.float32(1) - q * (np.float32(1 / 2) - q * tail)
    return length * (np.float32(1) - np.float32(2) * (sine * sine)), length * (
        np.float32(2) * (sine * cosine)
    )


@njit(**INLINE)
def exp_minus(value: Any) -> Any:
    """exp(-value) of a float32 >= 0, to 2 ulp; never below 4e-38."""
    x = select(value < LARGEST_EXPONENT, np.float32(value), LARGEST_EXPONENT)
    k = np.int32(x * LOG2E + np.float32(0.5))
    r = (x - np.float32(k) * LN2_HIGH) - np.float32(k) * LN2_LOW
    total = np.float32(1)
    for i in range(7, 0, -1):
        total = np.float32(1) - r * np.float32(1 / i) * total
    return total * float_of(np.int32((np.int32(127) - k) << np.int32(23)))
