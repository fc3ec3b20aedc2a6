"""The machinery of runs with a verb that has nothing to do with simulating: folders and files as outputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from letter_runs import LetterRun

from evsim.errors import FormatError, InputError
from evsim.files import file_sha256
from evsim.pipelines.runs.description import VERBS, JobList, recorded_run
from evsim.pipelines.runs.executors import Executor, Processes, Serial
from evsim.pipelines.runs.manifest import latest_records
from evsim.pipelines.runs.planning import plan_run
from evsim.pipelines.runs.run import RunOptions, execute_run, resume_command
from evsim.pipelines.runs.run_folder import Shard
from evsim.pipelines.runs.simulation import describe_run

RESUME = RunOptions(resume=True)
VERIFY = RunOptions(resume=True, verify=True)


@pytest.fixture(autouse=True)
def _verb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the verb known while a test runs."""
    monkeypatch.setitem(VERBS._entries, "letters", lambda: LetterRun)


@pytest.fixture
def description(tmp_path: Path) -> LetterRun:
    root = tmp_path / "texts"
    for name, text in (("a", "abba"), ("b/c", "cab"), ("b/d", "dddd")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.txt").write_text(text)
    return LetterRun(root=root)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def written(run: Path) -> dict[str, str]:
    """Every file of every output and its content."""
    own = ("run.json", "manifest.jsonl", ".lock", ".lock-settling")
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.name not in own]
    return {path.relative_to(run).as_posix(): path.read_text() for path in files}


@pytest.mark.parametrize("executor", [Serial(), Processes(2)], ids=["serial", "processes"])
def test_files_and_folders_are_written_and_recorded(
    executor: Executor, description: LetterRun, run: Path
) -> None:
    told: list[str] = []
    result = execute_run(
        description, run, executor=executor, report=lambda done, total, words: told.append(words)
    )
    assert written(run) == {
        "a.json": '{"a": 2, "b": 2}',
        "a.letters/letters/a": "aa",
        "a.letters/letters/b": "bb",
        "b/c.json": '{"a": 1, "b": 1, "c": 1}',
        "b/c.letters/letters/a": "a",
        "b/c.letters/letters/b": "b",
        "b/c.letters/letters/c": "c",
        "b/d.json": '{"d": 4}',
        "b/d.letters/letters/d": "dddd",
    }
    assert sorted(told) == ["a: 4 letters", "b/c: 3 letters", "b/d: 4 letters"]
    summary = result.summary()
    assert (summary["texts"], summary["done"], summary["letters"]) == (3, 3, 11)
    record = latest_records(run)["a"]
    assert record.facts == {"letters": 4}
    assert [(output.name, output.bytes) for output in record.outputs] == [("a.letters", 4), ("a.json", 16)]
    assert record.outputs[1].checksum == file_sha256(run / "a.json")
    line = json.loads((run / "manifest.jsonl").read_text().splitlines()[0])
    assert list(line)[:8] == [
        "clip",
        "status",
        "output",
        "fingerprint",
        "content",
        "bytes",
        "checksum",
        "further_outputs",
    ]


def test_run_json_of_any_verb_is_read_back(description: LetterRun, run: Path) -> None:
    execute_run(description, run)
    assert json.loads((run / "run.json").read_text())["verb"] == "letters"
    assert recorded_run(run / "run.json") == description
    assert resume_command("letters", run, RunOptions(shard=Shard(1, 2)), 3) == (
        f"evsim letters --config {run}/run.json --resume --shard 1/2 --workers 3"
    )


def test_a_run_of_a_verb_that_is_not_there_is_refused_by_name(description: LetterRun, run: Path) -> None:
    execute_run(description, run)
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace('"letters"', '"lettres"'))
    with pytest.raises(FormatError, match="unknown verb of a run 'lettres'"):
        recorded_run(run / "run.json")


