"""Calls shared among threads: all made once, in order of beginning, whoever makes them; errors surface."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from evsim.kernels.threads import pool as pool_module
from evsim.kernels.threads.pool import ThreadPool

ForkedCode = Callable[[Callable[[], object]], int]


def pool_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("evsim-pool")}


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("pause", [0.0, 0.002])
def test_every_call_is_made_once(size: int, count: int, pause: float) -> None:
    pool, made = ThreadPool(size), []

    def call(number: int) -> int:
        made.append(number)
        return number * number

    for _ in range(20):
        made.clear()
        results = pool.run([lambda number=number: call(number) for number in range(count)])
        assert results == [number * number for number in range(count)]
        assert sorted(made) == list(range(count))
        time.sleep(pause)  # with one, threads have gone to sleep in between


def test_threads_help() -> None:
    pool, together = ThreadPool(2), threading.Barrier(2, timeout=10)
    for _ in range(3):
        pool.run([together.wait, together.wait])  # either alone would wait for ever
        time.sleep(0.01)


def test_a_call_may_wait_for_an_earlier_one_with_any_number_of_threads() -> None:
    for size in (1, 2, 3):
        done = [threading.Event() for _ in range(9)]

        def call(number: int, done: list[threading.Event] = done) -> bool:
            earlier = number == 0 or done[number - 1].wait(10)
            done[number].set()
            return earlier

        assert all(ThreadPool(size).run([lambda number=number: call(number) for number in range(9)]))


def test_a_shared_call_is_left_out_when_its_thread_comes_too_late() -> None:
    assert ThreadPool(1).share([lambda: "own", lambda: pytest.fail("made")]) == ["own", None]
    pool = ThreadPool(2)
    for _ in range(50):
        own, other = pool.share([lambda: "own", lambda: "other"])
        assert own == "own"
        assert other in ("other", None)


def test_shared_calls_stay_with_their_threads() -> None:
    pool, together = ThreadPool(3), threading.Barrier(3, timeout=10)

    def call() -> int:
        together.wait()
        return threading.get_ident()

    rounds = [pool.share([call] * 3) for _ in range(5)]
    assert rounds == [rounds[0]] * 5
    assert rounds[0][0] == threading.get_ident()
    assert len(set(rounds[0])) == 3


def test_calls_within_calls_are_made() -> None:
    pool = ThreadPool(2)
    assert pool.run([lambda: pool.run([lambda: 1, lambda: 2]), lambda: 3]) == [[1, 2], 3]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_surfaces_and_the_pool_goes_on(failing: int) -> None:
    pool = ThreadPool(2)

    def call(number: int) -> int:
        if number == failing:
            raise ValueError(f"call {number}")
        return number

    with pytest.raises(ValueError, match=f"call {failing}"):
        pool.run([lambda number=number: call(number) for number in range(3)])
    assert pool.run([lambda: 5, lambda: 6]) == [5, 6]


def test_callers_in_several_threads_get_their_own_results() -> None:
    pool, wrong = ThreadPool(2), []

    def caller(number: int) -> None:
        for _ in range(200):
            if pool.run([lambda: number, lambda: -number]) != [number, -number]:
                wrong.append(number)

    callers = [threading.Thread(target=caller, args=(number,)) for number in range(1, 4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert not wrong


def test_threads_end_with_the_pool() -> None:
    before = pool_threads()
    pool = ThreadPool(3)
    assert pool_threads() == before  # none before there is work
    pool.run([lambda: 1, lambda: 2])
    started = pool_threads() - before
    assert len(started) == 2
    del pool
    gc.collect()
    for thread in started:
        thread.join(10)
    assert not any(thread.is_alive() for thread in started)


def test_a_thread_that_leaves_its_callers_processor_may_still_run_everywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allowed = os.sched_getaffinity(0)
    # As if every thread found itself on its caller's processor.
    monkeypatch.setattr(pool_module, "current_processor", lambda: min(allowed))
    pool, together = ThreadPool(2), threading.Barrier(2, timeout=10)
    pool.run([together.wait, together.wait])
    _, found = pool.run([together.wait, lambda: (together.wait(), os.sched_getaffinity(0))[1]])
    assert found == allowed


def test_a_system_that_lets_no_thread_move_costs_only_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def refuse(process: int, processors: set[int]) -> None:
        asked.set()
        raise PermissionError("not permitted")

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    monkeypatch.setattr(pool_module, "current_processor", lambda: 0)
    pool, together = ThreadPool(2), threading.Barrier(2, timeout=10)
    for _ in range(5):
        pool.run([together.wait, together.wait])
    assert asked.wait(10)
    assert pool.run([lambda: 1, lambda: 2]) == [1, 2]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    pool = ThreadPool(2)
    pool.run([lambda: 1, lambda: 2])
    child = os.fork()
    if child == 0:
        together = threading.Barrier(2, timeout=10)
        os._exit(0 if sorted(pool.run([together.wait, together.wait])) == [0, 1] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@contextlib.contextmanager
def work_in_flight(pool: ThreadPool) -> Iterator[None]:
    """Another thread gives the pool one piece of work after the other."""
    stop, began = threading.Event(), threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            pool.run([began.set, lambda: sum(range(300)), lambda: sum(range(100))])

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        assert began.wait(10)
        yield
    finally:
        stop.set()
        thread.join()


def uses_workers(pool: ThreadPool) -> bool:
    together = threading.Barrier(2, timeout=10)
    return sorted(pool.run([together.wait, together.wait])) == [0, 1]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_forked_while_another_thread_uses_the_pool_has_a_working_one(
    exit_code_of_fork: ForkedCode,
) -> None:
    pool = ThreadPool(2)
    with work_in_flight(pool):
        assert [exit_code_of_fork(lambda: uses_workers(pool)) for _ in range(8)] == [0] * 8
    assert uses_workers(pool)


def hold_locks(queue: Any, held: threading.Event, go_on: threading.Event) -> None:
    """Hold every lock of a pool, as a thread may at the moment of a fork."""
    with queue.lock, queue.in_use:
        held.set()
        go_on.wait(30)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("end", ["use", "collect", "exit"])
def test_locks_held_at_a_fork_stop_nothing_in_the_new_process(
    end: str, exit_code_of_fork: ForkedCode
) -> None:
    pools, held, go_on = [ThreadPool(2)], threading.Event(), threading.Event()
    pools[0].run([lambda: 1, lambda: 2])
    holder = threading.Thread(target=hold_locks, args=(pools[0]._queue, held, go_on))
    holder.start()
    assert held.wait(10)

    def child() -> bool:
        if end == "use":
            return uses_workers(pools[0])
        if end == "exit":
            atexit._run_exitfuncs()
            return True
        seen = weakref.ref(pools.pop())
        gc.collect()
        return seen() is None

    code = exit_code_of_fork(child)
    go_on.set()
    holder.join()
    assert code == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("forking", [0, 1])
def test_a_call_that_forks_and_returns_does_not_hang_the_new_process(forking: int) -> None:
    read, write = os.pipe()
    pool, together = ThreadPool(2), threading.Barrier(2, timeout=10)
    parent, child = os.getpid(), []

    def call(number: int) -> None:
        together.wait()
        if number == forking:
            process = os.fork()
            if process:
                child.append(process)
        elif os.getpid() == parent:
            time.sleep(0.05)

    try:
        pool.run([lambda: call(0), lambda: call(1)])
    except RuntimeError as error:
        if os.getpid() != parent:
            os.write(write, str(error).encode())
            os._exit(0)
        raise
    assert os.getpid() == parent
    os.close(write)
    end = time.monotonic() + 30
    while not (ended := os.waitpid(child[0], os.WNOHANG)[0]) and time.monotonic() < end:
        time.sleep(0.005)
    if not ended:
        os.kill(child[0], signal.SIGKILL)
        os.waitpid(child[0], 0)
    said = os.read(read, 1000).decode()
    os.close(read)
    assert ended
    # A thread of the pool is the only one of its new process, which ends with it.
    assert said.startswith("a call of a thread pool has forked") if forking == 0 else said == ""


def test_a_pool_may_be_collected_by_a_thread_that_holds_its_lock() -> None:
    pool = ThreadPool(2)
    pool.run([lambda: 1, lambda: 2])
    before = pool_threads()
    stop, queue = pool._queue.stop, pool._queue
    done = threading.Event()

    def collect() -> None:
        with queue.lock:
            stop()
        done.set()

    threading.Thread(target=collect, daemon=True).start()
    assert done.wait(10)
    for thread in before:
        thread.join(0.0)
    assert pool.run([lambda: 1, lambda: 2]) == [1, 2]


def test_a_system_that_does_not_tell_where_threads_may_run_costs_only_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = threading.Event()

    def refuse(process: int) -> set[int]:
        asked.set()
        raise PermissionError("not permitted")

    monkeypatch.setattr(os, "sched_getaffinity", refuse)
    monkeypatch.setattr(pool_module, "current_processor", lambda: 0)
    pool = ThreadPool(2)
    for _ in range(5):
        assert uses_workers(pool)
    assert asked.wait(10)
    assert uses_workers(pool)


def test_threads_that_cannot_be_started_are_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pool = ThreadPool(3)
    for _ in range(2):
        assert pool.run([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]
        assert pool.share([lambda: 1, lambda: 2]) == [1, None]


def test_an_interrupted_caller_leaves_a_pool_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(counters: object, which: int, value: int) -> None:
        raise KeyboardInterrupt

    pool, together = ThreadPool(2), threading.Barrier(2, timeout=10)
    with monkeypatch.context() as patched:
        patched.setattr(pool_module, "wait_until", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.run([together.wait, together.wait])
    assert uses_workers(pool)


def test_what_calls_refer_to_lives_no_longer_than_they() -> None:
    class Large:
        pass

    pool = ThreadPool(2)
    for _ in range(3):
        large = Large()
        seen = weakref.ref(large)
        pool.run([partial(id, large), partial(id, large)])
        del large
        end = time.monotonic() + 10
        while seen() is not None and time.monotonic() < end:
            time.sleep(0.001)
        assert seen() is None
