"""Runs with the real chain: the same bytes from every way of carrying them out, and faults in the middle."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from evsim.formats import open_events
from evsim.pipelines.runs.description import recorded_run
from evsim.pipelines.runs.executors import Processes
from evsim.pipelines.runs.manifest import latest_records
from evsim.pipelines.runs.run import RunOptions, execute_run
from evsim.pipelines.runs.simulation import describe_run

Start = Callable[..., Any]
Bytes = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="session")
def serial(gopro: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run, one clip after the other."""
    run = tmp_path_factory.mktemp("serial") / "run"
    assert execute_run(describe_run("gopro", gopro), run).complete
    return run


def unfinished(run: Path) -> set[str]:
    return {path.name for path in run.rglob("*.partial.h5")}


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def test_processes_write_the_same_bytes_as_one_after_the_other(
    gopro: Path, serial: Path, tmp_path: Path, output_bytes: Bytes
) -> None:
    result = execute_run(describe_run("gopro", gopro), tmp_path / "run", executor=Processes(2))
    assert result.complete
    assert output_bytes(tmp_path / "run") == output_bytes(serial)


def test_shards_write_the_same_bytes_as_the_whole(
    gopro: Path, serial: Path, tmp_path: Path, command: Start, output_bytes: Bytes
) -> None:
    shards = [
        command("simulate", "gopro", gopro, "-o", tmp_path / "run", "--shard", f"{i}/2") for i in (1, 2)
    ]
    assert [shard.wait(60) for shard in shards] == [0, 0], shards[0].stderr.read()
    assert output_bytes(tmp_path / "run") == output_bytes(serial)


def test_a_run_is_repeated_from_its_run_json_alone(serial: Path, tmp_path: Path, output_bytes: Bytes) -> None:
    only = tmp_path / "run.json"
    only.write_bytes((serial / "run.json").read_bytes())
    assert execute_run(recorded_run(only), tmp_path / "again").complete
    assert output_bytes(tmp_path / "again") == output_bytes(serial)


def test_what_was_drawn_is_in_the_file_and_in_the_manifest(serial: Path) -> None:
    records = latest_records(serial)
    for clip, record in records.items():
        with h5py.File(serial / record.output.name) as file:
            stored = json.loads(file.attrs["config"])
        assert stored["isp_parameters"] == record.facts["parameters"]["isp"]
        assert stored["clip"] == clip
    assert len({record.facts["parameters"]["isp"]["red_gain"] for record in records.values()}) == 6
    counts = {(record.facts["frames"], record.facts["source_frames"]) for record in records.values()}
    assert counts == {(25, 4)}


def test_files_hold_the_events_that_the_manifest_counts(serial: Path) -> None:
    for record in latest_records(serial).values():
        with open_events(serial / record.output.name) as recording:
            assert len(recording) == record.facts["events"] > 0
            assert recording.image_count == 4


def test_a_killed_run_resumes_to_the_same_bytes(
    gopro: Path, serial: Path, tmp_path: Path, command: Start, output_bytes: Bytes
) -> None:
    run, draw = tmp_path / "run", random.Random(3)
    for _ in range(3):
        stale = unfinished(run)
        process = command("simulate", "gopro", gopro, "-o", run, "--workers", 2, "--resume")
        wait_for(lambda stale=stale: bool(unfinished(run) - stale))
        time.sleep(draw.uniform(0, 0.1))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert execute_run(describe_run("gopro", gopro), run, RunOptions(resume=True)).complete
    assert output_bytes(run) == output_bytes(serial)
    assert not any(".partial" in path.name for path in run.rglob("*"))


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_no_half_file_and_says_how_to_resume(
    how: signal.Signals, code: int, gopro: Path, tmp_path: Path, command: Start
) -> None:
    run = tmp_path / "run"
    process = command("simulate", "gopro", gopro, "-o", run, "--workers", 2)
    wait_for(lambda: bool(unfinished(run)))
    # As a terminal or a scheduler does it: to the whole group.
    os.killpg(process.pid, how)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert f"evsim simulate --config {run / 'run.json'} --resume --workers 2" in said
    assert not any(".partial" in path.name for path in run.rglob("*"))


def test_an_unreadable_clip_in_the_middle_fails_alone(
    own_gopro: Path, tmp_path: Path, command: Start
) -> None:
    image = sorted((own_gopro / "train" / "B_10_00").iterdir())[2]
    image.write_bytes(image.read_bytes()[:100])
    run = tmp_path / "run"
    process = command("simulate", "gopro", own_gopro, "-o", run, "--workers", 2, "--json")
    out, said = process.communicate(timeout=60)
    assert process.returncode == 3, said
    assert f"train/B_10_00 failed: {image}" in said.replace("cannot read ", "")
    result = json.loads(out)
    assert (result["done"], result["failed"]) == (2, 1)
    assert sorted(path.stem for path in run.rglob("*.h5")) == ["C_2", "D_00"]
    assert latest_records(run)["train/B_10_00"].attempts == 2


def test_a_file_too_large_for_the_disk_fails_its_clip_and_leaves_nothing(
    own_gopro: Path, make_clip: Callable[..., Path], tmp_path: Path, command: Start
) -> None:
    make_clip(own_gopro / "train" / "Z_long", frames=40)
    run = tmp_path / "run"
    limit = 1_450_000 + 40 * 28 * 3 * 20

    def small_files_only() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = command("simulate", "gopro", own_gopro, "-o", run, preexec_fn=small_files_only)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 3, said
    assert "train/Z_long failed" in said
    assert "file too large" in said
    assert sorted(path.name for path in run.rglob("*.h5")) == ["B_10_00.h5", "C_2.h5", "D_00.h5"]
    assert not any(".partial" in path.name for path in run.rglob("*"))


def test_a_worker_that_is_killed_costs_one_attempt(
    gopro: Path, serial: Path, tmp_path: Path, command: Start, output_bytes: Bytes
) -> None:
    run = tmp_path / "run"
    process = command("simulate", "gopro", gopro, "-o", run, "--workers", 2)
    names: set[str] = set()
    wait_for(lambda: bool(names.update(unfinished(run)) or names))
    os.kill(int(names.pop().split("~")[1]), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert max(record.attempts for record in latest_records(run).values()) == 2
    assert output_bytes(run) == output_bytes(serial)
