"""The training loop: what a run leaves, that it can be stopped anywhere, and what decides its numbers."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from toy_task import LineTask, Points, line_datasets

from evsim.errors import ConfigError, FormatError, InputError, RunError
from evsim.events import Events
from evsim.models.data.dataset import DrawnDataset, SampleKey, load_sample
from evsim.models.training.configuration import TrainingConfig, learning_rate_factor
from evsim.models.training.finite import FiniteCheck, describe_samples
from evsim.models.training.loop import TrainingResult, train
from evsim.models.training.state_file import read_state, write_state
from evsim.models.training.task import Datasets, Outcome, Task
from evsim.randomness import RandomDraws

FILES = ("best.safetensors", "last.safetensors", "metrics.csv", "state.safetensors")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def config(**fields: Any) -> TrainingConfig:
    usual = {
        "steps": 20,
        "batch_size": 4,
        "learning_rate": 0.02,
        "log_every": 3,
        "validate_every": 7,
        "checkpoint_every": 5,
        "clip_norm": 1.0,
        "schedule": "cosine",
        "warmup_steps": 3,
        "device": "cpu",
    }
    return TrainingConfig(**{**usual, **fields})


def run(folder: Path, *, task: Task | None = None, **options: Any) -> TrainingResult:
    fields = {name: options.pop(name) for name in list(options) if name in TrainingConfig.__annotations__}
    return train(task or LineTask(), line_datasets(), config(**fields), folder, **options)


def metrics(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def stop_at(step: int, number: int = signal.SIGTERM) -> Callable[[int, int, str], None]:
    def report(done: int, total: int, note: str) -> None:
        if done == step:
            os.kill(os.getpid(), number)

    return report


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps that nothing disturbed."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(folder).ended == "finished"
    return folder


def assert_same_run(folder: Path, other: Path) -> None:
    for name in FILES:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    assert {p.name for p in (folder / "pictures").iterdir()} == {
        p.name for p in (other / "pictures").iterdir()
    }


def test_a_run_leaves_weights_state_figures_pictures_and_a_summary(whole: Path) -> None:
    rows = metrics(whole)
    steps = {
        phase: sorted({int(r["step"]) for r in rows if r["phase"] == phase})
        for phase in ("train", "validation")
    }
    assert steps == {"train": [3, 6, 9, 12, 15, 18, 20], "validation": [7, 14, 20]}
    assert {r["metric"] for r in rows if r["phase"] == "train"} == {
        "loss",
        "rmse",
        "gradient_norm",
        "learning_rate",
    }
    losses = {
        int(r["step"]): float(r["value"])
        for r in rows
        if r["phase"] == "validation" and r["metric"] == "loss"
    }
    summary = json.loads((whole / "summary.json").read_text())
    assert (summary["ended"], summary["steps"], summary["monitor"]) == ("finished", 20, "loss")
    assert summary["best"] == min(losses.values()) == losses[summary["best_step"]]
    assert losses[20] < losses[7]
    assert summary["epochs"] == pytest.approx(20 * 4 / 12)
    assert yaml.safe_load((whole / "config.yaml").read_text())["training"]["steps"] == 20
    state = read_state(whole / "state.safetensors")
    last = load_file(whole / "last.safetensors")
    assert all(torch.equal(last[key], value) for key, value in state["network"].items())
    names = [f"step_{step:08d}_{k}.png" for step in (7, 14, 20) for k in range(4)]
    assert sorted(p.name for p in (whole / "pictures").iterdir()) == names
    assert cv2.imread(str(whole / "pictures" / names[0]), cv2.IMREAD_UNCHANGED).tolist()[1] == [153, 204, 255]
    assert not [p for p in whole.rglob("*") if p.name.startswith(".")]


def test_the_same_seed_gives_the_same_run_whatever_the_loader_processes(whole: Path, tmp_path: Path) -> None:
    run(tmp_path / "again", workers=2)
    for name in ("best.safetensors", "last.safetensors", "metrics.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (whole / name).read_bytes()
    run(tmp_path / "other", seed=1)
    assert (tmp_path / "other" / "last.safetensors").read_bytes() != (whole / "last.safetensors").read_bytes()


@pytest.mark.parametrize(("step", "number"), [(10, signal.SIGTERM), (4, signal.SIGINT), (14, signal.SIGTERM)])
def test_stopped_and_resumed_equals_undisturbed(step: int, number: int, whole: Path, tmp_path: Path) -> None:
    stopped = run(tmp_path / "run", report=stop_at(step, number))
    assert stopped.ended == {signal.SIGTERM: "terminated", signal.SIGINT: "interrupted"}[number]
    assert stopped.steps == step
    resumed = run(tmp_path / "run", task=LineTask(), resume=True)
    assert (resumed.ended, resumed.steps) == ("finished", 20)
    assert_same_run(tmp_path / "run", whole)


def test_what_came_after_the_last_state_is_taken_again(whole: Path, tmp_path: Path) -> None:
    class Crash(Exception):
        pass

    def report(done: int, total: int, note: str) -> None:
        if done == 9:
            raise Crash

    with pytest.raises(Crash):
        run(tmp_path / "run", report=report)
    assert [r["step"] for r in metrics(tmp_path / "run")][-1] == "9"
    with (tmp_path / "run" / "metrics.csv").open("a") as file:
        file.write("10,3,train,lo")  # torn by a crash
    run(tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole)


def test_a_signal_before_the_first_step_and_after_the_last(whole: Path, tmp_path: Path) -> None:
    class Impatient(LineTask):
        def validate(self, batch: Any) -> dict[str, torch.Tensor]:
            os.kill(os.getpid(), signal.SIGTERM)
            return super().validate(batch)

    stopped = run(tmp_path / "run", task=Impatient())
    assert (stopped.ended, stopped.steps, stopped.best) == ("terminated", 7, None)
    run(tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole)
    again = run(tmp_path / "run", resume=True)  # nothing is left to do
    assert (again.ended, again.steps) == ("finished", 20)
    assert_same_run(tmp_path / "run", whole)


def test_signals_mean_again_what_they_meant_before(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run(tmp_path / "run", report=stop_at(3, signal.SIGINT))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run(tmp_path / "run", report=stop_at(3, signal.SIGINT), steps=5).ended == "finished"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_accumulated_parts_give_the_step_of_the_whole_batch(tmp_path: Path) -> None:
    for name, parts in (("one", 1), ("four", 4)):
        run(tmp_path / name, task=LineTask(dropout=0.0), accumulation=parts, optimizer="sgd")
    one, four = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "four"))
    for key in one:
        torch.testing.assert_close(one[key], four[key], rtol=0, atol=1e-5)
    for a, b in zip(metrics(tmp_path / "one"), metrics(tmp_path / "four"), strict=True):
        if a["metric"] != "rmse":  # the mean of roots is not the root of the mean
            assert float(a["value"]) == pytest.approx(float(b["value"]), abs=1e-5)


def test_training_goes_on_for_more_steps_but_not_with_other_choices(whole: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", schedule="constant")
    with pytest.raises(InputError, match=r"training\.batch_size was 4, is 2; training\.seed was 0, is 5"):
        run(tmp_path / "run", resume=True, schedule="constant", seed=5, batch_size=2)
    more = run(tmp_path / "run", resume=True, schedule="constant", steps=25, validate_every=100)
    assert (more.ended, more.steps) == ("finished", 25)
    with pytest.raises(InputError, match="training samples was 12, is 11"):
        train(LineTask(), line_datasets(count=11), config(schedule="constant"), tmp_path / "run", resume=True)


def test_a_folder_is_not_overwritten_unasked(whole: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", steps=2)
    with pytest.raises(InputError, match="--resume to continue or --overwrite"):
        run(tmp_path / "run")
    assert run(tmp_path / "run", steps=3, overwrite=True).steps == 3
    assert {int(row["step"]) for row in metrics(tmp_path / "run")} == {3}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(InputError, match="is no training run"):
        run(tmp_path / "other", overwrite=True)
    (tmp_path / "run" / "state.safetensors").write_bytes(b"damaged")
    with pytest.raises(FormatError, match=r"state\.safetensors"):
        run(tmp_path / "run", resume=True)


def test_early_stop_counts_validations_without_improvement(tmp_path: Path) -> None:
    found = run(tmp_path / "run", learning_rate=0.0, validate_every=2, patience=3)
    assert (found.ended, found.steps, found.best_step) == ("early stop", 8, 2)
    assert run(tmp_path / "run", learning_rate=0.0, validate_every=2, patience=3, resume=True).steps == 8
    rise = run(tmp_path / "rise", validate_every=2, monitor="rmse", maximize=True, steps=8)
    assert rise.best_step == 2


def test_without_validation_the_training_loss_decides(tmp_path: Path) -> None:
    found = train(LineTask(), Datasets(Points()), config(), tmp_path / "run")
    assert found.best_step == 20
    assert not found.validation
    assert (tmp_path / "run" / "best.safetensors").is_file()
    with pytest.raises(InputError, match="monitor = 'psnr', but the figures are"):
        run(tmp_path / "other", monitor="psnr")


def test_few_samples_are_overfitted(tmp_path: Path) -> None:
    found = run(
        tmp_path / "run",
        task=LineTask(dropout=0.0),
        overfit=2,
        steps=150,
        schedule="constant",
        clip_norm=None,
    )
    assert found.validation["loss"] < 1e-3
    assert found.epochs == 300


def test_a_loss_that_is_not_finite_ends_the_run_and_spares_the_state(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the loss is inf, .* nan, in step 8, .*learning_rate"):
        run(tmp_path / "run", task=LineTask(poison=8))
    state = read_state(tmp_path / "run" / "state.safetensors")
    assert state["reached"]["step"] == 5
    assert all(torch.isfinite(value).all() for value in state["network"].values())


class Spoilt(DrawnDataset):
    """Points of which the seventh is at infinity."""

    def __len__(self) -> int:
        return 12

    def sample(self, index: int, draws: RandomDraws) -> torch.Tensor:
        return torch.tensor([index / 12, float("inf") if index == 7 else 0.5])

    def describe(self, index: int) -> str:
        return f"clip_{index}.h5 from 0.2 s"


def test_the_sample_that_makes_a_loss_infinite_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        train(LineTask(), Datasets(Spoilt()), config(log_every=20, steps=30), tmp_path / "run")
    text = str(caught.value)
    assert "not finite: 7 (clip_7.h5 from 0.2 s) of epoch 0" in text
    assert "the norm of the gradient" in text
    step = int(text.partition("in step ")[2].partition(",")[0])
    assert 1 <= step <= 3  # of the three of the first epoch
    listed = re.findall(r"(\d+) \(clip", text.partition("computed from samples")[2].partition(";")[0])
    assert len(listed) == 4
    assert "7" in listed
    assert "SampleKey(epoch, index)" in text
    assert torch.isinf(load_sample(Spoilt(), 0, SampleKey(0, 7))).any()
    assert "mend the sample" in text
    state = read_state(tmp_path / "run" / "state.safetensors")
    assert all(torch.isfinite(value).all() for value in state["network"].values())


def test_a_broken_value_is_found_wherever_a_sample_has_it() -> None:
    class Nested(DrawnDataset):
        def __len__(self) -> int:
            return 4

        def sample(self, index: int, draws: RandomDraws) -> Any:
            x, t = np.full(2, 3, np.float32), np.arange(2)
            if index == 2:
                x[1] = np.nan
            events = Events(t=t, x=x, y=np.zeros_like(x), p=np.zeros(2, np.uint8), width=9, height=9)
            return {"events": (events, None), "count": 3, "gain": float("inf") if index == 3 else 1.0}

    keys = [SampleKey(1, index) for index in (3, 0, 2)]
    text, is_cause = describe_samples(Nested(), 5, keys)
    assert text == "computed from samples 3, 0, 2 of epoch 1; not finite: 3, 2 of epoch 1"
    assert is_cause
    assert describe_samples(Nested(), 5, keys[1:2]) == (
        "computed from samples 0 of epoch 1, which are finite themselves",
        False,
    )


def test_the_first_step_that_is_not_finite_is_kept() -> None:
    check = FiniteCheck(process=1)
    assert check.first() is None
    for step, loss in enumerate((1.0, float("inf"), float("nan"), 2.0)):
        check.note(step + 4, torch.tensor(loss), torch.tensor(loss))
    found = check.first()
    assert found is not None
    assert (found.step, found.process, found.loss, found.norm) == (5, 1, float("inf"), float("inf"))
    scaled = FiniteCheck()
    scaled.note(0, torch.tensor(1.0), None)
    assert scaled.first() is None


def test_a_gradient_that_is_not_finite_ends_the_run_before_the_step(tmp_path: Path) -> None:
    class Root(LineTask):
        def forward(self, batch: torch.Tensor) -> Any:
            return Outcome(self.network(batch[:, :1]).mul(0).sum().sqrt(), {})

    with pytest.raises(RunError, match=r"the loss is 0, the norm of the gradient (nan|inf), in step 1,"):
        run(tmp_path / "run", task=Root())


def test_mixed_precision_leaves_the_batch_as_it_is(tmp_path: Path) -> None:
    seen = []

    class Watching(LineTask):
        def forward(self, batch: torch.Tensor) -> Any:
            outcome = super().forward(batch)
            seen.append((batch.dtype, self.network(batch[:, :1]).dtype))
            return outcome

    found = run(tmp_path / "run", task=Watching(), precision="bf16-mixed", steps=3)
    assert set(seen) == {(torch.float32, torch.bfloat16)}
    assert found.train["loss"] > 0


def test_half_precision_on_the_cpu_is_refused_and_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="16-mixed needs a GPU"):
        run(tmp_path / "run", precision="16-mixed")


def test_what_a_task_carries_beside_the_network_is_resumed(tmp_path: Path) -> None:
    class Smoothing(LineTask):
        """Adds a running mean of its loss to the figures."""

        mean = 0.0

        def forward(self, batch: torch.Tensor) -> Any:
            outcome = super().forward(batch)
            self.mean = 0.9 * self.mean + 0.1 * float(outcome.loss.detach())
            return outcome._replace(metrics={"mean": torch.tensor(self.mean)})

        def own_state(self) -> dict[str, Any]:
            return {"mean": self.mean}

        def load_own_state(self, state: dict[str, Any]) -> None:
            self.mean = state["mean"]

    run(tmp_path / "whole", task=Smoothing())
    run(tmp_path / "run", task=Smoothing(), report=stop_at(8))
    run(tmp_path / "run", task=Smoothing(), resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_groups_have_their_own_learning_rate_and_frozen_parameters_stay(tmp_path: Path) -> None:
    class Partly(LineTask):
        def parameter_groups(self) -> list[dict[str, Any]]:
            return [
                {"params": list(self.network[0].parameters()), "scale": 0.0},
                {"params": list(self.network[3].parameters())},
            ]

    task = Partly()
    before = {key: value.clone() for key, value in task.network.state_dict().items()}
    run(tmp_path / "run", task=task, steps=3)
    after = load_file(tmp_path / "run" / "last.safetensors")
    assert torch.equal(before["0.weight"], after["0.weight"])
    assert not torch.equal(before["3.weight"], after["3.weight"])
    frozen = LineTask()
    frozen.network.requires_grad_(False)
    with pytest.raises(InputError, match="no parameter to train"):
        run(tmp_path / "other", task=frozen)


def test_losses_that_are_networks_stay_in_evaluation_mode() -> None:
    task = LineTask()
    task.judge = torch.nn.Dropout().eval()
    task.train()
    assert task.network.training
    assert not task.judge.training
    task.eval()
    assert not task.network.training


def test_losses_are_in_evaluation_mode_from_the_begin(tmp_path: Path) -> None:
    seen = []

    class Judged(LineTask):
        def __init__(self) -> None:
            super().__init__()
            self.judge = torch.nn.Sequential(torch.nn.BatchNorm1d(1), torch.nn.Dropout(0.9))
            self.same_layer = self.network[0]
            self.judges = torch.nn.ModuleList()
            self.judges.append(torch.nn.Dropout())

        def forward(self, batch: torch.Tensor) -> Any:
            seen.append((self.judge.training, self.judge[1].training, self.judges[0].training))
            return super().forward(batch)

    task = Judged()
    assert not any(part.training for part in task.judge.modules())
    assert all(part.training for part in task.network.modules())
    before = task.judge[0].running_mean.clone()
    run(tmp_path / "run", task=task, steps=3)
    assert set(seen) == {(False, False, False)}
    assert torch.equal(task.judge[0].running_mean, before)
    assert all(part.training for part in task.network.modules())


def test_schedules_are_functions_of_the_step() -> None:
    def factors(**fields: Any) -> list[float]:
        made = TrainingConfig(steps=6, warmup_steps=2, **fields)
        return [round(learning_rate_factor(made, step), 4) for step in range(6)]

    warm = [0.3333, 0.6667]
    assert factors() == [*warm, 1, 1, 1, 1]
    assert factors(schedule="linear") == [*warm, 1, 0.75, 0.5, 0.25]
    assert factors(schedule="cosine") == [*warm, 1, 0.8536, 0.5, 0.1464]
    assert factors(schedule="step", schedule_every=2, schedule_factor=0.1) == [*warm, 1, 1, 0.1, 0.1]


def test_configurations_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch_size = 4 cannot be divided among 3 devices x 1"):
        TrainingConfig(devices=3)
    for field, value in (("optimizer", "adagrad"), ("clip_norm", 0.0), ("betas", (0.9, 1.0)), ("steps", 0)):
        with pytest.raises(ConfigError, match=field):
            TrainingConfig(**{field: value})


def test_the_state_file_keeps_kinds_keys_and_bits(tmp_path: Path) -> None:
    shared = torch.randn(3)
    tree = {"a": {0: shared, "b": (1, 2.5, None)}, "c": [True, "x", shared.t()], "d": {}, "e": float("inf")}
    write_state(tmp_path / "state.safetensors", tree)
    found = read_state(tmp_path / "state.safetensors")
    assert torch.equal(found["a"].pop(0), shared)
    assert torch.equal(found["c"].pop(), shared)
    assert found == {"a": {"b": (1, 2.5, None)}, "c": [True, "x"], "d": {}, "e": float("inf")}
    with pytest.raises(TypeError, match="is a set"):
        write_state(tmp_path / "bad.safetensors", {"a": {1, 2}})
    assert not (tmp_path / "bad.safetensors").exists()


def test_figures_and_pictures_go_to_tensorboard_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards: list[Board] = []

    class Board:
        def __init__(self, folder: str, purge_step: int) -> None:
            self.folder, self.purge_step, self.closed = Path(folder), purge_step, False
            self.scalars, self.pictures = dict[tuple[str, int], float](), set[tuple[str, int]]()
            boards.append(self)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            self.scalars[name, step] = value

        def add_image(self, name: str, picture: Any, step: int, dataformats: str) -> None:
            assert picture.ndim == len(dataformats)
            self.pictures.add((name, step))

        def close(self) -> None:
            self.closed = True

    for name in ("tensorboard", "torch.utils.tensorboard"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.SummaryWriter = Board  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    run(tmp_path / "run", steps=7)
    (board,) = boards
    assert (board.folder, board.purge_step, board.closed) == (tmp_path / "run" / "tensorboard", 1, True)
    rows = metrics(tmp_path / "run")
    wanted = {(f"{row['phase']}/{row['metric']}", int(row["step"])): float(row["value"]) for row in rows}
    assert board.scalars == wanted
    assert ("sample 0", 7) in board.pictures
