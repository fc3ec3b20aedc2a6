"""v2e's pixel with its low-pass solved in closed form, and events at the crossings of that solution.

During an interval of length T the light is that of the frame that ends it, so a pixel whose filter is at f
goes to L along L + (f - L) exp(-e u), u within 0..1, with e = (DN + 20) / 275 * 2 pi cutoff T. Beside it the
base leaks in a straight line. The difference is compared with the thresholds in continuous time: without leak
the crossing is a logarithm, with leak a root between the extrema, found to the last digit. Intervals of any
length need no steps, and equal light gives the same events however it is divided into frames.

A pixel in its dead time fires when that ends, if its signal is beyond the threshold then: the limit of v2e's
rule, which tries again in the next frame, for short frames.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from evsim.kernels.compiled import INLINE, LOOP
from evsim.sensor.fields import RandomFields
from evsim.sensor.listing import Listing, Sorter, put, slot_at
from evsim.sensor.per_pixel import ROOM_PER_PIXEL
from evsim.sensor.pixels.v2e.config import V2eFields
from evsim.sensor.pixels.v2e.pass_records import Fields, Light, Pass, Planes, Scratch
from evsim.sensor.pixels.v2e.pixels import V2ePixels
from evsim.sensor.pixels.v2e.row_arithmetic import load_filtered, load_random, relative_brightness
from evsim.sensor.pixels.v2e.shot_noise import BATCH, dn_at, draw_shots, shot_candidates
from evsim.sensor.sorting import Columns
from evsim.sensor.vector import select

ON_SIGNAL, OFF_SIGNAL, LEAK = 4, 0, 2
MOST_ROUNDS = 100
NOT_REACHED = 2.0
"""A moment after the end of every interval."""


class ExactPixels(V2ePixels):
    """v2e's pixels with `low_pass: exact`; single pixels that fire are computed in float64."""

    def __init__(
        self,
        config: V2eFields,
        size: tuple[int, int],
        key: int,
        given: RandomFields,
        threads: int,
        recycle: bool,
    ) -> None:
        super().__init__(config, size, key, given, threads, recycle)
        blocks, (width, height) = len(self._bins.keys), size
        room = int(width * height * ROOM_PER_PIXEL / blocks) + 1024
        self._sorter = Sorter(blocks, height, room, recycle)

    def _too_large(self, slots: int) -> bool:
        """Always: these pixels have a pass of their own."""
        return True

    def _describe(self, t0_ns: int, t1_ns: int, index: int, fields: Fields) -> Pass:
        now = super()._describe(t0_ns, t1_ns, index, fields)
        offset = (t0_ns - (t0_ns // 1000 + 1) * 1000) / 1000 + 0.5
        return now._replace(duration=(t1_ns - t0_ns) / 1000, offset=offset)

    def _long_pass(self, light: Light, fields: Fields, now: Pass, origin: int) -> Columns:
        blocks = len(self._bins.keys)
        self._sorter.clear()
        while True:
            arguments = (light, self._planes, fields, now, self._scratch, self._sorter.listing)
            self._bands.split(run_blocks, blocks, blocks, *arguments)
            if not self._sorter.listing.stopped.any():
                return self._sorter.sort(self._bands, origin, now.slots)
            self._sorter.grow()


@njit(**LOOP)
def run_blocks(
    light: Light,
    planes: Planes,
    fields: Fields,
    now: Pass,
    scratch: Scratch,
    listing: Listing,
    first: int,
    last: int,
) -> None:
    """Events of the rows of blocks first..last - 1; a block without room stops and can be called again."""
    height, width = planes.base.shape
    for block in range(first, last):
        y, x = listing.row[block], listing.column[block]
        end = (block + 1) * height // listing.used.size
        used = listing.used[block]
        listing.stopped[block] = False
        while y < end:
            if x < 0:
                _advance_row(block, y, light, planes, fields, now, scratch)
                x = 0
            while x < width:
                if scratch.aside[block, x]:
                    place = _run_pixel(block, used, y, x, light, planes, now, scratch, listing)
                    if place < 0:
                        break
                    used = place
                x += 1
            candidates = shot_candidates(y, planes, fields, now)
            if x < width or used + candidates > listing.slot.shape[1]:
                listing.stopped[block] = True
                break
            used = _list_shots(block, used, y, candidates, light, planes, fields, now, scratch, listing)
            x = -1
            y += 1
        listing.used[block], listing.row[block], listing.column[block] = used, y, x


@njit(**LOOP)
def _advance_row(
    block: int, y: int, light: Light, planes: Planes, fields: Fields, now: Pass, scratch: Scratch
) -> None:
    """Move the pixels that surely do not fire; mark the others in `aside`, their leak in `jitter`."""
    low_pass, base, closer = planes.low_pass[y], planes.base[y], scratch.aside[block]
    theta_on = planes.theta_on[min(y, planes.theta_on.shape[0] - 1)]
    theta_off = planes.theta_off[min(y, planes.theta_off.shape[0] - 1)]
    leak_rate = planes.leak_rate[min(y, planes.leak_rate.shape[0] - 1)]
    leak_sum = planes.leak_sum[min(y, planes.leak_sum.shape[0] - 1)]
    values, alpha, leak = scratch.values[block], scratch.alpha[block], scratch.jitter[block]
    load_filtered(light, y, values, alpha)
    load_random(block, y, planes, fields, now, scratch)
    for x in range(leak.size):
        rate = leak_rate[x] * (np.float32(1) - now.jitter * leak[x])
        leak[x] = (now.seconds * rate) * np.float32(theta_on[x]) if now.leaks else np.float32(0)
    for x in range(values.size):
        old, lost = low_pass[x], base.dtype.type(leak[x])
        after = old + alpha[x] * (values[x] - old)
        begin, end = old - base[x], after - base[x] + lost
        # Between its ends the difference strays by less than what leaks.
        high = select(begin > end, begin, end) + abs(lost)
        low = select(begin > end, end, begin) - abs(lost)
        look = (high >= theta_on[x]) | (low <= -theta_off[x])
        closer[x] = select(look, np.int32(1), np.int32(0))
        low_pass[x] = select(look, old, after)
        base[x] = select(look, base[x], base[x] - lost)
        if now.leaks:
            leak_sum[x] = select(look, leak_sum[x], leak_sum[x] + leak[x])


@njit(**INLINE)
def _run_pixel(
    block: int,
    used: int,
    y: int,
    x: int,
    light: Light,
    planes: Planes,
    now: Pass,
    scratch: Scratch,
    listing: Listing,
) -> int:
    """The next free place, or -1 without any change if the events of the pixel found no room."""
    e = relative_brightness(dn_at(light, y, x)) * light.gain
    target, f = np.float64(scratch.values[block, x]), np.float64(planes.low_pass[y, x])
    base, leak = np.float64(planes.base[y, x]), np.float64(scratch.jitter[block, x])
    theta_on = np.float64(planes.theta_on[min(y, planes.theta_on.shape[0] - 1), x])
    theta_off = np.float64(planes.theta_off[min(y, planes.theta_off.shape[0] - 1), x])
    leak_sum = planes.leak_sum[min(y, planes.leak_sum.shape[0] - 1)]
    last = np.int64(planes.last_event[y, x]) if now.dead_time >= 0 else np.int64(0)
    u, place, leaked = 0.0, used, np.float64(leak_sum[x])
    while True:
        ready = np.int64(0)
        start = u
        if now.dead_time >= 0:
            # The first slot in which the dead time is over.
            ready = last + now.dead_time + 1 - now.start
            start = max(u, (ready - now.offset) / now.duration)
        moment = NOT_REACHED
        if start <= 1.0:
            moment = _next_crossing(start, target - base, f - target, e, leak, theta_on, theta_off)
        if moment > 1.0:
            break
        leaked += leak * (moment - u)
        u = moment
        rises = (target - base) + (f - target) * math.exp(-e * u) + leak * u > 0.0
        kind = OFF_SIGNAL
        if rises:
            kind = ON_SIGNAL | (LEAK if 2.0 * leaked >= theta_on else 0)
        slot = max(slot_at(u * now.duration, now.offset, now.slots), min(ready, now.slots - 1))
        place = put(block, place, slot, y, x, kind, listing)
        base += theta_on if rises else -theta_off
        last, leaked = now.start + slot, 0.0
    if place > listing.slot.shape[1]:
        return -1
    planes.low_pass[y, x] = target + (f - target) * math.exp(-e)
    planes.base[y, x] = base - leak
    if now.leaks:
        leak_sum[x] = leaked + leak * (1.0 - u)
    if now.dead_time >= 0 and place > used:
        planes.last_event[y, x] = last
    return place


@njit(**INLINE)
def _next_crossing(
    start: float, a: float, b: float, e: float, leak: float, theta_on: float, theta_off: float
) -> float:
    """When a + b exp(-e u) + leak u is at theta_on or above, or at -theta_off or below, from `start` on.

    NOT_REACHED if that is not before 1. (With a the target less the base, b the filter less its target.)
    """
    level = a + b * math.exp(-e * start) + leak * start
    if level >= theta_on or level <= -theta_off:
        return start
    # The slope leak - b e exp(-e u) changes its sign at most once.
    turn = 1.0
    if leak != 0.0 and b * e / leak > 0.0:
        turn = min(max(math.log(b * e / leak) / e, start), 1.0)
    left = start
    for right in (turn, 1.0):
        if right > left:
            level = a + b * math.exp(-e * right) + leak * right
            if level >= theta_on:
                return _solve(left, right, a - theta_on, b, e, leak)
            if level <= -theta_off:
                return _solve(left, right, a + theta_off, b, e, leak)
            left = right
    return NOT_REACHED


@njit(**LOOP)
def _solve(left: float, right: float, a: float, b: float, e: float, leak: float) -> float:
    """The root of a + b exp(-e u) + leak u within left..right, between which its sign changes once."""
    if leak == 0.0:
        return min(max(math.log(b / -a) / e, left), right)
    rises = a + b * math.exp(-e * right) + leak * right > 0.0
    u = 0.5 * (left + right)
    for _ in range(MOST_ROUNDS):
        value = a + b * math.exp(-e * u) + leak * u
        if (value > 0.0) == rises:
            right = u
        else:
            left = u
        slope = leak - b * e * math.exp(-e * u)
        better = u - value / slope if slope != 0.0 else left
        # Newton's step, or half the way where it leads out of the bracket.
        if not left < better < right:
            better = 0.5 * (left + right)
        if abs(better - u) <= 1e-15 or right - left <= 1e-15:
            return better
        u = better
    return u


@njit(**LOOP)
def _list_shots(
    block: int,
    used: int,
    y: int,
    candidates: int,
    light: Light,
    planes: Planes,
    fields: Fields,
    now: Pass,
    scratch: Scratch,
    listing: Listing,
) -> int:
    """Shot noise of row y, for which there is room; returns the next free place."""
    for candidate in range(0, candidates, BATCH):
        made = draw_shots(block, y, candidate, candidates, light, planes, fields, now, scratch)
        for i in range(made):
            low = np.int64(scratch.shot_low[block, i])
            used = put(block, used, scratch.shot_slot[block, i], y, low >> 3, low & 7, listing)
    return used
