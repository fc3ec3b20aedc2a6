"""`voxelize` compiled for the CPU: who does what in how many threads."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.kernels.threads.pool import ThreadPool
from evsim.kernels.voxelize import intervals, loops
from evsim.kernels.voxelize.arguments import NO_DURATION, Placement, PlaneLayout, require_events

THREAD_EVENTS = 50_000
"""Fewer events than this are not worth another thread."""


class _Task(NamedTuple):
    """What all threads of one call are told."""

    events: tuple[NDArray[Any], ...]
    rule: tuple[float, float, bool, bool, bool]
    shape: tuple[int, int, int]
    layout: tuple[int, ...]
    accumulate: bool
    subpixel: bool | None
    paired_cells: int
    """Cells of the scratch in which two planes lie side by side; 0 for none."""
    flat: NDArray[Any]

    def room(self) -> tuple[NDArray[Any], ...]:
        """Memory for one thread: index and weights of a block, and two planes side by side."""
        kind = self.flat.dtype
        return (
            np.empty(loops.BLOCK, np.uint32),
            np.empty(2 * loops.BLOCK, kind),
            np.zeros(self.paired_cells, kind),
        )


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
    count = len(ranges)
    if not count:
        return
    _planes, height, width = out.shape
    start, duration, steps, offset, interpolation, edge = placement
    # The loops are compiled for whole arrays; a view with strides would have them compiled once more.
    start, duration = np.ascontiguousarray(start), np.ascontiguousarray(duration)
    ranges = np.ascontiguousarray(ranges)
    rule = (steps, offset, interpolation == "linear", edge == "clamp", t.dtype.kind in "iu")
    total = int(ranges[-1, 1] - ranges[0, 0])
    cells = height * width * (1 if layout.on == layout.off else 2)
    task = _Task(
        (t, x, y, p),
        rule,
        (bins, width, height),
        tuple(layout),
        accumulate,
        True if x.dtype.kind == "f" else None,
        2 * cells if total >= cells else 0,
        out.reshape(-1),
    )
    parts = min(threads, max(1, total // THREAD_EVENTS)) if threads > 1 else 1
    if parts > 1 and count == 1:
        status = _one_window(task, ranges[0].tolist(), float(start[0]), float(duration[0]), parts)
    elif parts > 1:
        run = functools.partial(_some_windows, task, ranges, start, duration)
        status = _in_threads(run, _balanced(ranges, parts))
    else:
        status = _some_windows(task, ranges, start, duration, 0, count)
    if status == loops.NO_TIME:
        raise InputError(NO_DURATION)
    if status:
        require_events(t, x, y, ranges, (width, height))
        raise InputError("the times of the events are not numbers")


def _some_windows(
    task: _Task,
    ranges: NDArray[np.int64],
    start: NDArray[np.float64],
    duration: NDArray[np.float64],
    first: int,
    last: int,
) -> int:
    return loops.windows(
        *task.events, ranges, start, duration, first, last, task.rule, task.shape, task.layout,
        task.accumulate, task.subpixel, *task.room(), task.flat,
    )  # fmt: skip


def _balanced(ranges: NDArray[np.int64], parts: int) -> list[tuple[int, int]]:
    """Groups of consecutive windows with about equal numbers of events."""
    total = np.cumsum(ranges[:, 1] - ranges[:, 0])
    borders = [0, *np.searchsorted(total, total[-1] * np.arange(1, parts) / parts).tolist(), len(ranges)]
    return [(a, b) for a, b in itertools.pairwise(borders) if a < b]


def _in_threads(run: Callable[..., int], jobs: list[tuple[int, int]]) -> int:
    """The largest status of the jobs; the first runs in the calling thread."""
    statuses: list[int] = _pool(len(jobs)).run([functools.partial(run, *job) for job in jobs])
    return max(statuses)


@functools.cache
def _pool(size: int) -> ThreadPool:
    """Threads that stay: starting one costs as much as 100 000 events."""
    return ThreadPool(size)


def _one_window(task: _Task, events: list[int], start: float, duration: float, parts: int) -> int:
    """One window by several threads, each with its share of the events.

    Neighbouring shares write the same one or two bins. So that they never do so at once, a thread begins with
    the events at the end of its share, which touch bins of the next one, and comes to those at its beginning
    last, when the thread before has long done its part of these bins; it waits where that is not so.
    """
    t, bins = task.events[0], task.shape[0]
    time = (start, duration, task.rule, bins)
    begin, end = events

    def border(k: int) -> int:
        """Where share k begins: at a border of bins if one is near, so that only one bin is shared."""
        equal = begin + (end - begin) * k // parts
        b = intervals.low_bin(t[equal], *time)
        near = [intervals.first_beyond(t, begin, end, *time, c, False) for c in (b - 1, b)]
        best = min(near, key=lambda i: abs(i - equal))
        return best if abs(best - equal) * parts * 8 <= end - begin else equal

    borders = [begin, *(border(k) for k in range(1, parts)), end]
    # Up to `tops[k]`, bins were begun by a thread before k, from `lows[k]` on they are also written by k + 1.
    tops = [-1, *(intervals.top_bin(t[max(begin, i - 1)], *time) for i in borders[1:-1]), bins - 1]
    lows = [*(intervals.low_bin(t[min(i, end - 1)], *time) for i in borders[1:-1]), bins]
    done = [threading.Event() for _ in range(parts)]

    def run(k: int, _: int) -> int:
        own, first, last = tops[k] + 1, borders[k], borders[k + 1]
        early = intervals.first_beyond(t, first, last, *time, tops[k], False) if k else first
        late = intervals.first_beyond(t, first, last, *time, lows[k] - 1, True) if k < parts - 1 else last
        shared = max(own, lows[k] - 1)
        room = task.room()

        def add(first: int, last: int, clear_from: int, clear_to: int) -> int:
            return loops.window(
                *task.events, first, last, start, duration, task.rule, task.shape, task.layout, 0,
                clear_from, max(clear_from, clear_to), task.accumulate, task.subpixel, *room, task.flat,
            )  # fmt: skip

        try:
            if any(t[i - 1] > t[i] for i in (first, early, late) if begin < i < last):
                return loops.UNSORTED
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
