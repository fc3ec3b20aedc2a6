"""Executors give every job its outcome, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

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

    return [cv2.getNumThreads(), numba.get_num_threads(), int(os.environ["OMP_NUM_THREADS"])]


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
    assert outcome.result == [1, 1, 1]


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
