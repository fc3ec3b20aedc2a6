"""The pass with each pixel's own crossing times: rows of a block to sorted keys, in one go through memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evsim.kernels.compiled import INLINE, LOOP, SPREAD
from evsim.kernels.threads.counters import add_to_counter, read_counter, take, take_piece, wait_until
from evsim.sensor.pixels.v2e.pass_records import Fields, Light, Pass, Planes, Scratch
from evsim.sensor.pixels.v2e.row_arithmetic import ALL_LEAK, LABEL, ON, advance_row
from evsim.sensor.pixels.v2e.shot_noise import BATCH, draw_shots, shot_candidates
from evsim.sensor.sorting import Bins, Columns, place_slots, scatter, tally, unpack
from evsim.sensor.vector import LANES, append_above, prefetch, select

PIXEL = np.uint32(0xFFFC)
"""Bits of column and polarity in a key."""
NEAR_BORDER = 8
"""A dead time below 1 / NEAR_BORDER of the interval concerns few events."""


ORDERED, FINISHED, PLACED, FIRST_SHARE = 0, 1, 2, 3
"""Counters: blocks whose events are in order; blocks that have their keys; PLACED is 1 when all places are
known and the columns are large enough, WRITTEN_ALONE when the events are few, too, more when a thread gave
up; from FIRST_SHARE on one for each stage and thread."""
WRITTEN_ALONE = 2
GIVEN_UP = 1000
FEW_EVENTS = 1 << 16
"""Fewer are brought into order by one thread: to hand them from core to core takes as long."""
STAGES = 3
RUN, SCATTER, UNPACK = 0, 1, 2

ROWS_APART = 2
"""Distance between the scratch rows of two threads: processors fetch ahead of a row, and lines that another
core is writing are slow to come by."""


def counters(threads: int) -> int:
    """How many counters the passes need: for every stage the shares of the threads."""
    return FIRST_SHARE + STAGES * threads


@njit(**LOOP)
def run_blocks(
    light: Light,
    planes: Planes,
    fields: Fields,
    now: Pass,
    scratch: Scratch,
    bins: Bins,
    counters: NDArray[np.int64],
    threads: int,
    thread: int,
) -> bool:
    """Rows of the blocks that nobody has begun, on one of several threads; True if it finished the last.

    A block stops before the keys of a row that have no room; `resume_blocks` goes on with it. The crossings
    of that row stay in the scratch of its thread, which therefore begins no other block.
    """
    blocks, first = bins.keys.shape[0], FIRST_SHARE + RUN * threads
    last = False
    block = take_piece(counters, first, thread, threads, blocks)
    while block >= 0:
        _run_block(block, ROWS_APART * thread, light, planes, fields, now, scratch, bins)
        if bins.wanted[block] > 0:
            bins.scratch[block] = ROWS_APART * thread
            add_to_counter(counters, PLACED, GIVEN_UP)
            break
        last = take(counters, FINISHED) == blocks - 1
        block = take_piece(counters, first, thread, threads, blocks)
    return last


@njit(**LOOP)
def run_and_write(
    light: Light,
    planes: Planes,
    fields: Fields,
    now: Pass,
    scratch: Scratch,
    bins: Bins,
    origin: int,
    columns: Columns,
    counters: NDArray[np.int64],
    threads: int,
    thread: int,
) -> None:
    """The whole pass on one of several threads: as `run_blocks`, `sorting.place_slots` and `write_events`.

    Where keys or columns find no room it ends before `write_events`, with GIVEN_UP or more in PLACED.
    """
    last = run_blocks(light, planes, fields, now, scratch, bins, counters, threads, thread)
    if last:
        events = place_slots(bins.keys.shape[0], now.slots, bins)
        placed = WRITTEN_ALONE if events < FEW_EVENTS else 1
        add_to_counter(counters, PLACED, placed if events <= columns.t.size else GIVEN_UP)
    wait_until(counters, PLACED, 1)
    placed = read_counter(counters, PLACED)
    if placed == 1 or (last and placed == WRITTEN_ALONE):
        write_events(planes.base.shape[0], now.slots, origin, bins, columns, counters, threads, thread)


@njit(**LOOP)
def resume_blocks(
    light: Light, planes: Planes, fields: Fields, now: Pass, scratch: Scratch, bins: Bins
) -> None:
    """Go on with the blocks that stopped, on one thread; they may stop again."""
    for block in range(bins.keys.shape[0]):
        if bins.wanted[block] > 0:
            _run_block(block, bins.scratch[block], light, planes, fields, now, scratch, bins)


@njit(**LOOP)
def write_events(
    height: int,
    slots: int,
    origin: int,
    bins: Bins,
    columns: Columns,
    counters: NDArray[np.int64],
    threads: int,
    thread: int,
) -> None:
    """Bring the events of all blocks into order and write their columns, on one of several threads."""
    blocks, first = bins.keys.shape[0], FIRST_SHARE + SCATTER * threads
    block = take_piece(counters, first, thread, threads, blocks)
    while block >= 0:
        scatter(block, block * height // blocks, (block + 1) * height // blocks, slots, bins)
        take(counters, ORDERED)
        block = take_piece(counters, first, thread, threads, blocks)
    wait_until(counters, ORDERED, blocks)
    first = FIRST_SHARE + UNPACK * threads
    part = take_piece(counters, first, thread, threads, blocks)
    while part >= 0:
        unpack(part * slots // blocks, (part + 1) * slots // blocks, origin, bins, columns)
        part = take_piece(counters, first, thread, threads, blocks)


@njit(**SPREAD)
def _run_block(
    block: int,
    own: int,
    light: Light,
    planes: Planes,
    fields: Fields,
    now: Pass,
    scratch: Scratch,
    bins: Bins,
) -> None:
    height = planes.base.shape[0]
    end = (block + 1) * height // bins.keys.shape[0]
    capacity = bins.keys.shape[1]
    y, used = bins.cursor[block], bins.filled[block]
    stopped = bins.wanted[block] > 0
    bins.wanted[block] = 0
    while y < end:
        if not stopped:
            advance_row(own, y, light, planes, fields, now, scratch)
        stopped = False
        candidates = shot_candidates(y, planes, fields, now)
        wanted = _sum(scratch.count[own]) + candidates
        if used + wanted + LANES > capacity:
            bins.wanted[block] = wanted
            break
        used = _list_row(own, y, candidates, light, planes, fields, now, scratch, bins.keys[block], used)
        bins.row_end[y] = used
        y += 1
    bins.cursor[block], bins.filled[block] = y, used
    if y == end:
        tally(block, now.slots, bins)


@njit(**INLINE)
def _sum(count: NDArray[np.int32]) -> int:
    total = np.int64(0)
    for x in range(count.size):
        total += count[x]
    return total


@njit(**SPREAD)
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
    held = 0
    if now.dead_time >= 0:
        held = _set_aside(block, y, planes, now, scratch)
    if now.leaks:
        _forget_leak(scratch.count[block], planes.leak_sum[y])
    used = _expand(block, now, scratch, keys, used)
    if held:
        used = _list_aside(block, y, scratch.held[block][:held], planes, now, scratch, keys, used)
    for candidate in range(0, candidates, BATCH):
        made = draw_shots(block, y, candidate, candidates, light, planes, fields, now, scratch)
        low, slot = scratch.shot_low[block], scratch.shot_slot[block]
        for i in range(made):
            keys[used + i] = np.uint32(slot[i] << 16) | low[i]
        used += made
    return used


@njit(**INLINE)
def slot_of(position: Any, slots: int) -> int:
    """The slot of a crossing, clamped to the interval."""
    return np.int64(min(max(np.float64(position), 0.0), np.float64(slots - 1)))


@njit(**INLINE)
def _expand(block: int, now: Pass, scratch: Scratch, keys: NDArray[np.uint32], used: int) -> int:
    """Append first events of all columns that fired, then second events of those with two, and so on."""
    count, key, deeper = scratch.count[block], scratch.key[block], scratch.deeper[block]
    first, spacing = scratch.first[block], scratch.spacing[block]
    zero, last = first.dtype.type(0), first.dtype.type(now.slots - 1)
    used = append_above(count, np.int32(0), key, keys, used, False)
    more = append_above(count, np.int32(1), scratch.column[block], deeper, 0, True)
    level = np.int32(1)
    while more > 0:
        out, columns = keys[used : used + more], deeper[:more]
        height = first.dtype.type(level)
        for i in range(out.size):
            x = columns[i]
            position = min(max(first[x] + height * spacing[x], zero), last)
            out[i] = np.uint32(np.uint32(np.int32(position)) << np.uint32(16)) | later_key(key[x], PIXEL)
        used += more
        level += np.int32(1)
        still = np.uint64(0)
        for i in range(columns.size):
            x = columns[i]
            deeper[still] = x
            still += np.uint64(count[x] > level)
        more = np.int64(still)
    return used


@njit(**INLINE)
def later_key(key: Any, pixel: Any) -> Any:
    """Key of a pixel's later event, without the slot, from that of its first; `pixel` masks what stays."""
    leak = np.uint32(key & LABEL) == ALL_LEAK
    return np.uint32(np.uint32(key & pixel) | select(leak, ALL_LEAK, np.uint32(0)))


