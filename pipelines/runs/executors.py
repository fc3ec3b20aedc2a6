"""Executors: how the jobs of a run are carried out, in this process or in several.

An executor calls ``work(job)`` for every job and yields an `Outcome` as each ends, in any order. `work` and
the jobs are pickled by some executors; `work` reports failures in what it returns, so that the only thing an
executor itself has to report is a worker that died. Jobs are taken from their iterable as workers become
free, and the executor decides how many threads each job has (`evsim.kernels.threads.limits`). This module
stays light: a worker limits its threads before anything heavy is imported.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection as channels
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

from evsim.kernels.threads.limits import limit_process, limited, limited_environment

J = TypeVar("J")
R = TypeVar("R")

GRACE_S = 5.0


@dataclass(frozen=True)
class Outcome(Generic[J, R]):
    """How one job ended: with a result, or with the worker's death in words."""

    job: J
    result: R | None
    died: str = ""


class Executor(Protocol):
    """What a run needs of an executor.

    name: for run.json. workers: how many jobs are carried out at a time.
    """

    name: str
    workers: int

    def outcomes(self, work: Callable[[J], R], jobs: Iterable[J]) -> Generator[Outcome[J, R], None, None]:
        """Call ``work(job)`` for every job; yields as each ends. Closing the iterator stops the rest.

        At most `workers` jobs more are taken from `jobs` than have ended: it may be endless.
        """
        ...


class Serial:
    """One job after the other, in this process, in `threads` threads; None for all cores."""

    name = "serial"
    workers = 1

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads

    def outcomes(self, work: Callable[[J], R], jobs: Iterable[J]) -> Generator[Outcome[J, R], None, None]:
        """See `Executor`."""
        for job in jobs:
            with limited(self.threads):
                result = work(job)
            yield Outcome(job, result)


class Processes:
    """Jobs in `workers` processes of one thread each, started afresh (spawn), so that nothing is inherited.

    A worker that dies (out of memory, killed) costs the job it had; another takes its place.
    """

    name = "processes"

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def outcomes(self, work: Callable[[J], R], jobs: Iterable[J]) -> Generator[Outcome[J, R], None, None]:
        """See `Executor`."""
        waiting = iter(jobs)
        started: list[_Worker[J, R]] = []
        try:
            while True:
                for job in itertools.islice(waiting, self.workers - sum(w.busy for w in started)):
                    free = next((worker for worker in started if not worker.busy), None)
                    if free is None:
                        free = _Worker(work)
                        started.append(free)
                    free.give(job)
                busy = {worker.channel: worker for worker in started if worker.busy}
                if not busy:
                    return
                for channel in channels.wait(list(busy)):
                    worker = busy[channel]  # type: ignore[index]
                    outcome = worker.collect()
                    if outcome.died:
                        started.remove(worker)
                    yield outcome
        finally:
            _dismiss(started)


class _Worker(Generic[J, R]):
    """A process that carries out one job at a time, seen from the run."""

    def __init__(self, work: Callable[[J], R]) -> None:
        context = multiprocessing.get_context("spawn")
        self.channel: Connection
        self.channel, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(theirs,), daemon=True)
        with interrupts_held_back(), limited_environment(1):
            self.process.start()
        theirs.close()
        self._job: J | None = None
        self._send(work)

    @property
    def busy(self) -> bool:
        return self._job is not None

    def give(self, job: J) -> None:
        self._job = job
        self._send(job)

    def collect(self) -> Outcome[J, R]:
        """The end of the job it was given; call when the channel is ready."""
        job, self._job = self._job, None
        assert job is not None
        try:
            return Outcome(job, self.channel.recv())
        except (EOFError, OSError):
            self.process.join(GRACE_S)
            return Outcome(job, None, _cause_of_death(self.process.exitcode))
        except Exception as error:
            self.dismiss()
            return Outcome(job, None, f"its result could not be read: {error}")

    def dismiss(self) -> None:
        self.process.terminate()
        self.process.join(GRACE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.channel.close()

    def _send(self, thing: Any) -> None:
        # A worker that is already dead is noticed when its end of the channel turns out closed.
        with contextlib.suppress(OSError):
            self.channel.send(thing)


@contextlib.contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Block SIGINT: a process started meanwhile never sees it, ours gets it at the end.

    Ctrl-C reaches the whole group, also a worker whose interpreter is still starting.
    """
    resource_tracker.ensure_running()  # started with the first process, it would unblock SIGINT in ours
    arrived: list[tuple[int, FrameType | None]] = []
    handler = signal.getsignal(signal.SIGINT)
    # A thread of a library's may be given what this one blocks; Python then calls the handler here.
    deferred = callable(handler) and threading.current_thread() is threading.main_thread()
    if deferred:
        signal.signal(signal.SIGINT, lambda number, frame: arrived.append((number, frame)))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if deferred:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if arrived and callable(handler):
            handler(*arrived[0])


def _dismiss(started: Sequence[_Worker[Any, Any]]) -> None:
    for worker in started:
        worker.process.terminate()
    for worker in started:
        worker.dismiss()


def _cause_of_death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = ": out of memory?" if -code == signal.SIGKILL else ""
        return f"its worker process was killed by {name}{hint}"
    return f"its worker process ended with code {code}"


def _serve(channel: Connection) -> None:
    """Body of a worker process: the work function comes first, then jobs until the channel closes.

    SIGINT is blocked since before it began: the run decides what Ctrl-C ends.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    limit_process(1)
    with contextlib.suppress(EOFError):
        work = channel.recv()
        while True:
            channel.send(work(channel.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        channels.wait([parent.sentinel])
        os._exit(1)
