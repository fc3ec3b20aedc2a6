"""The pass over whole planes: v2e's grid clock, and intervals or sensors too large for 16-bit keys.

Plain loops on one thread. Events come out unordered; the caller sorts them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evsim.kernels.compiled import INLINE, LOOP
from evsim.sensor.pixels.v2e.pass_per_pixel_times import give_back, later_key, slot_of
from evsim.sensor.pixels.v2e.pass_records import Fields, Light, Pass, Planes, Scratch
from evsim.sensor.pixels.v2e.row_arithmetic import advance_row, load_plain
from evsim.sensor.pixels.v2e.shot_noise import BATCH, draw_shots, shot_candidates

NEVER = -(2**30)
"""`Planes.last_event` of a pixel that has not fired."""
ALL_BUT_LABEL = np.uint32(0xFFFFFFFC)


class Crossings(NamedTuple):
    """What `row_arithmetic.advance_row` says of every pixel, (H, W)."""

    count: NDArray[np.int32]
    key: NDArray[np.uint32]
    first: NDArray[np.floating]
    spacing: NDArray[np.floating]


class Found(NamedTuple):
    """Events as they are found: t in microseconds, key = y << 32 | x << 3 | p << 2 | label."""

    t: NDArray[np.int64]
    key: NDArray[np.uint64]


@njit(**LOOP)
def log_plane(light: Light, out: NDArray[np.float32]) -> None:
    """Log intensity of the whole frame."""
    for y in range(out.shape[0]):
        load_plain(light, y, out[y])


@njit(**LOOP)
def advance_plane(
    light: Light, planes: Planes, fields: Fields, now: Pass, scratch: Scratch, crossings: Crossings
) -> tuple[int, int, int]:
    """Move all signals; returns the number of crossings, the most of one pixel, the shot candidates."""
    total, busiest, candidates = np.int64(0), np.int64(0), np.int64(0)
    for y in range(planes.base.shape[0]):
        advance_row(0, y, light, planes, fields, now, scratch)
        # Element by element: assigning slices would compile numpy's broadcasting with its error texts.
        for x in range(scratch.count.shape[1]):
            count = scratch.count[0, x]
            crossings.count[y, x] = count
            crossings.key[y, x] = scratch.key[0, x]
            crossings.first[y, x] = scratch.first[0, x]
            crossings.spacing[y, x] = scratch.spacing[0, x]
            total += count
            busiest = max(busiest, np.int64(count))
        candidates += shot_candidates(y, planes, fields, now)
    return total, busiest, candidates


@njit(**INLINE)
def _full_key(y: int, key: Any, accepted: int) -> Any:
    """Key with row of the next event of a pixel that has `accepted` in this interval."""
    low = key if accepted == 0 else later_key(key, ALL_BUT_LABEL)
    return (np.uint64(y) << np.uint64(32)) | np.uint64(low)


@njit(**LOOP)
def list_linear(crossings: Crossings, planes: Planes, now: Pass, origin: int, found: Found) -> int:
    """Events at the pixels' own crossing times; `origin` is the time of slot 0. Returns how many."""
    height, width = crossings.count.shape
    used = 0
    for y in range(height):
        leak_sum = planes.leak_sum[min(y, planes.leak_sum.shape[0] - 1)]
        for x in range(width):
            key = crossings.key[y, x]
            accepted = 0
            last = np.int64(planes.last_event[y, x]) if now.dead_time >= 0 else np.int64(0)
            for q in range(crossings.count[y, x]):
                slot = slot_of(
                    crossings.first[y, x] + crossings.first.dtype.type(q) * crossings.spacing[y, x], now.slots
                )
                if now.dead_time >= 0:
                    if now.start + slot - last <= now.dead_time:
                        continue
                    last = now.start + slot
                found.t[used] = origin + slot
                found.key[used] = _full_key(y, key, accepted)
                used += 1
                accepted += 1
            if accepted:
                leak_sum[x] = 0
                if now.dead_time >= 0:
                    planes.last_event[y, x] = max(last, NEVER)
            if accepted < crossings.count[y, x]:
                give_back(y, x, crossings.count[y, x] - accepted, key, planes)
    return used


@njit(**LOOP)
def list_grid(
    crossings: Crossings,
    planes: Planes,
    seconds: NDArray[np.float64],
    times: NDArray[np.int64],
    dead_time: float,
    found: Found,
) -> int:
    """Events at v2e's slots: the q-th of every pixel at times[q], at most one per slot. Returns how many.

    seconds: the same slots as they are compared with the dead time (seconds; 0 for no dead time).
    """
    height, width = crossings.count.shape
    used = 0
    for y in range(height):
        leak_sum = planes.leak_sum[min(y, planes.leak_sum.shape[0] - 1)]
        for x in range(width):
            count, key = crossings.count[y, x], crossings.key[y, x]
            accepted = 0
            for q in range(count):
                if dead_time > 0.0:
                    if not np.float32(seconds[q] - planes.last_event[y, x]) > np.float32(dead_time):
                        continue
                    planes.last_event[y, x] = seconds[q]
                found.t[used] = times[q]
                found.key[used] = _full_key(y, key, accepted)
                used += 1
                accepted += 1
            if accepted:
                leak_sum[x] = 0
                give_back(y, x, -accepted, key, planes)
    return used


@njit(**LOOP)
def list_shots(
    light: Light,
    planes: Planes,
    fields: Fields,
    now: Pass,
    scratch: Scratch,
    origin: int,
    fixed: int,
    found: Found,
    used: int,
) -> int:
    """Append shot noise, uniform in the interval or all at time `fixed` unless that is -1."""
    for y in range(planes.base.shape[0]):
        candidates = shot_candidates(y, planes, fields, now)
        for candidate in range(0, candidates, BATCH):
            made = draw_shots(0, y, candidate, candidates, light, planes, fields, now, scratch)
            for i in range(made):
                found.t[used] = origin + scratch.shot_slot[0, i] if fixed == -1 else fixed
                found.key[used] = (np.uint64(y) << np.uint64(32)) | np.uint64(scratch.shot_low[0, i])
                used += 1
    return used
