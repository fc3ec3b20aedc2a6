"""Calls shared among threads: all made once, in order of beginning, whoever makes them; errors surface."""

from __future__ import annotations

import gc
import os
import threading
import time

import pytest

from evsim.kernels.threads import pool as pool_module
from evsim.kernels.threads.pool import ThreadPool


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
