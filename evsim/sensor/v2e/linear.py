"""The pass with each pixel's own crossing times: rows of a block to sorted keys, in one go through memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evsim.sensor.sorting import Bins, Columns, place_slots, scatter, tally, unpack
from evsim.sensor.v2e.records import Fields, Light, Pass, Planes, Scratch
from evsim.sensor.v2e.rows import LATER_LEAK, advance_row
from evsim.sensor.v2e.shots import BATCH, draw_shots, shot_candidates

LOW = np.uint32(0xFFFF)
LATER = np.uint32(0xFFFC)


@njit(nogil=True, cache=True, error_model="numpy")
def run_blocks(
    first: int,
    last: int,
    light: Light,
    planes: Planes,
    fields: Fields,
    now: Pass,
    scratch: Scratch,
    bins: Bins,
) -> None:
    """Work on blocks first..last - 1 until each is done or its keys are full."""
    for block in range(first, last):
        run_block(block, light, planes, fields, now, scratch, bins)


@njit(nogil=True, cache=True, error_model="numpy")
def place_and_count(slots: int, bins: Bins) -> int:
    """How many events the interval has; prepares `write_blocks`."""
    return place_slots(bins.keys.shape[0], slots, bins)


@njit(nogil=True, cache=True, error_model="numpy")
def write_all(height: int, slots: int, origin: int, bins: Bins, columns: Columns) -> None:
    """Scatter the events of all blocks and write their columns."""
    blocks = bins.keys.shape[0]
    for block in range(blocks):
        scatter(block, block * height // blocks, (block + 1) * height // blocks, slots, bins)
    unpack(0, slots, origin, bins, columns)


@njit(nogil=True, cache=True, error_model="numpy")
def run_block(
    block: int, light: Light, planes: Planes, fields: Fields, now: Pass, scratch: Scratch, bins: Bins
) -> None:
    """Rows of one block from its cursor on; stops before the keys of a row that have no room.

    A stopped block goes on where it was: the row's crossings are still in its scratch.
    """
    height = planes.base.shape[0]
    end = (block + 1) * height // bins.keys.shape[0]
    capacity = bins.keys.shape[1]
    y, used = bins.cursor[block], bins.filled[block]
    stopped = bins.wanted[block] > 0
    bins.wanted[block] = 0
    while y < end:
        if not stopped:
            advance_row(block, y, light, planes, fields, now, scratch)
        stopped = False
        candidates = shot_candidates(y, planes, fields, now)
        wanted = _sum(scratch.count[block]) + candidates
        if used + wanted > capacity:
            bins.wanted[block] = wanted
            break
        used = _list_row(block, y, candidates, light, planes, fields, now, scratch, bins.keys[block], used)
        bins.row_end[y] = used
        y += 1
    bins.cursor[block], bins.filled[block] = y, used
    if y == end:
        tally(block, now.slots, bins)


@njit(nogil=True, cache=True, error_model="numpy")
def _sum(count: NDArray[np.int32]) -> int:
    total = np.int64(0)
    for x in range(count.size):
        total += count[x]
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def _list_row(
    block: int,
    y: int,
    candidates: int,
    light: Light,
    planes: Planes,
    fields: Fields,
    now: Pass,
    scratch: Scratch,
    keys: NDArray[np.uint32],
    used: int,
) -> int:
    """Append the keys of the row's events; returns how many keys there are then."""
    columns = scratch.columns[block]
    fired = _fired(scratch.count[block], columns)
    if now.dead_time > 0.0:
        fired, used = _refuse(block, y, fired, planes, now, scratch, keys, used)
    elif now.leaks:
        leak_sum = planes.leak_sum[y]
        for i in range(fired):
            leak_sum[columns[i]] = 0
    for candidate in range(0, candidates, BATCH):
        made = draw_shots(block, y, candidate, candidates, light, planes, fields, now, scratch)
        low, slot = scratch.shot_low[block], scratch.shot_slot[block]
        for i in range(made):
            keys[used + i] = np.uint32(slot[i] << 16) | low[i]
        used += made
    return _expand(block, fired, now, scratch, keys, used)


@njit(nogil=True, cache=True, error_model="numpy")
def _fired(count: NDArray[np.int32], columns: NDArray[np.uint32]) -> int:
    """List the columns with events; returns how many there are."""
    found = np.uint64(0)
    for x in range(count.size):
        columns[found] = np.uint32(x)
        found += np.uint64(count[x] > 0)
    return np.int64(found)


