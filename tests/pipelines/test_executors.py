"""Executors give every job its outcome, whatever happens to a worker."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from evsim.kernels.threads.limits import THREAD_VARIABLES, allowed_threads
from evsim.pipelines.runs.executors import Executor, Processes, Serial

ROOT = Path(__file__).resolve().parent.parent.parent


def square(number: int) -> int:
    return number * number


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def exit_at_once(number: int) -> int:
    os._exit(7)


def announce_and_sleep(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)


def threads(_: int) -> list[int]:
    import cv2
    import numba
    import torch

    # numba last: it starts its pool, which tells OpenMP, and so torch, another number.
    return [allowed_threads(), cv2.getNumThreads(), torch.get_num_threads(), numba.get_num_threads()]


def simulate_large_frames(_: int) -> list[str]:
    """Names of all threads while frames are simulated that are worth a second one."""
    from evsim.chain import ClipSimulation, SimulationConfig
    from evsim.media import ArraySource

    noise = np.random.default_rng(0).integers(0, 256, (4, 300, 400), np.uint8)
    names: set[str] = set()
    events = 0
    for step in ClipSimulation(ArraySource(noise, 100.0), SimulationConfig()):
        events += len(step.events)
        names.update(thread.name for thread in threading.enumerate())
    assert events
    return sorted(names)


def is_running(pid: int) -> bool:
    # A process that has ended but was not waited for by its new parent still has an entry.
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("executor", [Serial(), Processes(2)], ids=["serial", "processes"])
def test_every_job_has_its_result(executor: Executor) -> None:
    found = {outcome.job: outcome.result for outcome in executor.outcomes(square, range(7))}
    assert found == {number: number * number for number in range(7)}


def test_a_dead_worker_costs_only_its_own_job() -> None:
    found = {outcome.job: outcome for outcome in Processes(2).outcomes(die_at_three, range(8))}
    assert [job for job, outcome in sorted(found.items()) if outcome.died] == [3]
    assert "SIGKILL: out of memory" in found[3].died
    assert all(found[job].result == job for job in found if job != 3)


def test_workers_that_always_die_end_the_jobs_and_not_the_run() -> None:
    found = list(Processes(1).outcomes(exit_at_once, range(2)))
    assert [outcome.died for outcome in found] == ["its worker process ended with code 7"] * 2


def test_a_worker_has_one_thread() -> None:
    (outcome,) = Processes(1).outcomes(threads, [0])
    assert outcome.result == [1, 1, 1, 1]


def threads_in_use(job: int) -> tuple[list[int], list[str]]:
    return threads(job), simulate_large_frames(job)


# numba, OpenCV and torch are loaded with the script, also in a worker, before that is told what to do.
LIBRARIES_FIRST = """
import cv2, numba, torch
from evsim.pipelines.runs.executors import Processes, Serial
from test_executors import threads_in_use
if __name__ == "__main__":
    for executor in (Processes(1), Serial(1), Serial(2)):
        (outcome,) = executor.outcomes(threads_in_use, [0])
        counted, names = outcome.result
        print(executor.name, counted, *[name for name in names if name.startswith("evsim-pool-")])
"""


def test_the_executor_decides_how_many_threads_a_job_has(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(LIBRARIES_FIRST)
    environment = {name: value for name, value in os.environ.items() if name not in THREAD_VARIABLES}
    said = subprocess.run(
        [sys.executable, script],
        env={**environment, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", "NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    worker, one, two = said.stdout.splitlines()
    assert worker == "processes [1, 1, 1, 1]"
    assert one == "serial [1, 1, 1, 2]"
    assert two == "serial [2, 2, 2, 2] evsim-pool-1"


@pytest.mark.parametrize("executor", [Serial(), Processes(2)], ids=["serial", "processes"])
def test_jobs_are_taken_as_workers_become_free(executor: Executor) -> None:
    taken = itertools.count()
    with contextlib.closing(executor.outcomes(square, taken)) as outcomes:
        for ended, outcome in enumerate(itertools.islice(outcomes, 20), start=1):
            assert outcome.result == outcome.job**2
            assert int(repr(taken)[6:-1]) <= ended + executor.workers


def refuse_after_two() -> Iterator[int]:
    yield from (1, 2)
    raise OSError("no more jobs")


@pytest.mark.parametrize("executor", [Serial(), Processes(2)], ids=["serial", "processes"])
def test_jobs_that_cannot_be_listed_end_the_work(executor: Executor) -> None:
    with pytest.raises(OSError, match="no more jobs"):
        list(executor.outcomes(square, refuse_after_two()))
    assert not multiprocessing.active_children()


RUN_TWO = """
import sys
from evsim.pipelines.runs.executors import Processes
from test_executors import announce_and_sleep
list(Processes(2).outcomes(announce_and_sleep, [sys.argv[1]] * 2))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_run(how: signal.Signals, tmp_path: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN_TWO, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"},
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    run.send_signal(how)
    assert run.wait(20) != 0
    wait_for(lambda: not any(is_running(int(entry.name)) for entry in tmp_path.iterdir()))


def starting_workers(pid: int) -> list[str]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


def blocked_signals(pid: str) -> int:
    """Bit n - 1 is set for signal n."""
    (line,) = (row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row[:6] == "SigBlk")
    return int(line.split()[1], 16)


def test_ctrl_c_while_workers_start_is_only_the_runs(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN_TWO, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"},
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    wait_for(lambda: bool(starting_workers(run.pid)))
    assert blocked_signals(starting_workers(run.pid)[0]) & 1 << (signal.SIGINT - 1)
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=20)
    assert run.returncode != 0
    assert said.count("Traceback") == 1, said
    assert said.rstrip().endswith("KeyboardInterrupt")