def test_a_run_is_resumed(description: LetterRun, run: Path) -> None:
    (description.root / "b" / "c.txt").write_text("refuse")
    failed = execute_run(description, run, RunOptions(retries=0))
    assert failed.failures == {"b/c": f"{description.root}/b/c.txt would not"}
    assert latest_records(run)["b/c"].facts == {"letters": 0}
    assert not (run / "b" / "c.letters").exists()
    (description.root / "b" / "c.txt").write_text("cab")
    shutil.rmtree(run / "a.letters")
    (run / "b" / "d.letters" / "letters" / "more").write_text("!")
    result = execute_run(description, run, RESUME)
    assert result.redone == {
        "a": "its output is missing",
        "b/d": "its output is not what was written",
    }
    assert sorted(record.name for record in result.records) == ["a", "b/c", "b/d"]
    assert execute_run(description, run, RESUME).skipped == 3


@pytest.mark.parametrize("change", ["rename", "swap"])
def test_verify_compares_names_and_contents_in_folders(
    change: str, description: LetterRun, run: Path
) -> None:
    execute_run(description, run)
    letters = run / "a.letters" / "letters"
    if change == "rename":
        (letters / "b").rename(letters / "c")
    else:
        (letters / "b").write_text("cc")
    assert execute_run(description, run, RESUME).skipped == 3
    assert execute_run(description, run, VERIFY).redone == {"a": "its output is not what was written"}
    assert execute_run(description, run, VERIFY).skipped == 3


def test_a_worker_that_dies_costs_its_own_job(description: LetterRun, run: Path) -> None:
    (description.root / "b" / "c.txt").write_text("die")
    result = execute_run(description, run, RunOptions(retries=1), executor=Processes(2))
    assert list(result.failures) == ["b/c"]
    assert "SIGKILL" in result.failures["b/c"]
    assert latest_records(run)["b/c"].attempts == 2


def test_temporary_folders_of_dead_runs_are_removed(description: LetterRun, run: Path) -> None:
    stale = run / "b" / ".c.letters.some-node~12~0123abcd.partial.letters"
    others = run / "b" / ".other.letters.some-node~12~0123abcd.partial.letters"
    execute_run(description, run)
    for folder in (stale, others):
        (folder / "letters").mkdir(parents=True)
    execute_run(description, run, RESUME)
    assert not stale.exists()
    assert others.exists()


def test_what_decides_the_outputs_may_not_change(description: LetterRun, run: Path) -> None:
    execute_run(description, run)
    with pytest.raises(InputError, match=r"upper: False -> True.*evsim letters --config"):
        execute_run(description.with_upper(), run, RESUME)
    execute_run(description.with_upper(), run, RunOptions(overwrite=True))
    assert written(run)["b/d.json"] == '{"D": 4}'
    assert "b/d.letters/letters/d" not in written(run)


def test_a_run_of_another_verb_is_not_continued(description: LetterRun, run: Path, own_gopro: Path) -> None:
    execute_run(description, run)
    with pytest.raises(InputError, match="a run of evsim letters, not of evsim simulate"):
        execute_run(describe_run("gopro", own_gopro), run, RESUME)


def test_a_plan_says_what_the_verb_estimates(description: LetterRun, run: Path) -> None:
    plan = plan_run(description, run)
    assert (plan["texts"], plan["to_do"], plan["estimated_letters"]) == (3, 3, 11)
    assert plan["notes"] == ["one note"]
    assert not run.exists()


def test_names_that_lead_out_of_the_run_are_refused(
    description: LetterRun, run: Path, tmp_path: Path
) -> None:
    execute_run(description, run)
    (tmp_path / "x.json").write_text("mine")
    tree = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**tree, "clips": ["a", "../x"]}))
    with pytest.raises(FormatError, match=r"'\.\./x\.letters', which lies outside"):
        execute_run(description, run, RunOptions(overwrite=True))
    assert (tmp_path / "x.json").read_text() == "mine"
    assert (run / "a.json").exists()


class Twice(LetterRun):
    """Lists its first text again at the end."""

    def jobs(self, folder: Path) -> JobList:
        listed = super().jobs(folder)
        return JobList([*listed.names, listed.names[0]], listed.job)


def test_two_jobs_of_one_name_are_refused(description: LetterRun, run: Path) -> None:
    with pytest.raises(InputError, match="gives the text a more than once"):
        execute_run(Twice(root=description.root), run)
    assert not run.exists()