@njit(**INLINE)
def _forget_leak(count: NDArray[np.int32], leak_sum: NDArray[np.float32]) -> None:
    # A product, because the compiler turns a choice into masked stores, which AVX2 processors do slowly.
    for x in range(count.size):
        leak_sum[x] = leak_sum[x] * select(count[x] > np.int32(0), np.float32(0), np.float32(1))


@njit(**INLINE)
def _set_aside(block: int, y: int, planes: Planes, now: Pass, scratch: Scratch) -> int:
    """Take the pixels that the dead time may concern out of the count; returns how many `held` lists.

    Their last events are wanted a little later, and come into the cache meanwhile.
    """
    if now.dead_time > now.slots // NEAR_BORDER:
        _set_aside_by_history(block, y, planes, now, scratch)
    else:
        _set_aside_at_borders(block, now, scratch)
    held, last_event = scratch.held[block], planes.last_event[y]
    found = append_above(scratch.aside[block], np.int32(0), scratch.column[block], held, 0, True)
    for i in range(found):
        prefetch(last_event, np.int64(held[i]))
    return found


@njit(**INLINE)
def _set_aside_at_borders(block: int, now: Pass, scratch: Scratch) -> None:
    """Set aside pixels with events close to each other or to a border of the interval.

    The events of all others lie further from their neighbours, known or to come, than the dead time, so
    that `Planes.last_event` need neither be read nor written for them.
    """
    count, key, aside = scratch.count[block], scratch.key[block], scratch.aside[block]
    first, spacing = scratch.first[block], scratch.spacing[block]
    zero = first.dtype.type(0)
    last_slot, apart = first.dtype.type(now.slots - 1), first.dtype.type(now.dead_time + 2)
    early, late = np.int32(now.dead_time), np.int32(now.slots - now.dead_time)
    for x in range(count.size):
        n = count[x]
        begin = np.int32(key[x] >> np.uint32(16))
        position = first[x] + first.dtype.type(np.int32(n - np.int32(1))) * spacing[x]
        position = select(position > zero, position, zero)
        end = np.int32(select(position < last_slot, position, last_slot))
        # Rounding to slots and clamping to the interval take less than two slots from a spacing.
        clear = (n == np.int32(1)) | ((spacing[x] >= apart) & (first[x] >= zero))
        clear = clear & (begin >= early) & (end < late)
        aside[x] = select(clear, np.int32(0), n)
        count[x] = select(clear, n, np.int32(0))


