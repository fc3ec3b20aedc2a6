"""Counts and voxel grids from the keys that the blocks of `pass_per_pixel_times` leave, unsorted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evsim.kernels.compiled import INLINE, LOOP
from evsim.sensor.pixels.v2e.row_arithmetic import ON
from evsim.sensor.sorting import Bins
from evsim.sensor.sums import Rule, Shares
from evsim.sensor.vector import select


@njit(**LOOP)
def add_blocks(
    height: int, width: int, rule: Rule, shares: Shares, bins: Bins, out: NDArray[Any], first: int, last: int
) -> None:
    """Add the events of blocks first..last - 1, whose rows are their own; out: flat."""
    blocks = bins.keys.shape[0]
    for block in range(first, last):
        done = 0
        for y in range(block * height // blocks, (block + 1) * height // blocks):
            row = bins.keys[block][done : bins.row_end[y]]
            done = bins.row_end[y]
            if rule.steps == 0.0 and shares.low_part[0] == 1:
                _count_row(row, y * width, rule, shares, out)
            else:
                _add_row(row, y * width, rule, shares, out)


@njit(**INLINE)
def _count_row(keys: NDArray[np.uint32], place: int, rule: Rule, shares: Shares, out: NDArray[Any]) -> None:
    """Count events that all belong wholly to one bin; `place`: element of a plane where the row begins."""
    one, minus = out.dtype.type(1), out.dtype.type(rule.sign)
    to_on, to_off = np.int64(rule.on + shares.low[0] + place), np.int64(rule.off + shares.low[0] + place)
    for i in range(keys.size):
        key = keys[i]
        on = (key & ON) > np.uint32(0)
        column = np.int64((key >> np.uint32(3)) & np.uint32(0x1FFF))
        out[np.uint64(select(on, to_on, to_off) + column)] += select(on, one, minus)


@njit(**INLINE)
def _add_row(keys: NDArray[np.uint32], place: int, rule: Rule, shares: Shares, out: NDArray[Any]) -> None:
    """Share events among two bins each; `place`: element of a plane where the row begins."""
    one, minus = out.dtype.type(1), out.dtype.type(rule.sign)
    to_on, to_off = np.int64(rule.on + place), np.int64(rule.off + place)
    for i in range(keys.size):
        key = keys[i]
        slot, on = np.uint64(key >> np.uint32(16)), (key & ON) > np.uint32(0)
        sign = select(on, one, minus)
        pixel = select(on, to_on, to_off) + np.int64((key >> np.uint32(3)) & np.uint32(0x1FFF))
        low, high = np.uint64(pixel + shares.low[slot]), np.uint64(pixel + shares.high[slot])
        out[low] += sign * shares.low_part[slot]
        out[high] += sign * shares.high_part[slot]
