"""`voxelize` compiled for the CPU.

Events come in order of time, so a window is cut once at the borders of its bins; between two borders only two
planes are written, and neither a floor nor a branch is needed. Blocks of events go through two loops: one
that is vectorised (pixel index, weights, checks) and one that adds to the planes.
"""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.kernels.voxelize.arguments import NO_DURATION, Placement, PlaneLayout, require_events

BLOCK = 2048
"""Events per block: index and two weights of each fit the first-level cache beside the planes' lines."""
THREAD_EVENTS = 50_000
"""Fewer events than this are not worth another thread."""

OUTSIDE, UNSORTED, NO_TIME = 1, 2, 3
"""What is wrong with a window, in place of the 0 of success."""

_FAST = {"contract", "nsz", "arcp"}


def voxelize(
    t: NDArray[Any],
    x: NDArray[Any],
    y: NDArray[Any],
    p: NDArray[Any],
    *,
    bins: int,
    ranges: NDArray[np.int64],
    placement: Placement,
    layout: PlaneLayout,
    out: NDArray[Any],
    accumulate: bool = False,
    threads: int = 1,
    **_: Any,
) -> None:
    """Write the events to `out` (planes, H, W) in place. Raises InputError for unsorted or outside events."""
    height, width = out.shape[1:]
    kind = out.dtype.type
    events = (t, x, y, p)
    shape = (bins, width, height, x.dtype.kind == "f")
    rule = (placement.steps, placement.offset, placement.interpolation == "linear", placement.edge == "clamp")
    flat = out.reshape(-1)
    starts, durations = (np.ascontiguousarray(column) for column in placement[:2])
    planes = (layout.window, layout.bin, layout.on, layout.off)
    constants = (kind(1), kind(1 if layout.on != layout.off else -1))
    count = int(ranges[-1, 1] - ranges[0, 0]) if len(ranges) else 0
    parts = min(threads, max(1, count // THREAD_EVENTS)) if threads > 1 else 1

    def run(first: int, last: int) -> int:
        return _windows(
            *events, ranges[first:last], starts[first:last], durations[first:last],
            rule, shape, planes, first, constants, accumulate, flat,
        )  # fmt: skip

    if parts == 1:
        status = run(0, len(ranges))
    elif len(ranges) > 1:
        status = _in_threads(run, _balanced(ranges, parts))
    else:
        status = _one_window(
            events, ranges, placement, rule, shape, planes, constants, accumulate, flat, parts
        )
    if status == NO_TIME:
        raise InputError(NO_DURATION)
    if status:
        require_events(t, x, y, ranges, (width, height))
        raise InputError("the times of the events are not numbers")


def _balanced(ranges: NDArray[np.int64], parts: int) -> list[tuple[int, int]]:
    """Groups of consecutive windows with about equal numbers of events."""
    total = np.cumsum(ranges[:, 1] - ranges[:, 0])
    borders = [0, *np.searchsorted(total, total[-1] * np.arange(1, parts) / parts).tolist(), len(ranges)]
    return [(a, b) for a, b in itertools.pairwise(borders) if a < b]


def _in_threads(run: Any, jobs: list[tuple[int, int]]) -> int:
    """The largest status of the jobs; the first runs in the calling thread."""
    with ThreadPoolExecutor(max(1, len(jobs) - 1)) as pool:
        others = [pool.submit(run, *job) for job in jobs[1:]]
        return max([run(*jobs[0]), *(other.result() for other in others)])


def _one_window(
    events: tuple[NDArray[Any], ...],
    ranges: NDArray[np.int64],
    placement: Placement,
    rule: tuple[float, float, bool, bool],
    shape: tuple[int, int, int, bool],
    planes: tuple[int, int, int, int],
    constants: tuple[Any, Any],
    accumulate: bool,
    flat: NDArray[Any],
    parts: int,
) -> int:
    """One window by several threads, each with its share of the events.

    Neighbouring shares write the same one or two bins. So that they never do so at once, a thread begins with
    the events at the end of its share, which touch bins of the next one, and comes to those at its beginning
    last, when the thread before has long done its part of these bins; it waits where that is not so.
    """
    t, bins = events[0], shape[0]
    time = (placement.start[0], placement.duration[0], rule, bins)
    begin, end = ranges[0].tolist()

    def border(k: int) -> int:
        """Where share k begins: at a border of bins if one is near, so that only one bin is shared."""
        equal = begin + (end - begin) * k // parts
        b = _low_bin(t[equal], *time)
        near = [_first_beyond(t, begin, end, *time, c, False) for c in (b - 1, b)]
        best = min(near, key=lambda i: abs(i - equal))
        return best if abs(best - equal) * parts * 8 <= end - begin else equal

    borders = [begin, *(border(k) for k in range(1, parts)), end]
    # Up to `tops[k]`, bins were begun by a thread before k, from `lows[k]` on they are also written by k + 1.
    tops = [-1, *(_top_bin(t[max(begin, i - 1)], *time) for i in borders[1:-1]), bins - 1]
    lows = [*(_low_bin(t[min(i, end - 1)], *time) for i in borders[1:-1]), bins]
    done = [threading.Event() for _ in range(parts)]

    def add(first: int, last: int, clear_from: int, clear_to: int) -> int:
        return _window(
            *events, first, last, time[0], time[1], rule, shape, planes, 0, constants,
            clear_from, max(clear_from, clear_to), accumulate, flat,
        )  # fmt: skip

    def run(k: int, _: int) -> int:
        own, first, last = tops[k] + 1, borders[k], borders[k + 1]
        early = _first_beyond(t, first, last, *time, tops[k], False) if k else first
        late = _first_beyond(t, first, last, *time, lows[k] - 1, True) if k < parts - 1 else last
        shared = max(own, lows[k] - 1)
        try:
            if any(t[i - 1] > t[i] for i in (first, early, late) if begin < i < last):
                return UNSORTED
            if late < early:
                done[k - 1].wait()
                return add(first, last, own, tops[k + 1] + 1)
            status = add(late, last, shared, tops[k + 1] + 1)
            done[k].set()
            status = max(status, add(early, late, own, shared))
            if k:
                done[k - 1].wait()
                status = max(status, add(first, early, own, own))
            return status
        finally:
            done[k].set()

    return _in_threads(run, [(k, 0) for k in range(parts)])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _bin(time: Any, start: float, duration: float, rule: Any, bins: int) -> int:
    """floor(tau), brought to -2..bins so that all that is left out on one side is one run of events."""
    tau = rule[0] * (time - start) / duration + rule[1]
    if not tau >= -1.0:  # also for NaN
        return -2
    return bins if tau >= bins else int(np.floor(tau))


@numba.njit(nogil=True, cache=True)
def _top_bin(time: Any, start: float, duration: float, rule: Any, bins: int) -> int:
    """The last bin that an event at this time, or one before it, may add to."""
    b = _bin(time, start, duration, rule, bins)
    if rule[2]:
        b = max(b, 0) + 1 if rule[3] else b + 1
    return max(min(b, bins - 1), 0 if rule[3] else -1)


@numba.njit(nogil=True, cache=True)
def _low_bin(time: Any, start: float, duration: float, rule: Any, bins: int) -> int:
    """The first bin that an event at this time, or one after it, may add to."""
    return max(min(_bin(time, start, duration, rule, bins), bins - 1), 0)


@numba.njit(nogil=True, cache=True)
def _first_beyond(
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
            reached = _top_bin(t[middle], start, duration, rule, bins)
        else:
            reached = _low_bin(t[middle], start, duration, rule, bins)
        if reached > b:
            high = middle
        else:
            low = middle + 1
    return low


@numba.njit(nogil=True, cache=True)
def _next_border(
    t: NDArray[Any], low: int, high: int, start: float, duration: float, rule: Any, bins: int, b: int
) -> int:
    """The first event of low..high that lies beyond bin interval `b`."""
    while low < high:
        middle = (low + high) // 2
        if _bin(t[middle], start, duration, rule, bins) > b:
            high = middle
        else:
            low = middle + 1
    return low


@numba.njit(nogil=True, cache=True)
def _windows(
    t: NDArray[Any],
    x: NDArray[Any],
    y: NDArray[Any],
    p: NDArray[Any],
    ranges: NDArray[np.int64],
    starts: NDArray[np.float64],
    durations: NDArray[np.float64],
    rule: Any,
    shape: Any,
    layout: Any,
    number: int,
    constants: Any,
    accumulate: bool,
    out: NDArray[Any],
) -> int:
    """Several windows one after the other; `number` is the index of the first in the output."""
    for k in range(ranges.shape[0]):
        status = _window(
            t, x, y, p, ranges[k, 0], ranges[k, 1], starts[k], durations[k], rule, shape, layout, number + k,
            constants, 0, shape[0], accumulate, out,
        )  # fmt: skip
        if status:
            return status
    return 0


@numba.njit(nogil=True, cache=True)
def _window(
    t: NDArray[Any],
    x: NDArray[Any],
    y: NDArray[Any],
    p: NDArray[Any],
    first: int,
    last: int,
    start: float,
    duration: float,
    rule: Any,
    shape: Any,
    layout: Any,
    number: int,
    constants: Any,
    clear_from: int,
    clear_to: int,
    accumulate: bool,
    out: NDArray[Any],
) -> int:
    """Add events first..last to their bins; returns 0 or what is wrong.

    Bins clear_from..clear_to are set to zero just before they are needed, so that they are still in cache.
    """
    if not duration > 0:
        return NO_TIME
    bins, width, height, subpixel = shape
    linear, clamp = rule[2], rule[3]
    plane = width * height
    base = (number * layout[0] + min(layout[2], layout[3])) * plane
    on_shift = np.uint32((layout[2] - min(layout[2], layout[3])) * plane)
    off_shift = np.uint32((layout[3] - min(layout[2], layout[3])) * plane)
    step = layout[1] * plane
    reach = plane + max(on_shift, off_shift)
    index = np.empty(BLOCK, np.uint32)
    left = np.empty(BLOCK, out.dtype)
    right = np.empty(BLOCK, out.dtype)
    cleared = bins if accumulate else clear_from
    line = np.empty(2, out.dtype)  # f at the first event of a run and its slope, in the precision of `out`
    position, before = first, -2
    while position < last:
        b = _bin(t[position], start, duration, rule, bins)
        stop = last if b >= bins else _next_border(t, position, last, start, duration, rule, bins, b)
        if b < before or _bin(t[stop - 1], start, duration, rule, bins) != b:
            return UNSORTED
        before = b
        # Bins a and c get (1 - f) and f, with f linear in time; equal bins get all of it.
        f0 = rule[0] * (t[position] - start) / duration + rule[1] - b
        slope = rule[0] / duration
        a, c = b, b + 1
        if not linear:
            a = c = min(max(b, 0), bins - 1) if clamp else b
        elif clamp and b < 0:
            a, c = 0, min(1, bins - 1)
            f0, slope = (1.0 - f0, -slope) if b == -1 else (1.0, 0.0)
        elif clamp and c > bins - 1:
            a = c = bins - 1
        line[0], line[1] = f0, slope
        while cleared < min(c + 1, clear_to):
            _clear(out, base + cleared * step, plane, on_shift, off_shift)
            cleared += 1
        in_a, in_c = 0 <= a < bins, 0 <= c < bins
        low, high = base + (a if in_a else 0) * step, base + (c if in_c else 0) * step
        target_a, target_c = out[low : low + reach], out[high : high + reach]
        for i in range(position, stop, BLOCK):
            j = min(i + BLOCK, stop)
            bad = _out_of_order(t[i:j], t[position], t[stop - 1])
            if bad:
                return UNSORTED
            bad = _outside(x[i:j], y[i:j], width, height, subpixel)
            if bad:
                return OUTSIDE
            _weigh(t[i:j], p[i:j], t[position], line[0], line[1], constants[0], constants[1], left, right)
            if a == c:
                if in_a:
                    for k in range(j - i):
                        left[k] += right[k]
                in_c = False
            _shift(p[i:j], on_shift, off_shift, index)
            if subpixel:
                _add_shared(x[i:j], y[i:j], index, left, right, width, height, in_a, in_c, target_a, target_c)
            else:
                _locate(x[i:j], y[i:j], np.uint32(width), index)
                if in_a and in_c:
                    _add_pair(index[: j - i], left, right, target_a, target_c)
                elif in_a:
                    _add(index[: j - i], left, target_a)
                elif in_c:
                    _add(index[: j - i], right, target_c)
        position = stop
    while cleared < clear_to:
        _clear(out, base + cleared * step, plane, on_shift, off_shift)
        cleared += 1
    return 0


@numba.njit(nogil=True, cache=True)
def _clear(out: NDArray[Any], begin: int, plane: int, on_shift: int, off_shift: int) -> None:
    out[begin + on_shift : begin + on_shift + plane] = 0
    if on_shift != off_shift:
        out[begin + off_shift : begin + off_shift + plane] = 0


@numba.njit(nogil=True, cache=True)
def _out_of_order(t: NDArray[Any], earliest: Any, latest: Any) -> bool:
    inside = 0
    for k in range(t.shape[0]):
        inside += (t[k] >= earliest) & (t[k] <= latest)
    return inside != t.shape[0]


@numba.njit(nogil=True, cache=True)
def _outside(x: NDArray[Any], y: NDArray[Any], width: int, height: int, subpixel: bool) -> bool:
    inside = 0
    if subpixel:
        for k in range(x.shape[0]):
            inside += (x[k] > -1) & (x[k] < width) & (y[k] > -1) & (y[k] < height)
    else:
        for k in range(x.shape[0]):
            inside += (x[k] >= 0) & (x[k] < width) & (y[k] >= 0) & (y[k] < height)
    return inside != x.shape[0]


@numba.njit(nogil=True, cache=True, fastmath=_FAST)
def _weigh(
    t: NDArray[Any],
    p: NDArray[Any],
    t0: Any,
    f0: Any,
    slope: Any,
    one: Any,
    off_sign: Any,
    left: NDArray[Any],
    right: NDArray[Any],
) -> None:
    """left, right: (1 - f) and f with the sign of the event."""
    for k in range(t.shape[0]):
        right[k] = t[k] - t0  # the conversion to the precision of `out`
        sign = one if p[k] > 0 else off_sign
        share = (right[k] * slope + f0) * sign
        left[k] = sign - share
        right[k] = share


@numba.njit(nogil=True, cache=True)
def _shift(p: NDArray[Any], on_shift: Any, off_shift: Any, index: NDArray[np.uint32]) -> None:
    for k in range(p.shape[0]):
        index[k] = on_shift if p[k] > 0 else off_shift


@numba.njit(nogil=True, cache=True)
def _locate(x: NDArray[Any], y: NDArray[Any], width: Any, index: NDArray[np.uint32]) -> None:
    for k in range(x.shape[0]):
        index[k] += np.uint32(y[k]) * width + np.uint32(x[k])


@numba.njit(nogil=True, cache=True)
def _add(index: NDArray[np.uint32], weight: NDArray[Any], target: NDArray[Any]) -> None:
    for k in range(index.shape[0]):
        target[index[k]] += weight[k]


@numba.njit(nogil=True, cache=True)
def _add_pair(
    index: NDArray[np.uint32],
    left: NDArray[Any],
    right: NDArray[Any],
    target_a: NDArray[Any],
    target_c: NDArray[Any],
) -> None:
    for k in range(index.shape[0]):
        target_a[index[k]] += left[k]
        target_c[index[k]] += right[k]


@numba.njit(nogil=True, cache=True)
def _add_shared(
    x: NDArray[Any],
    y: NDArray[Any],
    index: NDArray[np.uint32],
    left: NDArray[Any],
    right: NDArray[Any],
    width: int,
    height: int,
    in_a: bool,
    in_c: bool,
    target_a: NDArray[Any],
    target_c: NDArray[Any],
) -> None:
    """Share each event among the four pixels around it; what falls beside the sensor is left out."""
    for k in range(x.shape[0]):
        column, row = int(np.floor(x[k])), int(np.floor(y[k]))
        along, down = x[k] - column, y[k] - row
        for j in range(4):
            i, v = column + j % 2, row + j // 2
            if 0 <= i < width and 0 <= v < height:
                weight = (along if j % 2 else 1 - along) * (down if j // 2 else 1 - down)
                cell = index[k] + np.uint32(v * width + i)
                if in_a:
                    target_a[cell] += weight * left[k]
                if in_c:
                    target_c[cell] += weight * right[k]
