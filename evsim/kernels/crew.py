"""`Crew`: threads that share the calls of one caller, and stay awake for a moment between them.

To wake a sleeping thread takes tens of microseconds, on virtual machines hundreds: as long as the work of a
small frame. So a thread that has nothing to do looks out for work for a fraction of a millisecond, offering
its processor to whoever wants it, and sleeps only then. numba's own layers either do so for a fifth of a
second, which other processes pay for (OpenMP), or stop the process when two threads call at once (workqueue).
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from evsim.kernels.turns import add_turns, await_change, make_turns, read_turn, wait_until

POSTED, DONE = 0, 1
"""Counters: times that work was posted, and calls that the threads of the crew have finished."""
LOOKS = 1500
"""How often an idle thread looks for work before it sleeps, some 0.2 microseconds each."""
LOOKS_BEFORE_LOCK = 40
"""How long a thread that sees work waits until whoever posted it has surely given up the interpreter lock:
asking for a lock that is taken would put the thread to sleep."""


class _Work:
    """The calls of one `Crew.run`, which threads take one after the other."""

    def __init__(self, calls: Sequence[Callable[[], Any]]) -> None:
        self.calls = calls
        self.results: list[Any] = [None] * len(calls)
        self.errors: dict[int, BaseException] = {}
        self.taken = 0
        self.lent = 0
        """How many calls were taken by threads of the crew."""

    def do(self, index: int) -> None:
        try:
            self.results[index] = self.calls[index]()
        except BaseException as error:  # raised again by `Crew.run`
            self.errors[index] = error


class _Board:
    """What the threads and their caller share; the threads keep it alive, not the crew."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.lock = threading.Lock()
        self.counters = make_turns(2)
        self.work: _Work | None = None
        self.asleep: list[threading.Lock] = []
        self.stopped = False

    def post(self, work: _Work | None) -> None:
        with self.lock:
            self.work = work
            add_turns(self.counters, POSTED, 1)
            asleep, self.asleep = self.asleep, []
        for gate in asleep:
            gate.release()

    def take(self, *, lend: bool) -> tuple[_Work, int] | None:
        """The next call, or None if there is none."""
        with self.lock:
            work = self.work
            if work is None or work.taken == len(work.calls):
                return None
            work.taken += 1
            work.lent += lend
            return work, work.taken - 1

    def close(self) -> int:
        """Let nobody take what is left; returns how many calls were lent."""
        with self.lock:
            work, self.work = self.work, None
            return 0 if work is None else work.lent

    def stop(self) -> None:
        self.stopped = True
        self.post(None)


def _help(board: _Board) -> None:
    """What a thread of the crew does: look for calls, make them, sleep."""
    gate = threading.Lock()
    gate.acquire()
    finished = 0
    while True:
        # Read before anything is looked at: what is posted later is seen as a change.
        seen = read_turn(board.counters, POSTED)
        if board.stopped:
            return
        found = board.take(lend=True)
        if found is not None:
            work, index = found
            work.do(index)
            # What the calls refer to must not live until the next ones.
            del found, work
            finished += 1
            continue
        # Without the interpreter lock: tell what is done, and look for more.
        if await_change(board.counters, DONE, finished, POSTED, seen, LOOKS, LOOKS_BEFORE_LOCK):
            finished = 0
            continue
        finished = 0
        with board.lock:
            if read_turn(board.counters, POSTED) != seen:
                continue
            board.asleep.append(gate)
        gate.acquire()


class Crew:
    """Threads beside the caller's own, started when there is something to do for them.

    size: how many there are with the caller's. A forked process starts its own; threads end with the crew.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._busy = threading.Lock()
        self._board: _Board | None = None

    def run(self, calls: Sequence[Callable[[], Any]], *, all_needed: bool = True) -> list[Any]:
        """Make the calls, the first one by the caller itself; returns what they return.

        They are taken in order, so a call may wait for an earlier one. all_needed: False if a call that
        nobody has begun when the first one returns need not be made; its result is None. Called within a
        call, or by another thread meanwhile, the caller makes all of them. Raises what the first of them
        raises.
        """
        if self.size == 1 or len(calls) < 2 or not self._busy.acquire(blocking=False):
            return [call() for call in (calls if all_needed else calls[:1])]
        try:
            return self._run(_Work(calls), all_needed)
        finally:
            self._busy.release()

    def _run(self, work: _Work, all_needed: bool) -> list[Any]:
        board, settled = self._ready_board(), False
        done = read_turn(board.counters, DONE)
        work.taken = 1
        try:
            board.post(work)
            work.do(0)
            if all_needed:
                while (found := board.take(lend=False)) is not None:
                    work.do(found[1])
            lent = board.close()
            if lent:
                wait_until(board.counters, DONE, done + lent)
            settled = True
        finally:
            if not settled:  # interrupted: calls may go on, so nobody can count on these threads any more
                board.stop()
                self._board = None
        if work.errors:
            raise work.errors[min(work.errors)]
        return work.results

    def _ready_board(self) -> _Board:
        if self._board is None or self._board.process != os.getpid():
            self._board = board = _Board()
            weakref.finalize(self, board.stop)
            for number in range(1, self.size):
                threading.Thread(
                    target=_help, args=(board,), name=f"evsim-crew-{number}", daemon=True
                ).start()
        return self._board
