"""Which jobs a run does, skips, repeats and records. The work is a stand-in that writes a few bytes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evsim.errors import ConfigError, InputError, RunError
from evsim.files import file_sha256
from evsim.pipelines.runs.description import recorded_run
from evsim.pipelines.runs.executors import Outcome, Processes
from evsim.pipelines.runs.job import JobRecord, failed_record, now, run_job, written_output
from evsim.pipelines.runs.manifest import latest_records
from evsim.pipelines.runs.run import RunOptions, RunResult, execute_run
from evsim.pipelines.runs.run_folder import RunFolder, Shard
from evsim.pipelines.runs.simulation import SimulationRun, describe_run
from evsim.pipelines.runs.simulation_job import SimulationJob
from evsim.pipelines.simulate import simulate_clip

RESUME = RunOptions(resume=True)
VERIFY = RunOptions(resume=True, verify=True)


def write_a_little(job: SimulationJob) -> JobRecord:
    (name,) = job.outputs
    (job.folder / name).parent.mkdir(parents=True, exist_ok=True)
    (job.folder / name).write_text(f"{job.name} {job.config.seed} {job.config.sensor.cutoff_hz}")
    return JobRecord(
        name=job.name,
        status="done",
        outputs=(written_output(job.folder, name),),
        fingerprint=job.fingerprint(),
        content=job.content(),
        facts={**job.blank_facts, "events": 1, "parameters": {"drawn": job.drawn}},
        finished=now(),
    )


class Work:
    """Counts what it is asked for and fails where told."""

    def __init__(self, *, failing: tuple[str, ...] = (), times: int = 99, **fields: Any) -> None:
        self.done: list[str] = []
        self._left = dict.fromkeys(failing, times)
        self._fields = fields

    def __call__(self, job: SimulationJob) -> JobRecord:
        self.done.append(job.name)
        if self._left.get(job.name, 0):
            self._left[job.name] -= 1
            return failed_record(job, "it would not", **self._fields)
        return write_a_little(job)


Go = Callable[..., RunResult]


@pytest.fixture
def description(own_gopro: Path) -> SimulationRun:
    return describe_run("gopro", own_gopro)


@pytest.fixture
def go(description: SimulationRun, tmp_path: Path) -> Go:
    """Carry out the run, or another description, into one folder."""

    def run(options: RunOptions | None = None, work: Any = write_a_little, **other: Any) -> RunResult:
        return execute_run(other.pop("what", description), tmp_path / "run", options, work=work, **other)

    return run


def first_image(root: Path, clip: str) -> Path:
    return min((root / clip).iterdir())


def test_outputs_mirror_the_names_of_the_clips(go: Go, tmp_path: Path) -> None:
    result = go()
    run = tmp_path / "run"
    assert result.complete
    assert (result.jobs, len(result.records), result.skipped) == (3, 3, 0)
    assert sorted(path.relative_to(run).as_posix() for path in run.rglob("*.h5")) == [
        "test/D_00.h5",
        "train/B_10_00.h5",
        "train/C_2.h5",
    ]
    lines = [json.loads(line) for line in (run / "manifest.jsonl").read_text().splitlines()]
    assert [line["clip"] for line in lines] == ["test/D_00", "train/B_10_00", "train/C_2"]
    assert all(line["checksum"] == file_sha256(run / line["output"]) for line in lines)


def test_run_json_says_what_was_run_where_and_with_which_versions(go: Go, tmp_path: Path) -> None:
    go()
    tree = json.loads((tmp_path / "run" / "run.json").read_text())
    assert tree["recipe"] == "gopro"
    assert tree["configuration"]["upsample"]["factor"] == 8
    assert tree["configuration"]["isp"]["variant"] == "sim2real"
    assert tree["clips"] == ["test/D_00", "train/B_10_00", "train/C_2"]
    (entry,) = tree["invocations"]
    assert entry["executor"] == {"name": "serial", "workers": 1}
    assert entry["outcome"] == "finished"
    assert entry["started"] < entry["ended"]
    assert {"evsim", "python", "numpy"} <= set(entry["versions"])
    assert entry["machine"]["host"]


def test_a_folder_with_a_run_is_neither_mixed_nor_replaced_unasked(go: Go, tmp_path: Path) -> None:
    go()
    with pytest.raises(InputError, match="--resume finishes it, --overwrite replaces it"):
        go()
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(InputError, match="no run folder"):
        go(RunOptions(overwrite=True))


def test_resume_does_what_is_missing_and_nothing_else(go: Go, tmp_path: Path) -> None:
    go(work=Work(failing=("train/C_2",)))
    (tmp_path / "run" / "train" / "B_10_00.h5").unlink()
    work = Work()
    result = go(RESUME, work)
    assert work.done == ["train/B_10_00", "train/C_2"]
    assert result.skipped == 1
    assert result.redone == {"train/B_10_00": "its output is missing"}
    again = Work()
    assert go(RESUME, again).skipped == 3
    assert again.done == []


def test_resume_in_an_empty_place_begins(go: Go) -> None:
    assert go(RESUME).complete


def test_a_changed_configuration_is_refused_field_by_field(
    go: Go, own_gopro: Path, description: SimulationRun
) -> None:
    go()
    other = describe_run(
        "gopro", own_gopro, overrides=("sensor.cutoff_hz=300", "isp.low_light_factor=4"), options={"seed": 5}
    )
    with pytest.raises(InputError) as caught:
        go(RESUME, what=other)
    for change in ("sensor.cutoff_hz: 1000.0 -> 300", "isp.low_light_factor: 1.0 -> 4", "seed: 0 -> 5"):
        assert change in str(caught.value)
    assert "upsample" not in str(caught.value)
    assert go(RESUME, what=description).skipped == 3


def test_a_changed_input_is_done_again_and_reported(go: Go, own_gopro: Path) -> None:
    go()
    image = first_image(own_gopro, "train/C_2")
    image.write_bytes(image.read_bytes() + b" ")
    said: list[str] = []
    result = go(RESUME, say=said.append)
    assert result.redone == {"train/C_2": "its input has changed"}
    assert result.skipped == 2
    assert said == ["train/C_2 is done again: its input has changed"]


def test_a_frame_more_is_a_changed_input(go: Go, own_gopro: Path) -> None:
    go()
    image = first_image(own_gopro, "train/C_2")
    (image.parent / "999999.png").write_bytes(image.read_bytes())
    assert set(go(RESUME).redone) == {"train/C_2"}


def test_verify_tells_changed_content_from_changed_times(go: Go, own_gopro: Path) -> None:
    go()
    touched, changed = (first_image(own_gopro, clip) for clip in ("train/C_2", "train/B_10_00"))
    os.utime(touched, (1, 1))
    status = changed.stat()
    data = bytearray(changed.read_bytes())
    data[-20] ^= 1
    changed.write_bytes(data)
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert set(go(VERIFY).redone) == {"train/B_10_00"}


def test_verify_finds_an_output_that_was_tampered_with(go: Go, tmp_path: Path) -> None:
    go()
    output = tmp_path / "run" / "train" / "C_2.h5"
    output.write_text(output.read_text().swapcase())
    assert go(RESUME).skipped == 3
    assert go(VERIFY).redone == {"train/C_2": "its output is not what was written"}


def test_a_data_set_may_be_moved(go: Go, own_gopro: Path, tmp_path: Path) -> None:
    go()
    moved = own_gopro.rename(tmp_path / "elsewhere")
    assert go(RESUME, what=describe_run("gopro", moved)).skipped == 3


def test_a_clip_that_has_gone_is_reported_and_its_output_left(
    go: Go, own_gopro: Path, tmp_path: Path
) -> None:
    go()
    (own_gopro / "train" / "C_2").rename(tmp_path / "C_2")
    said: list[str] = []
    assert go(RESUME, say=said.append).jobs == 2
    assert "train/C_2 is no longer under" in said[0]
    assert (tmp_path / "run" / "train" / "C_2.h5").exists()


def test_overwrite_replaces_the_run_and_leaves_what_is_not_its_own(
    go: Go, own_gopro: Path, tmp_path: Path
) -> None:
    go()
    run = tmp_path / "run"
    (run / "notes.txt").write_text("mine")
    fewer = describe_run("folders", own_gopro / "train", fps=30)
    result = go(RunOptions(overwrite=True), what=fewer)
    assert result.jobs == 2
    assert sorted(path.relative_to(run).as_posix() for path in run.rglob("*.h5")) == ["B_10_00.h5", "C_2.h5"]
    assert sorted(latest_records(run)) == ["B_10_00", "C_2"]
    assert (run / "notes.txt").read_text() == "mine"


def test_a_failing_job_is_tried_again_then_recorded_and_the_others_go_on(go: Go, tmp_path: Path) -> None:
    work = Work(failing=("test/D_00",))
    result = go(work=work)
    assert work.done == ["test/D_00", "train/B_10_00", "train/C_2", "test/D_00"]
    assert result.failures == {"test/D_00": "it would not"}
    assert not result.complete
    record = latest_records(tmp_path / "run")["test/D_00"]
    assert (record.status, record.attempts, record.error) == ("failed", 2, "it would not")


def test_a_job_that_fails_once_is_done(go: Go) -> None:
    result = go(work=Work(failing=("train/C_2",), times=1))
    assert result.complete
    assert {record.name: record.attempts for record in result.records}["train/C_2"] == 2


def test_retries_can_be_switched_off(go: Go) -> None:
    work = Work(failing=("train/C_2",), times=1)
    assert set(go(RunOptions(retries=0), work).failures) == {"train/C_2"}
    assert len(work.done) == 3


def test_a_full_disk_stops_the_run_and_resume_finishes_it(go: Go) -> None:
    work = Work(failing=("train/B_10_00",), stops_run=True)
    result = go(work=work)
    assert work.done == ["test/D_00", "train/B_10_00"]
    assert result.not_started == 1
    assert result.stopped == "it would not"
    assert not result.complete
    rest = Work()
    assert go(RESUME, rest).complete
    assert rest.done == ["train/B_10_00", "train/C_2"]


def test_an_error_of_a_full_disk_is_recognised(
    description: SimulationRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RunError("disk full") from error

    monkeypatch.setattr("evsim.pipelines.runs.simulation_job.simulate_clip", refuse)
    result = execute_run(description, tmp_path / "run", work=run_job)
    assert (len(result.records), result.not_started, result.stopped) == (1, 2, "disk full")


def test_an_input_that_changes_while_it_is_read_fails_the_job(
    description: SimulationRun, own_gopro: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(*arguments: Any, **options: Any) -> Any:
        result = simulate_clip(*arguments, **options)
        for image in own_gopro.rglob("000001.png"):
            image.write_bytes(image.read_bytes() + b" ")
        return result

    monkeypatch.setattr("evsim.pipelines.runs.simulation_job.simulate_clip", change)
    result = execute_run(description, tmp_path / "run", RunOptions(retries=0))
    assert all("changed while it was read" in error for error in result.failures.values())
    assert len(result.failures) == 3
    assert not list((tmp_path / "run").rglob("*.h5"))


def test_other_versions_are_reported(go: Go, tmp_path: Path) -> None:
    go()
    path = tmp_path / "run" / "run.json"
    tree = json.loads(path.read_text())
    tree["invocations"][0]["versions"]["numpy"] = "0.9"
    path.write_text(json.dumps(tree))
    said: list[str] = []
    go(RESUME, say=said.append)
    assert said[0].startswith("continued with other versions (numpy: 0.9 -> ")


def test_the_largest_clips_begin_first_where_several_run_at_a_time(
    go: Go, own_gopro: Path, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    make_clip(own_gopro / "train" / "Z_long", frames=9)
    serial, parallel = DyingExecutor(""), DyingExecutor("")
    parallel.workers = 2
    assert next(iter(go(executor=serial).records)).name == "test/D_00"
    assert next(iter(go(RunOptions(overwrite=True), executor=parallel).records)).name == "train/Z_long"


def test_two_runs_in_one_folder_are_refused_with_the_holder_named(go: Go, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        with pytest.raises(RunError, match=f"in use by process {os.getpid()} on "):
            go()
    assert go().complete


def test_a_lock_file_without_a_holder_is_no_lock(go: Go, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text('{"host": "gone", "pid": 1, "since": "long ago"}')
    assert go().complete


def test_shards_divide_the_clips_and_share_the_folder(go: Go, tmp_path: Path) -> None:
    first = go(RunOptions(shard=Shard(1, 2)))
    second = go(RunOptions(shard=Shard(2, 2)))
    clips = [[record.name for record in result.records] for result in (first, second)]
    assert clips == [["test/D_00", "train/C_2"], ["train/B_10_00"]]
    run = tmp_path / "run"
    assert {path.name for path in run.glob("manifest*")} == {
        "manifest-1-of-2.jsonl",
        "manifest-2-of-2.jsonl",
    }
    assert go(RESUME).skipped == 3
    with pytest.raises(InputError, match="--resume finishes it"):
        go(RunOptions(shard=Shard(1, 2)))
    with pytest.raises(InputError, match="other shards"):
        go(RunOptions(shard=Shard(1, 2), overwrite=True))


def test_shards_of_one_split_run_together_and_no_others(go: Go, tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", Shard(1, 2)).locked():
        assert go(RunOptions(shard=Shard(2, 2))).complete
        for other in (Shard(1, 2), Shard(1, 3), None):
            with pytest.raises(RunError, match="in use by process"):
                go(RunOptions(shard=other, resume=True))


def test_a_shard_of_another_configuration_is_refused(go: Go, own_gopro: Path) -> None:
    go(RunOptions(shard=Shard(1, 2)))
    other = describe_run("gopro", own_gopro, options={"seed": 1})
    with pytest.raises(InputError, match="seed: 0 -> 1"):
        go(RunOptions(shard=Shard(2, 2)), what=other)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2"])
def test_a_wrong_shard_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected i/n"):
        Shard.parse(text)


def test_temporaries_of_dead_runs_are_removed_whichever_host_left_them(go: Go, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "train"
    stale = folder / ".C_2.h5.some-node~12~0123abcd.partial.h5"

    def leave_and_write(job: SimulationJob) -> JobRecord:
        record = write_a_little(job)
        stale.parent.mkdir(exist_ok=True)
        stale.touch()
        return record

    go(work=leave_and_write)
    assert not stale.exists()
    stale.touch()
    go(RESUME)
    assert not stale.exists()


def test_an_interrupted_run_says_so_and_resumes(go: Go, tmp_path: Path) -> None:
    def stop_at_second(job: SimulationJob) -> JobRecord:
        if job.name == "train/B_10_00":
            raise KeyboardInterrupt
        return write_a_little(job)

    with pytest.raises(KeyboardInterrupt):
        go(work=stop_at_second)
    tree = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [entry["outcome"] for entry in tree["invocations"]] == ["KeyboardInterrupt"]
    assert (go(RESUME).skipped, len(latest_records(tmp_path / "run"))) == (1, 3)


def test_a_manifest_that_cannot_be_written_stops_the_run(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def refuse(descriptor: int, data: bytes) -> int:
        if b'"clip": "train/B' in data:
            return real(descriptor, data[:10])
        return real(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr("evsim.pipelines.runs.manifest.os.write", refuse)
        with pytest.raises(RunError, match=r"cannot record train/B_10_00 .*resume"):
            go()
    assert go(RESUME).skipped == 1


def test_draws_are_made_per_clip_and_recorded(own_gopro: Path, go: Go, tmp_path: Path) -> None:
    random = describe_run("gopro", own_gopro, preset="sim2real-random")
    go(what=random)
    tree = json.loads((tmp_path / "run" / "run.json").read_text())
    assert tree["configuration"]["sensor"]["cutoff_hz"] == "uniform(100, 5000)"
    drawn = [record.facts["parameters"]["drawn"] for record in latest_records(tmp_path / "run").values()]
    cutoffs = {values["sensor.cutoff_hz"] for values in drawn}
    assert len(cutoffs) == 3
    assert all(100 <= cutoff <= 5000 for cutoff in cutoffs)


def test_run_json_alone_describes_the_same_run(go: Go, own_gopro: Path, tmp_path: Path) -> None:
    asked = describe_run(
        "gopro",
        own_gopro,
        preset="sim2real-random",
        overrides=("sensor.cutoff_hz=uniform(200, 300)",),
        options={"seed": 3, "selection": {"crop": (2, 2, 0, 0)}, "frames": "all"},
    )
    go(what=asked)
    repeated = recorded_run(tmp_path / "run" / "run.json")
    assert repeated == asked
    other = tmp_path / "other"
    execute_run(repeated, other, work=write_a_little)
    for path in (tmp_path / "run").rglob("*.h5"):
        assert (other / path.relative_to(tmp_path / "run")).read_bytes() == path.read_bytes()


def test_a_wrong_field_is_refused_before_anything_is_written(own_gopro: Path) -> None:
    with pytest.raises(ConfigError, match="cutof_hz"):
        describe_run("gopro", own_gopro, overrides=("sensor.cutof_hz=3",))


class DyingExecutor:
    """Every worker dies with the job named."""

    name, workers = "dying", 1

    def __init__(self, clip: str) -> None:
        self.clip = clip

    def outcomes(self, work: Any, jobs: Any) -> Any:
        for job in jobs:
            yield Outcome(job, None, "killed") if job.name == self.clip else Outcome(job, work(job))


def test_a_job_whose_worker_dies_is_recorded_as_failed(go: Go) -> None:
    result = go(executor=DyingExecutor("train/C_2"))
    assert result.failures == {"train/C_2": "killed"}
    assert len(result.records) == 3


def test_the_executor_does_not_change_what_is_recorded(go: Go, tmp_path: Path) -> None:
    go(executor=Processes(2))
    parallel = latest_records(tmp_path / "run")
    go(RunOptions(overwrite=True))
    serial = latest_records(tmp_path / "run")
    for clip, record in serial.items():
        assert (record.fingerprint, record.outputs) == (parallel[clip].fingerprint, parallel[clip].outputs)


def test_locks_end_with_their_holder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.locked():
        pass
    with (tmp_path / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