@njit(nogil=True, cache=True, error_model="numpy")
def slot_of(position: Any, slots: int) -> int:
    """The slot of a crossing, clamped to the interval."""
    return np.int64(min(max(np.float64(position), 0.0), np.float64(slots - 1)))


@njit(nogil=True, cache=True, error_model="numpy")
def _expand(block: int, fired: int, now: Pass, scratch: Scratch, keys: NDArray[np.uint32], used: int) -> int:
    """Append first events of all columns that fired, then second events of those with two, and so on."""
    columns, deeper = scratch.columns[block][:fired], scratch.deeper[block]
    first, spacing = scratch.first[block], scratch.spacing[block]
    low, count = scratch.low[block], scratch.count[block]
    zero, last = first.dtype.type(0), first.dtype.type(now.slots - 1)
    out = keys[used : used + fired]
    for i in range(out.size):
        x = columns[i]
        position = min(max(first[x], zero), last)
        out[i] = np.uint32(np.uint32(np.int32(position)) << np.uint32(16)) | np.uint32(low[x] & LOW)
    used += fired
    level = np.int32(1)
    while fired > 0:
        more = np.uint64(0)
        for i in range(columns.size):
            x = columns[i]
            deeper[more] = x
            more += np.uint64(count[x] > level)
        fired = np.int64(more)
        columns = deeper[:fired]
        out = keys[used : used + fired]
        height = first.dtype.type(level)
        for i in range(out.size):
            x = columns[i]
            position = min(max(first[x] + height * spacing[x], zero), last)
            label = np.uint32((low[x] & LATER_LEAK) >> np.uint32(30))
            out[i] = (
                np.uint32(np.uint32(np.int32(position)) << np.uint32(16)) | np.uint32(low[x] & LATER) | label
            )
        used += fired
        level += np.int32(1)
    return used


@njit(nogil=True, cache=True, error_model="numpy")
def _refuse(
    block: int,
    y: int,
    fired: int,
    planes: Planes,
    now: Pass,
    scratch: Scratch,
    keys: NDArray[np.uint32],
    used: int,
) -> tuple[int, int]:
    """Apply the dead time. Columns it leaves alone stay listed; the others get their keys here, one by one."""
    columns = scratch.columns[block]
    first, spacing = scratch.first[block], scratch.spacing[block]
    low, count = scratch.low[block], scratch.count[block]
    last_event, leak_sum = planes.last_event[y], planes.leak_sum[min(y, planes.leak_sum.shape[0] - 1)]
    kept = 0
    for i in range(fired):
        x = columns[i]
        n = count[x]
        begin = slot_of(first[x], now.slots)
        # Rounding to slots and clamping to the interval take less than two slots from a spacing.
        clear = n == 1 or (spacing[x] >= now.dead_time + 2 and first[x] >= 0)
        if clear and now.start + begin - last_event[x] > now.dead_time:
            last_event[x] = now.start + slot_of(first[x] + (n - 1) * spacing[x], now.slots)
            leak_sum[x] = 0
            columns[kept] = x
            kept += 1
            continue
        accepted = 0
        for q in range(n):
            slot = slot_of(first[x] + q * spacing[x], now.slots)
            if now.start + slot - last_event[x] > now.dead_time:
                last_event[x] = now.start + slot
                keys[used + accepted] = np.uint32(slot << 16) | event_low(low[x], accepted)
                accepted += 1
        used += accepted
        if accepted:
            leak_sum[x] = 0
        give_back(y, x, n - accepted, low[x], planes)
    return kept, used


@njit(nogil=True, cache=True, error_model="numpy")
def event_low(low: Any, accepted: int) -> Any:
    """x << 3 | p << 2 | label of the next event of a pixel that has `accepted` in this interval."""
    if accepted == 0:
        return np.uint32(low & ~LATER_LEAK)
    return np.uint32(np.uint32(low & ~(LATER_LEAK | np.uint32(3))) | np.uint32((low & LATER_LEAK) >> np.uint32(30)))


@njit(nogil=True, cache=True, error_model="numpy")
def give_back(y: int, x: int, refused: int, low: Any, planes: Planes) -> None:
    """Take events that the dead time refused out of the base again: they are tried in the next interval."""
    if low & np.uint32(4):
        theta = planes.theta_on[min(y, planes.theta_on.shape[0] - 1), x]
        planes.base[y, x] -= np.float32(refused) * np.float32(theta)
    else:
        theta = planes.theta_off[min(y, planes.theta_off.shape[0] - 1), x]
        planes.base[y, x] += np.float32(refused) * np.float32(theta)
