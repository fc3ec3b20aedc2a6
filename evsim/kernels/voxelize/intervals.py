"""Which bins a time belongs to, and where the events of a bin begin: what cuts a sorted window."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from evsim.kernels.compiled import LOOP


@numba.njit(**LOOP)
def bin_of(time: Any, start: float, duration: float, rule: Any, bins: int) -> int:
    """floor(tau), brought to -2..bins so that all that is left out on one side is one run of events."""
    tau = rule[0] * (time - start) / duration + rule[1]
    if not tau >= -1.0:  # also for NaN
        return -2
    return bins if tau >= bins else int(np.floor(tau))


@numba.njit(**LOOP)
def top_bin(time: Any, start: float, duration: float, rule: Any, bins: int) -> int:
    """The last bin that an event at this time, or one before it, may add to."""
    b = bin_of(time, start, duration, rule, bins)
    if rule[2]:
        b = max(b, 0) + 1 if rule[3] else b + 1
    return max(min(b, bins - 1), 0 if rule[3] else -1)


@numba.njit(**LOOP)
def low_bin(time: Any, start: float, duration: float, rule: Any, bins: int) -> int:
    """The first bin that an event at this time, or one after it, may add to."""
    return max(min(bin_of(time, start, duration, rule, bins), bins - 1), 0)


@numba.njit(**LOOP)
def first_beyond(
    t: NDArray[Any],
    low: int,
    high: int,
    start: float,
    duration: float,
    rule: Any,
    bins: int,
    b: int,
    top: bool,
) -> int:
    """The first event of low..high whose last bin (`top`) or first bin lies beyond bin b."""
    while low < high:
        middle = (low + high) // 2
        if top:
            reached = top_bin(t[middle], start, duration, rule, bins)
        else:
            reached = low_bin(t[middle], start, duration, rule, bins)
        if reached > b:
            high = middle
        else:
            low = middle + 1
    return low


@numba.njit(**LOOP)
def next_border(
    t: NDArray[Any], low: int, high: int, start: float, duration: float, rule: Any, bins: int, b: int
) -> int:
    """The first event of low..high that lies beyond bin interval `b`."""
    while low < high:
        middle = (low + high) // 2
        if bin_of(t[middle], start, duration, rule, bins) > b:
            high = middle
        else:
            low = middle + 1
    return low
