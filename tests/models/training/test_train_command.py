"""`evsim train`: simulated recordings to a network that reconstructs; killed, resumed, on two processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from safetensors.torch import load_file

import evsim
from evsim import models
from evsim.cli.conventions import Progress, Settings
from evsim.cli.train import train
from evsim.errors import ConfigError, InputError
from evsim.formats import NativeWriter, open_events
from evsim.formats.storage.windows import windows_between_images
from evsim.models import registry
from evsim.models.firenet.task import TASK, FireNetTaskConfig, LossName
from evsim.models.prediction.parts import predictor_of
from evsim.models.prediction.predictor import predict
from evsim.models.prediction.scene import Scene

ROOT = Path(__file__).resolve().parents[3]
FILES = ("best.safetensors", "last.safetensors", "metrics.csv", "state.safetensors")
SMALL = {
    "network": {"channels": 4, "bins": 3},
    "data": {"sequences": {"length": 4, "augmentation": {"crop": [24, 24]}}},
    "training": {"log_every": 5, "validate_every": 10, "checkpoint_every": 5, "device": "cpu", "pictures": 1},
}
SCRIPT = """
from evsim.cli.main import cli, main
from evsim.cli.train import train
cli.add_command(train)
if __name__ == "__main__":
    main()
"""


@dataclass(frozen=True, kw_only=True)
class SquaresConfig(FireNetTaskConfig):
    """The squared error unless told otherwise."""

    loss: LossName = "mse"


SQUARES = replace(TASK, config=SquaresConfig)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated clips, two in train/ and one in val/, each with an image every 10 ms; and config.json."""
    root = tmp_path_factory.mktemp("clips")
    for seed, name in enumerate(("train/a.h5", "train/b.h5", "val/c.h5")):
        rs = np.random.RandomState(seed)
        texture = cv2.GaussianBlur(rs.randn(32, 66), (0, 0), 3.0)
        texture = np.clip(120 + 60 * texture / texture.std(), 10, 250).astype(np.uint8)
        frames = np.stack([texture[:, 2 * k : 2 * k + 40] for k in range(13)])
        times = np.arange(len(frames)) * 10_000_000
        (root / name).parent.mkdir(exist_ok=True)
        with NativeWriter(root / name, 40, 32) as writer:
            writer.append(evsim.simulate(frames, times, preset="ideal"))
            for frame, t in zip(frames, times):
                writer.append_image(frame, t / 1000)
    (root / "config.json").write_text(json.dumps(SMALL))
    return root


Invoke = Callable[..., Result]


@pytest.fixture
def invoke(clips: Path) -> Invoke:
    def call(*arguments: Any) -> Result:
        words = ["firenet", str(clips / "train"), "--validation", str(clips / "val")]
        words += ["--config", str(clips / "config.json"), *map(str, arguments)]
        return CliRunner().invoke(train, words, obj=Settings())

    return call


