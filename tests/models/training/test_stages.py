"""Stages: a chain of ordinary runs, stopped anywhere and continued, each from the weights before."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file

from evsim import models
from evsim.cli.conventions import Settings
from evsim.cli.train import train
from evsim.errors import ConfigError, InputError
from evsim.models.training.runs import prepare
from evsim.models.training.stages import plan_stages, read_stages, train_stages

pytestmark = pytest.mark.usefixtures("one_thread")
STAGES = [
    {"name": "coarse", "training": {"learning_rate": 0.01}},
    {"name": "cycle", "from": "last", "repeat": 2, "training": {"steps": 3}},
    {"name": "fine", "task": {"loss": "mse"}},
]
FOLDERS = ["01-coarse", "02-cycle", "03-cycle", "04-fine"]


@pytest.fixture
def chain(tree: dict[str, Any]) -> dict[str, Any]:
    return {**tree, "stages": STAGES}


@pytest.fixture(scope="module")
def whole(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain that nothing disturbed."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole") / "chain"
    tree = {
        "network": {"channels": 4, "bins": 3},
        "data": {"train": [str(recording)], "sequences": {"length": 2}},
        "training": {"steps": 4, "device": "cpu", "batch_size": 1},
        "stages": STAGES,
    }
    assert train_stages("firenet", tree, folder).ended == "finished"
    return folder


def stop_at(place: str, step: int) -> Callable[[int, int | None, str], None]:
    seen: list[str] = []

    def report(done: int, total: int | None, note: str) -> None:
        seen.append(note.split()[0])
        if seen.count(place) == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return report


def assert_same_weights(one: Path, other: Path) -> None:
    for stage in FOLDERS:
        for name in ("last.safetensors", "best.safetensors", "metrics.csv"):
            assert (one / stage / name).read_bytes() == (other / stage / name).read_bytes(), (stage, name)


def test_each_stage_is_an_ordinary_run_from_the_weights_before(
    whole: Path, chain: dict[str, Any], tmp_path: Path
) -> None:
    assert sorted(path.name for path in whole.iterdir()) == [*FOLDERS, "config.yaml", "summary.json"]
    last = whole / "03-cycle" / "last.safetensors"
    configs = [yaml.safe_load((whole / stage / "config.yaml").read_text()) for stage in FOLDERS]
    assert [Path(config["initial_weights"]).relative_to(whole).as_posix() for config in configs[1:]] == [
        "01-coarse/last.safetensors",
        "02-cycle/last.safetensors",
        "03-cycle/best.safetensors",
    ]
    assert [config["training"]["steps"] for config in configs] == [4, 3, 3, 4]
    # The same by hand.
    tree = {name: value for name, value in chain.items() if name != "stages"}
    best = last.with_name("best.safetensors")
    run = prepare("firenet", {**tree, "task": {"loss": "mse"}, "initial_weights": str(best)})
    run.train(tmp_path / "run")
    fine = (whole / "04-fine" / "last.safetensors").read_bytes()
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == fine
    summary = json.loads((whole / "summary.json").read_text())
    assert [stage["folder"] for stage in summary["stages"]] == FOLDERS
    assert (summary["ended"], {stage["ended"] for stage in summary["stages"]}) == ("finished", {"finished"})


@pytest.mark.parametrize("place", ["01-coarse", "03-cycle"])
def test_a_chain_goes_on_at_the_stage_where_it_stopped(
    place: str, chain: dict[str, Any], whole: Path, tmp_path: Path
) -> None:
    stopped = train_stages("firenet", chain, tmp_path / "chain", report=stop_at(place, 2))
    assert (stopped.ended, stopped.steps, stopped.stages[-1].folder.name) == ("terminated", 2, place)
    moved = tmp_path / "moved"
    (tmp_path / "chain").rename(moved)
    begun = {path: path.stat().st_mtime_ns for path in moved.glob("*/last.safetensors")}
    resumed = train_stages("firenet", chain, moved, resume=True)
    assert (resumed.ended, len(resumed.stages)) == ("finished", 4)
    assert_same_weights(moved, whole)
    for path, time in begun.items():
        assert (path.stat().st_mtime_ns == time) == (path.parent.name != place)
    again = train_stages("firenet", chain, moved, resume=True)
    assert (again.ended, again.steps) == ("finished", 4)


def test_the_command_trains_stages_and_says_how_to_go_on(
    chain: dict[str, Any], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chain.yaml").write_text(yaml.safe_dump(chain))
    words = ["firenet", "--config", str(tmp_path / "chain.yaml"), "-o", str(tmp_path / "run")]
    plan = CliRunner().invoke(train, [*words, "--dry-run", "--json"], obj=Settings())
    assert plan.exit_code == 0, plan.output
    assert [stage["steps"] for stage in json.loads(plan.stdout).values()] == [4, 3, 3, 4]
    assert not (tmp_path / "run").exists()
    from evsim.cli.conventions import Progress

    stop = stop_at("02-cycle", 1)

    class Signalling(Progress):
        def __call__(self, done: int, total: int | None, note: str = "") -> None:
            stop(done, total, note)

    with monkeypatch.context() as patch:
        patch.setattr("evsim.cli.train.Progress", Signalling)
        stopped = CliRunner().invoke(train, words, obj=Settings())
    assert stopped.exit_code == 143, stopped.output
    assert f"resume with: evsim train firenet --resume -o {tmp_path / 'run'}" in stopped.stderr
    again = ["firenet", "--resume", "-o", str(tmp_path / "run"), "--json"]
    done = CliRunner().invoke(train, again, obj=Settings())
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert list(found["stages"]) == FOLDERS
    assert models.load("firenet", found["weights"]).config.channels == 4
    assert_same_weights(tmp_path / "run", whole)


def test_a_chain_is_replaced_and_not_mixed(chain: dict[str, Any], tmp_path: Path) -> None:
    short = {**chain, "stages": STAGES[:2]}
    train_stages("firenet", short, tmp_path / "chain")
    with pytest.raises(InputError, match="--resume to continue or --overwrite"):
        train_stages("firenet", short, tmp_path / "chain")
    for changed in ({"training": {**chain["training"], "steps": 9}}, {"stages": STAGES[:1]}):
        with pytest.raises(InputError, match="stages keep the steps"):
            train_stages("firenet", {**short, **changed}, tmp_path / "chain", resume=True)
    moved = {**short, "training": {**chain["training"], "workers": 1}}
    assert train_stages("firenet", moved, tmp_path / "chain", resume=True).ended == "finished"
    other = {**short, "training": {**chain["training"], "seed": 3}}
    stopped = train_stages(
        "firenet", other, tmp_path / "chain", overwrite=True, report=stop_at("01-coarse", 1)
    )
    assert stopped.ended == "terminated"
    before = load_file(tmp_path / "chain" / "01-coarse" / "last.safetensors")
    # What the replaced chain had finished is not taken for a stage of this one.
    assert train_stages("firenet", other, tmp_path / "chain", resume=True).ended == "finished"
    config = yaml.safe_load((tmp_path / "chain" / "03-cycle" / "config.yaml").read_text())
    assert config["training"]["seed"] == 3
    assert before.keys() == load_file(tmp_path / "chain" / "01-coarse" / "last.safetensors").keys()


def test_a_stage_replaces_parts_of_the_weights_before(chain: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(4)
    part = models.save(models.create("firenet", channels=4, bins=3), tmp_path / "part.safetensors")
    frozen = {"training": {"learning_rate": 0.0}, "initial_weights": {"recurrent2": str(part)}}
    tree = {**chain, "stages": [STAGES[0], {"name": "two", **frozen}]}
    train_stages("firenet", tree, tmp_path / "chain")
    first, second = (
        load_file(tmp_path / "chain" / name / "best.safetensors") for name in ("01-coarse", "02-two")
    )
    given = load_file(part)
    for key, value in second.items():
        assert torch.equal(value, (given if key.startswith("recurrent2.") else first)[key]), key


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ({"name": "x"}, "expected a list of stages"),
        ([{"training": {}}], r"stages\[0\] = .* expected a mapping with a name"),
        ([{"name": "a/b"}], r"stages\[0\]\.name = 'a/b'"),
        ([{"name": "a", "from": "first"}], r"stages\[0\]\.from = 'first', expected best or last"),
        ([{"name": "a", "repeat": 0}], r"stages\[0\]\.repeat = 0"),
        ([{"name": "a", "model": {}}], r"unknown field 'model' of stages\[0\]"),
    ],
)
def test_stages_that_cannot_be_are_refused(stages: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_stages({"stages": stages})


def test_without_stages_there_are_none(tree: dict[str, Any]) -> None:
    assert read_stages(tree) == []
    assert plan_stages("firenet", tree) == {}