@njit(**INLINE)
def _set_aside_by_history(block: int, y: int, planes: Planes, now: Pass, scratch: Scratch) -> None:
    """Set aside pixels with events that follow another within the dead time.

    The last event of all others is recorded here.
    """
    count, key, aside = scratch.count[block], scratch.key[block], scratch.aside[block]
    first, spacing, last_event = scratch.first[block], scratch.spacing[block], planes.last_event[y]
    zero = first.dtype.type(0)
    last_slot, apart = first.dtype.type(now.slots - 1), first.dtype.type(now.dead_time + 2)
    start, dead_time = np.int32(now.start), np.int32(now.dead_time)
    for x in range(count.size):
        n = count[x]
        begin = np.int32(start + np.int32(key[x] >> np.uint32(16)))
        position = first[x] + first.dtype.type(np.int32(n - np.int32(1))) * spacing[x]
        position = select(position > zero, position, zero)
        end = np.int32(start + np.int32(select(position < last_slot, position, last_slot)))
        clear = (n == np.int32(1)) | ((spacing[x] >= apart) & (first[x] >= zero))
        clear = clear & (np.int32(begin - last_event[x]) > dead_time)
        last_event[x] = select(clear & (n > np.int32(0)), end, last_event[x])
        aside[x] = select(clear, np.int32(0), n)
        count[x] = select(clear, n, np.int32(0))


@njit(**LOOP)
def _list_aside(
    block: int,
    y: int,
    columns: NDArray[np.uint32],
    planes: Planes,
    now: Pass,
    scratch: Scratch,
    keys: NDArray[np.uint32],
    used: int,
) -> int:
    """Append, one by one, the events of the pixels in `columns` that the dead time lets through."""
    first, spacing = scratch.first[block], scratch.spacing[block]
    key, aside = scratch.key[block], scratch.aside[block]
    leak_sum = planes.leak_sum[min(y, planes.leak_sum.shape[0] - 1)]
    last_event = planes.last_event[y]
    for x in columns:
        accepted = 0
        last = np.int64(last_event[x])
        for q in range(aside[x]):
            slot = slot_of(first[x] + first.dtype.type(q) * spacing[x], now.slots)
            if now.start + slot - last > now.dead_time:
                last = now.start + slot
                pixel = np.uint32(key[x] & np.uint32(0xFFFF)) if accepted == 0 else later_key(key[x], PIXEL)
                keys[used + accepted] = np.uint32(slot << 16) | pixel
                accepted += 1
        used += accepted
        last_event[x] = last
        if accepted:
            leak_sum[x] = 0
        if accepted < aside[x]:
            give_back(y, x, aside[x] - accepted, key[x], planes)
    return used


@njit(**INLINE)
def give_back(y: int, x: int, refused: int, key: Any, planes: Planes) -> None:
    """Take events that the dead time refused out of the base again: they are tried in the next interval."""
    if key & ON:
        theta = planes.theta_on[min(y, planes.theta_on.shape[0] - 1), x]
        planes.base[y, x] -= np.float32(refused) * np.float32(theta)
    else:
        theta = planes.theta_off[min(y, planes.theta_off.shape[0] - 1), x]
        planes.base[y, x] += np.float32(refused) * np.float32(theta)