@pytest.fixture(scope="module")
def whole(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps that nothing disturbed."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole") / "run"
    words = ["firenet", str(clips / "train"), "--validation", str(clips / "val"), "-o", str(folder)]
    words += ["--config", str(clips / "config.json"), "--steps", "20"]
    done = CliRunner().invoke(train, words, obj=Settings())
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def start(tmp_path: Path, clips: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start `evsim train firenet` in a process of its own."""
    script = tmp_path / "the_command.py"
    script.write_text(SCRIPT)

    def call(*arguments: Any) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(script), "train", "firenet", *map(str, arguments)]
        return subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
        )

    return call


def wait_for_step(process: subprocess.Popen[str], folder: Path, step: int) -> None:
    """Until metrics.csv has a row of that step, or the process ended."""
    path, deadline = folder / "metrics.csv", time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and any(line.startswith(f"{step},") for line in path.read_text().splitlines()):
            return
        time.sleep(0.005)
    process.kill()
    raise TimeoutError(process.communicate()[1])


def test_a_small_network_learns_simulated_scenes(invoke: Invoke, clips: Path, tmp_path: Path) -> None:
    done = invoke("-o", tmp_path / "run", "--steps", 60, "--set", "training.learning_rate=0.01")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    losses = [float(r["value"]) for r in rows if (r["phase"], r["metric"]) == ("validation", "mse")]
    with open_events(clips / "val" / "c.h5") as recording:
        images = np.stack([image.image for image in recording.images()]) / 255
        flat = np.mean((images - images.mean()) ** 2)
        network = models.load("firenet", tmp_path / "run" / "best.safetensors")
        scene = Scene(recording=recording, windows=lambda: windows_between_images(recording))
        found = [one.image for one in predict(predictor_of(network), scene)]
    correlations = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(found[3:], images[4:])]
    # A grey image has no correlation and the error `flat`: the scene of another clip was learned to be seen.
    assert np.mean(correlations) > 0.4, correlations
    assert min(losses) < 0.6 * flat
    assert f"--weights {tmp_path / 'run' / 'best.safetensors'}" in done.output
    assert "best loss" in done.output


def test_the_plan_says_sizes_and_writes_nothing(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("-o", tmp_path / "run", "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["train_samples"], found["validation_samples"], found["trained_parameters"]) == (6, 3, 2461)
    assert found["batch"]["voxels"] == "float32 (2, 4, 3, 24, 24)"
    assert found["loss_of_first_part"] > 0
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_named(invoke: Invoke, clips: Path, whole: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "run")
    assert isinstance(invoke(*out, "--set", "training.stepps=3").exception, ConfigError)
    assert "'data.sequence' (did you mean 'sequences'?)" in str(
        invoke(*out, "--set", "data.sequence.length=3").exception
    )
    assert "unknown section 'model'" in str(invoke(*out, "--set", "model.bins=3").exception)
    assert "windows have no images" in str(
        invoke(*out, "--set", "data.sequences.windows={kind: k_events, events: 100}").exception
    )
    assert "no sequence of 90 windows" in str(invoke(*out, "--set", "data.sequences.length=90").exception)
    assert isinstance(invoke("-o", whole).exception, InputError)
    runner = CliRunner()
    assert runner.invoke(train, ["firenet", str(clips)], obj=Settings()).exit_code == 2
    assert runner.invoke(train, ["firenet", "-o", str(tmp_path), "--resume"], obj=Settings()).exit_code == 2
    unknown = runner.invoke(train, ["firenett", str(clips), "-o", "x"], obj=Settings())
    assert "did you mean 'firenet'" in str(unknown.exception)
    nothing = runner.invoke(train, ["firenet", "-o", str(tmp_path / "run")], obj=Settings())
    assert "data.train names no recording" in str(nothing.exception)


def test_a_run_starts_from_given_weights(invoke: Invoke, whole: Path, tmp_path: Path) -> None:
    best = whole / "best.safetensors"
    done = invoke(
        "-o", tmp_path / "run", "--weights", best, "--steps", 1, "--set", "training.learning_rate=0"
    )
    assert done.exit_code == 0, done.output
    found, wanted = (load_file(path) for path in (tmp_path / "run" / "last.safetensors", best))
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert f"initial_weights: {best}" in (tmp_path / "run" / "config.yaml").read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_says_how_to_resume_and_the_rest_is_the_same(
    number: int, code: int, invoke: Invoke, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Signalling(Progress):
        def __call__(self, done: int, total: int | None, note: str = "") -> None:
            if done == 10:
                os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr("evsim.cli.train.Progress", Signalling)
        stopped = invoke("--steps", 20, "-o", tmp_path / "run", "--json")
    assert stopped.exit_code == code, stopped.output
    assert f"resume with: evsim train firenet --resume -o {tmp_path / 'run'}" in stopped.stderr
    assert json.loads(stopped.stdout)["steps"] == 10
    assert_resumes_to(whole, tmp_path / "run")


def assert_resumes_to(whole: Path, folder: Path) -> None:
    done = CliRunner().invoke(train, ["firenet", "--resume", "-o", str(folder)], obj=Settings())
    assert done.exit_code == 0, done.output
    for name in FILES:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list(folder.rglob("*.partial*"))


def test_a_killed_run_is_resumed_bit_for_bit(start: Any, clips: Path, whole: Path, tmp_path: Path) -> None:
    words = [clips / "train", "--validation", clips / "val", "--config", clips / "config.json"]
    process = start(*words, "--steps", 20, "-o", tmp_path / "run")
    wait_for_step(process, tmp_path / "run", 10)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert_resumes_to(whole, tmp_path / "run")


def test_two_processes_stop_together_and_give_the_weights_of_one(
    start: Any, clips: Path, whole: Path, tmp_path: Path
) -> None:
    words = [clips / "train", "--validation", clips / "val", "--config", clips / "config.json"]
    process = start(*words, "--steps", 20, "-o", tmp_path / "run", "--devices", 2, "--json")
    wait_for_step(process, tmp_path / "run", 10)
    process.terminate()  # the other one is told by this one
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    # One of them speaks; the Gloo of older torch says there, too, that it is connected.
    assert json.loads(output[output.index("{") :])["ended"] == "terminated"
    assert errors.count("resume with:") == 1
    assert "Traceback" not in errors
    done = CliRunner().invoke(
        train, ["firenet", "--resume", "-o", str(tmp_path / "run"), "--devices", "1"], obj=Settings()
    )
    assert done.exit_code == 0, done.output
    two, one = (load_file(folder / "last.safetensors") for folder in (tmp_path / "run", whole))
    assert max(float((two[key] - one[key]).abs().max()) for key in one) < 1e-6
    texts = [(folder / "metrics.csv").read_text() for folder in (tmp_path / "run", whole)]
    for a, b in zip(*(csv.DictReader(text.splitlines()) for text in texts), strict=True):
        assert (a["step"], a["phase"], a["metric"]) == (b["step"], b["phase"], b["metric"])
        assert float(a["value"]) == pytest.approx(float(b["value"]), abs=1e-6)


def test_a_configuration_is_named_or_a_file(clips: Path, whole: Path, tmp_path: Path) -> None:
    def plan(*words: Any) -> Any:
        known = ["firenet", str(clips / "train"), "--dry-run", "--json", "--set", "data.sequences.length=3"]
        known += ["--set", "data.sequences.augmentation.crop=[16,16]", *map(str, words)]
        done = CliRunner().invoke(train, known, obj=Settings())
        return json.loads(done.stdout) if done.exit_code == 0 else done.exception

    assert plan("--config", "paper")["batch"]["voxels"] == "float32 (2, 3, 5, 16, 16)"
    assert plan("--config", clips / "config.json")["batch"]["voxels"] == "float32 (2, 3, 3, 16, 16)"
    error = plan("--config", "papr")
    assert isinstance(error, ConfigError)
    assert "configuration of firenet (did you mean 'paper'?); it brings: paper" in str(error)
    (tmp_path / "paper").write_text("training: {batch_size: 3}")
    assert plan("--config", tmp_path / "paper")["batch"]["voxels"] == "float32 (3, 3, 5, 16, 16)"


def test_a_task_is_chosen_by_name(
    clips: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = registry.entry("firenet")
    tasks = {**entry.tasks, "squares": f"{__name__}:SQUARES"}
    monkeypatch.setattr("evsim.models.firenet.ENTRY", replace(entry, tasks=tasks))
    words = ["firenet", str(clips / "train"), "--config", str(clips / "config.json"), "--steps", "2"]
    for name, chosen in (("first", []), ("second", ["--task", "squares"])):
        done = CliRunner().invoke(train, [*words, "-o", str(tmp_path / name), *chosen], obj=Settings())
        assert done.exit_code == 0, done.output
    config = [yaml.safe_load((tmp_path / name / "config.yaml").read_text()) for name in ("first", "second")]
    assert ["task_name" in tree for tree in config] == [False, True]
    assert [tree["task"]["loss"] for tree in config] == ["l1", "mse"]
    again = ["firenet", "--resume", "-o", str(tmp_path / "second"), "--steps", "3"]
    assert CliRunner().invoke(train, again, obj=Settings()).exit_code == 0
    refused = CliRunner().invoke(train, [*again, "--task", "pixels"], obj=Settings())
    assert "task_name was 'squares', is" in str(refused.exception)
    unknown = CliRunner().invoke(
        train, [*words, "-o", str(tmp_path / "x"), "--task", "square"], obj=Settings()
    )
    assert "no task 'square' (did you mean 'squares'?); its tasks: pixels, squares" in str(unknown.exception)
