"""The pass of `linear` without a list: the events of each row go straight to counts or a voxel grid.

A row's crossings become keys as there, but its keys are added up while they are in the cache, and the next
row writes over them: nothing is sorted, and no memory grows with the number of events.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evsim.kernels.compiled import INLINE, LOOP, SPREAD
from evsim.sensor.sorting import Bins
from evsim.sensor.sums import Rule, Shares
from evsim.sensor.v2e.linear import expand, list_apart, sum_of
from evsim.sensor.v2e.records import Fields, Light, Pass, Planes, Scratch
from evsim.sensor.v2e.rows import ON, advance_row
from evsim.sensor.v2e.shots import shot_candidates
from evsim.sensor.vector import LANES, select


@njit(**LOOP)
def sum_blocks(
    light: Light,
    planes: Planes,
    fields: Fields,
    now: Pass,
    scratch: Scratch,
    bins: Bins,
    rule: Rule,
    shares: Shares,
    totals: NDArray[np.int64],
    out: NDArray[Any],
    first: int,
    last: int,
) -> None:
    """Rows of blocks first..last - 1, each from its cursor on until all are done or a row has no room.

    out: flat. totals: int64[blocks], events so far. Called again with more room, a block goes on with the
    crossings of the row before which it stopped, which are still in its scratch.
    """
    for block in range(first, last):
        _sum_block(block, light, planes, fields, now, scratch, bins, rule, shares, totals, out)


@njit(**SPREAD)
def _sum_block(
    block: int,
    light: Light,
    planes: Planes,
    fields: Fields,
    now: Pass,
    scratch: Scratch,
    bins: Bins,
    rule: Rule,
    shares: Shares,
    totals: NDArray[np.int64],
    out: NDArray[Any],
) -> None:
    height, width = planes.base.shape
    end = (block + 1) * height // bins.keys.shape[0]
    keys = bins.keys[block]
    y, total = bins.cursor[block], totals[block]
    stopped = bins.wanted[block] > 0
    bins.wanted[block] = 0
    while y < end:
        if not stopped:
            advance_row(block, y, light, planes, fields, now, scratch)
        stopped = False
        candidates = shot_candidates(y, planes, fields, now)
        wanted = sum_of(scratch.count[block]) + candidates
        if wanted + LANES > keys.size:
            bins.wanted[block] = wanted
            break
        used = list_apart(block, y, candidates, light, planes, fields, now, scratch, keys, 0)
        place = y * width
        if rule.steps == 0.0 and shares.low_part[0] == 1:  # all wholly to one bin, whenever they are
            total += sum_of(scratch.count[block])
            on, off = rule.on + shares.low[0] + place, rule.off + shares.low[0] + place
            _count_row(scratch.count[block], scratch.key[block], rule.sign, width, on, off, out)
        else:
            used = expand(block, now, scratch, keys, used)
        total += used
        _add_keys(keys[:used], place, rule, shares, out)
        y += 1
    bins.cursor[block], totals[block] = y, total


@njit(**INLINE)
def _count_row(
    count: NDArray[np.int32],
    key: NDArray[np.uint32],
    sign: int,
    width: int,
    on: int,
    off: int,
    out: NDArray[Any],
) -> None:
    """Add the number of events of each pixel of a row."""
    none = np.int32(0)
    to_on, to_off = out[on : on + width], out[off : off + width]
    for x in range(to_on.size):
        to_on[x] += out.dtype.type(select((key[x] & ON) > np.uint32(0), count[x], none))
    for x in range(to_off.size):
        to_off[x] += out.dtype.type(sign) * out.dtype.type(
            select((key[x] & ON) > np.uint32(0), none, count[x])
        )


@njit(**INLINE)
def _add_keys(keys: NDArray[np.uint32], place: int, rule: Rule, shares: Shares, out: NDArray[Any]) -> None:
    """Add the events of a row, whose first pixel is element `place` of a plane."""
    one, minus = out.dtype.type(1), out.dtype.type(rule.sign)
    for i in range(keys.size):
        key = keys[i]
        slot, on = key >> np.uint32(16), (key & ON) > np.uint32(0)
        sign = select(on, one, minus)
        shift = select(on, np.int64(rule.on), np.int64(rule.off))
        pixel = place + np.int64((key >> np.uint32(3)) & np.uint32(0x1FFF)) + shift
        low, high = np.uint64(pixel + shares.low[slot]), np.uint64(pixel + shares.high[slot])
        out[low] += sign * shares.low_part[slot]
        out[high] += sign * shares.high_part[slot]
