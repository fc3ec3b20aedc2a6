"""`ThreadPool`: worker threads that share the calls of one caller, and spin for a moment before they sleep.

To wake a sleeping thread takes tens of microseconds, on virtual machines hundreds: as long as the work of a
small frame. So a worker that has nothing to do watches for work for a fraction of a millisecond, yielding
its processor to whoever wants it, and sleeps only then. numba's own layers either spin for a fifth of a
second, which other processes pay for (OpenMP), or stop the process when two threads call at once (workqueue).

docs/threads.md lists what a caller may rely on.
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
    current_processor,
    finish_and_watch,
    make_counters,
    read_counter,
    wait_until,
)

CHANGES, FINISHED = 0, 1
"""Counters of a queue: how often it got calls or was stopped, and how many calls workers have finished."""
SPINS = 1500
"""How often an idle worker looks for work before it sleeps, some 0.4 microseconds each."""
SPINS_BEFORE_LOCK = 40
"""For how long a worker that sees work waits until its caller has surely released the interpreter lock:
asking for a lock that is taken would put the worker to sleep."""


class _Calls:
    """The calls of one caller. In order: threads take one after the other; else the k-th takes the k-th."""

    def __init__(self, calls: Sequence[Callable[[], Any]], in_order: bool) -> None:
        self.calls = calls
        self.in_order = in_order
        self.results: list[Any] = [None] * len(calls)
        self.errors: dict[int, BaseException] = {}
        self.begun = [False] * len(calls)
        self.next = 0
        self.begun_by_workers = 0

    def begin(self, thread: int) -> int | None:
        """The call that a thread is to make, 0 being the caller, or None."""
        index = self.next if self.in_order else thread
        if index >= len(self.calls) or self.begun[index]:
            return None
        self.begun[index] = True
        self.next += self.in_order
        self.begun_by_workers += thread > 0
        return index

    def make(self, index: int) -> None:
        """Make a call; what it raises is kept for the caller."""
        try:
            self.results[index] = self.calls[index]()
        except BaseException as error:  # raised again by the caller
            self.errors[index] = error


class _Queue:
    """What the workers and their caller share. It belongs to the process that made it.

    A worker refers to its queue and not to the pool, so that a pool that nobody uses any more can go.
    """

    def __init__(self, workers: int) -> None:
        self.process = os.getpid()
        self.workers = workers
        self.in_use = threading.Lock()
        """Held by the caller whose calls the workers make."""
        self.lock = threading.Lock()
        """Guards `calls` and `sleeping`; held for a few instructions, never while a call is made."""
        self.counters = make_counters(2)
        self.calls: _Calls | None = None
        self.sleeping: list[int] = []
        """Workers that wait for their alarm, or are about to."""
        self.alarms: list[threading.Lock] = []
        """One for each worker, which sleeps while its alarm is held."""
        self.stopped = False
        self.caller_processor = -1

    def start(self) -> None:
        """Start the workers, once. Where the system refuses, there are fewer: slower, but right."""
        if self.alarms or self.stopped:
            return
        for number in range(1, self.workers + 1):
            alarm = threading.Lock()
            alarm.acquire()
            self.alarms.append(alarm)
            thread = threading.Thread(
                target=_run_worker, args=(self, number), name=f"evsim-pool-{number}", daemon=True
            )
            # Too many threads, or an interpreter that is about to end.
            with contextlib.suppress(RuntimeError):
                thread.start()

    def offer(self, calls: _Calls) -> None:
        """Let the workers begin calls; wakes as many as there are calls for."""
        self.caller_processor = current_processor()
        with self.lock:
            self.calls = calls
            add_to_counter(self.counters, CHANGES, 1)
            wanted = len(calls.calls) - 1 if calls.in_order else len(self.sleeping)
            woken, self.sleeping = self.sleeping[:wanted], self.sleeping[wanted:]
        for number in woken:
            self._wake(number)

    def begin(self, thread: int) -> tuple[_Calls, int] | None:
        """The next call of a thread, or None if there is none."""
        with self.lock:
            calls = self.calls
            index = None if calls is None else calls.begin(thread)
            return None if calls is None or index is None else (calls, index)

    def withdraw(self) -> int:
        """Let nobody begin what is left; returns how many calls the workers have begun."""
        with self.lock:
            calls, self.calls = self.calls, None
            return 0 if calls is None else calls.begun_by_workers

    def stop(self) -> None:
        """End the workers when they have made the calls that they have begun.

        Takes no lock: a finaliser may run at any place, also where this thread holds the lock, or in a
        forked process where a thread held it that is no more.
        """
        self.stopped = True
        add_to_counter(self.counters, CHANGES, 1)
        for number in range(1, len(self.alarms) + 1):
            self._wake(number)

    def sleep(self, worker: int, seen: int) -> None:
        """Return when there is work; at once if counter CHANGES is no more what it was when last seen."""
        with self.lock:
            if read_counter(self.counters, CHANGES) != seen:
                return
            self.sleeping.append(worker)
        self.alarms[worker - 1].acquire()

    def _wake(self, worker: int) -> None:
        # `stop` and `offer` may both wake a worker; one release is enough, a second is an error.
        with contextlib.suppress(RuntimeError):
            self.alarms[worker - 1].release()


def _leave_processor(processor: int) -> None:
    """Move this thread elsewhere, if it may run elsewhere.

    A system does so by itself, but only after many milliseconds for threads that are never idle for long.
    """
    # A system that refuses to tell or to move (a sandbox, say) leaves the thread where it is: slow but right.
    with contextlib.suppress(OSError):
        allowed = os.sched_getaffinity(0)
        others = allowed - {processor}
        if others:
            os.sched_setaffinity(0, others)
            os.sched_setaffinity(0, allowed)


def _run_worker(queue: _Queue, worker: int) -> None:
    """What a worker does until its queue is stopped: make calls, spin, sleep."""
    finished = 0
    while True:
        # Read before anything is looked at: what comes later is seen as a change.
        seen = read_counter(queue.counters, CHANGES)
        if queue.stopped:
            # A caller may still wait for what this worker has just finished.
            add_to_counter(queue.counters, FINISHED, finished)
            return
        found = queue.begin(worker)
        if found is not None:
            calls, index = found
            calls.make(index)
            if queue.process != os.getpid():
                # The call has forked and returned in the new process, where nobody waits for it.
                return
            # What the calls refer to must not live until the next ones.
            del found, calls
            finished += 1
            continue
        if 0 <= queue.caller_processor == current_processor():
            # First of all what the caller waits for.
            add_to_counter(queue.counters, FINISHED, finished)
            finished = 0
            _leave_processor(queue.caller_processor)
        # Without the interpreter lock: tell what is finished, and watch for more.
        changed = finish_and_watch(
            queue.counters, FINISHED, finished, CHANGES, seen, SPINS, SPINS_BEFORE_LOCK
        )
        finished = 0
        if not changed:
            queue.sleep(worker, seen)


class ThreadPool:
    """Worker threads beside the caller's own, started when there is something to do for them.

    size: how many threads there are with the caller's. A forked process gets workers of its own; workers end
    with the pool.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._queue = _Queue(size - 1)

    def run(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Make the calls, the first one by the caller itself; returns what they return.

        They are begun in order, so a call may wait for an earlier one. Called within a call, or by another
        thread meanwhile, the caller makes all of them. All are made, then what the first of them raised is
        raised.
        """
        return self._run(_Calls(calls, in_order=True))

    def share(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Make the first call, and the k-th by the k-th thread unless the first returns before it begins.

        So what a call works on may stay in the cache of its thread. Results and errors as by `run`; the
        result of a call that was not made is None.
        """
        return self._run(_Calls(calls, in_order=False))

    def _run(self, calls: _Calls) -> list[Any]:
        queue = self._own_queue()
        if self.size == 1 or len(calls.calls) < 2 or not queue.in_use.acquire(blocking=False):
            while (index := calls.begin(0)) is not None:
                calls.make(index)
        else:
            try:
                self._run_together(calls, queue)
            finally:
                queue.in_use.release()
        if calls.errors:
            raise calls.errors[min(calls.errors)]
        return calls.results

    def _own_queue(self) -> _Queue:
        """The queue of this process; what a fork copied has locks that nobody will release."""
        queue = self._queue
        if queue.process != os.getpid():
            self._queue = queue = _Queue(self.size - 1)
        return queue

    def _run_together(self, calls: _Calls, queue: _Queue) -> None:
        if not queue.alarms:
            weakref.finalize(self, queue.stop)
            queue.start()
        settled = False
        finished = read_counter(queue.counters, FINISHED)
        own = calls.begin(0)
        try:
            queue.offer(calls)
            while own is not None:
                calls.make(own)
                if queue.process != os.getpid():
                    raise RuntimeError(
                        "a call of a thread pool has forked and returned in the new process, where the "
                        "threads that make the other calls do not exist; end the process within the call"
                    )
                own = None if (found := queue.begin(0)) is None else found[1]
            begun = queue.withdraw()
            if begun:
                wait_until(queue.counters, FINISHED, finished + begun)
            settled = True
        finally:
            if not settled:  # interrupted: calls may go on, so nobody can count on these workers any more
                queue.stop()
                if self._queue is queue:
                    self._queue = _Queue(self.size - 1)
