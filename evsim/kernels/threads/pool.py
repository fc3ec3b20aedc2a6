"""`ThreadPool`: threads that share the calls of one caller, and stay awake for a moment between them.

To wake a sleeping thread takes tens of microseconds, on virtual machines hundreds: as long as the work of a
small frame. So a thread that has nothing to do looks out for work for a fraction of a millisecond, offering
its processor to whoever wants it, and sleeps only then. numba's own layers either do so for a fifth of a
second, which other processes pay for (OpenMP), or stop the process when two threads call at once (workqueue).
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from evsim.kernels.threads.counters import (
    add_to_counter,
    await_change,
    current_processor,
    make_counters,
    read_counter,
    wait_until,
)

POSTED, DONE = 0, 1
"""Counters: times that work was posted, and calls that the threads of the pool have finished."""
LOOKS = 1500
"""How often an idle thread looks for work before it sleeps, some 0.4 microseconds each."""
LOOKS_BEFORE_LOCK = 40
"""How long a thread that sees work waits until whoever posted it has surely given up the interpreter lock:
asking for a lock that is taken would put the thread to sleep."""


class _Work:
    """The calls of one caller. In order: threads take one after the other; else the k-th takes the k-th."""

    def __init__(self, calls: Sequence[Callable[[], Any]], in_order: bool) -> None:
        self.calls = calls
        self.in_order = in_order
        self.results: list[Any] = [None] * len(calls)
        self.errors: dict[int, BaseException] = {}
        self.begun = [False] * len(calls)
        self.next = 0
        self.lent = 0
        """How many calls were begun by threads of the pool."""

    def begin(self, thread: int) -> int | None:
        """The call that a thread is to make, 0 being the caller, or None."""
        index = self.next if self.in_order else thread
        if index >= len(self.calls) or self.begun[index]:
            return None
        self.begun[index] = True
        self.next += self.in_order
        self.lent += thread > 0
        return index

    def do(self, index: int) -> None:
        try:
            self.results[index] = self.calls[index]()
        except BaseException as error:  # raised again by the caller
            self.errors[index] = error


class _Queue:
    """What the threads and their caller share; the threads keep it alive, not the pool."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.lock = threading.Lock()
        self.counters = make_counters(2)
        self.work: _Work | None = None
        self.asleep: list[threading.Lock] = []
        self.stopped = False
        self.processor = -1
        """Where the caller was when it last posted work."""

    def post(self, work: _Work | None) -> None:
        """Tell all threads; wakes as many as there are calls for, or all to end."""
        self.processor = current_processor()
        with self.lock:
            self.work = work
            add_to_counter(self.counters, POSTED, 1)
            wanted = len(self.asleep) if work is None or not work.in_order else len(work.calls) - 1
            woken, self.asleep = self.asleep[:wanted], self.asleep[wanted:]
        for gate in woken:
            gate.release()

    def take(self, thread: int) -> tuple[_Work, int] | None:
        """The next call of a thread, or None if there is none."""
        with self.lock:
            work = self.work
            index = None if work is None else work.begin(thread)
            return None if work is None or index is None else (work, index)

    def close(self) -> int:
        """Let nobody take what is left; returns how many calls were lent."""
        with self.lock:
            work, self.work = self.work, None
            return 0 if work is None else work.lent

    def stop(self) -> None:
        self.stopped = True
        self.post(None)


def _leave_processor(processor: int) -> None:
    """Move this thread elsewhere, if it may run elsewhere.

    A system does so by itself, but only after many milliseconds for threads that are never idle for long.
    """
    allowed = os.sched_getaffinity(0)
    others = allowed - {processor}
    if others:
        # A system that refuses (a sandbox, say) leaves the thread where it is, which is slow but right.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, others)
            os.sched_setaffinity(0, allowed)


def _help(queue: _Queue, thread: int) -> None:
    """What a thread of the pool does: look for calls, make them, sleep."""
    gate = threading.Lock()
    gate.acquire()
    finished = 0
    while True:
        # Read before anything is looked at: what is posted later is seen as a change.
        seen = read_counter(queue.counters, POSTED)
        if queue.stopped:
            return
        found = queue.take(thread)
        if found is not None:
            work, index = found
            work.do(index)
            # What the calls refer to must not live until the next ones.
            del found, work
            finished += 1
            continue
        if 0 <= queue.processor == current_processor():
            # First of all what the caller waits for.
            add_to_counter(queue.counters, DONE, finished)
            finished = 0
            _leave_processor(queue.processor)
        # Without the interpreter lock: tell what is done, and look for more.
        changed = await_change(queue.counters, DONE, finished, POSTED, seen, LOOKS, LOOKS_BEFORE_LOCK)
        finished = 0
        if changed:
            continue
        with queue.lock:
            if read_counter(queue.counters, POSTED) != seen:
                continue
            queue.asleep.append(gate)
        gate.acquire()


class ThreadPool:
    """Threads beside the caller's own, started when there is something to do for them.

    size: how many there are with the caller's. A forked process starts its own; threads end with the pool.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._busy = threading.Lock()
        self._queue: _Queue | None = None

    def run(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Make the calls, the first one by the caller itself; returns what they return.

        They are begun in order, so a call may wait for an earlier one. Called within a call, or by another
        thread meanwhile, the caller makes all of them. Raises what the first of them raises.
        """
        return self._run(_Work(calls, in_order=True))

    def share(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Make the first call, and the k-th by the k-th thread unless the first returns before it begins.

        So what a call works on may stay in the cache of its thread. Results and errors as by `run`; the
        result of a call that was not made is None.
        """
        return self._run(_Work(calls, in_order=False))

    def _run(self, work: _Work) -> list[Any]:
        if self.size == 1 or len(work.calls) < 2 or not self._busy.acquire(blocking=False):
            while (index := work.begin(0)) is not None:
                work.do(index)
        else:
            try:
                self._run_together(work)
            finally:
                self._busy.release()
        if work.errors:
            raise work.errors[min(work.errors)]
        return work.results

    def _run_together(self, work: _Work) -> None:
        queue, settled = self._ready_queue(), False
        done = read_counter(queue.counters, DONE)
        own = work.begin(0)
        try:
            queue.post(work)
            while own is not None:
                work.do(own)
                own = None if (found := queue.take(0)) is None else found[1]
            lent = queue.close()
            if lent:
                wait_until(queue.counters, DONE, done + lent)
            settled = True
        finally:
            if not settled:  # interrupted: calls may go on, so nobody can count on these threads any more
                queue.stop()
                self._queue = None

    def _ready_queue(self) -> _Queue:
        if self._queue is None or self._queue.process != os.getpid():
            self._queue = queue = _Queue()
            weakref.finalize(self, queue.stop)
            for number in range(1, self.size):
                threading.Thread(
                    target=_help, args=(queue, number), name=f"evsim-pool-{number}", daemon=True
                ).start()
        return self._queue
