"""Training steps in pieces: truncated back-propagation through long sequences."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from evsim.errors import InputError
from evsim.models.training.configuration import TrainingConfig
from evsim.models.training.loop import TrainingResult, train
from evsim.models.training.task import Datasets, Outcome, Task

HERE = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Waves(Dataset[Tensor]):
    """float32 (length, 2) sequences."""

    def __init__(self, length: int = 12) -> None:
        self.length = length

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        times = torch.arange(self.length) * 0.3 + index
        return torch.stack((times.sin(), times.cos()), 1)


class Spoilt(Waves):
    """One of them at infinity."""

    def __getitem__(self, index: int) -> Tensor:
        return super().__getitem__(index) + (float("inf") if index == 5 else 0.0)


class WaveTask(Task):
    """Predicts cosine from sine by a recurrent cell, whose gradient ends after so many steps of time."""

    def __init__(self, span: int = 4, dropout: float = 0.0) -> None:
        torch.manual_seed(5)
        super().__init__(nn.ModuleDict({"cell": nn.GRUCell(1, 6), "last": nn.Linear(6, 1)}))
        self.span, self.dropout = span, dropout

    def pieces(self, batch: Tensor) -> Iterator[Outcome]:
        state = batch.new_zeros(len(batch), 6)
        for part in batch.split(self.span, 1):
            loss = batch.new_zeros(())
            for point in part.unbind(1):
                state = self.network["cell"](point[:, :1], state.to(batch.dtype))
                hidden = nn.functional.dropout(state, self.dropout, self.training)
                loss = loss + (self.network["last"](hidden) - point[:, 1:]).square().mean()
            share = loss / batch.shape[1]
            yield Outcome(share, {"mse": share.detach()})
            state = state.detach()


def run(folder: Path, task: Task, *, data: Waves | None = None, **options: Any) -> TrainingResult:
    usual: dict[str, Any] = {
        "steps": 6,
        "batch_size": 4,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "validate_every": 3,
        "checkpoint_every": 2,
        "log_every": 1,
        "device": "cpu",
    }
    fields = {name: options.pop(name) for name in list(options) if name in TrainingConfig.__annotations__}
    data = data or Waves()
    return train(task, Datasets(data, data), TrainingConfig(**{**usual, **fields}), folder, **options)


def test_the_gradient_is_the_truncated_one_of_the_whole_batch(tmp_path: Path) -> None:
    found = run(tmp_path / "run", WaveTask(), steps=1, overfit=4)  # the first four samples, in any order
    task, batch = WaveTask(), torch.stack([Waves()[index] for index in range(4)])
    sum(outcome.loss for outcome in task.pieces(batch)).backward()
    trained = load_file(tmp_path / "run" / "last.safetensors")
    for name, value in task.network.named_parameters():
        torch.testing.assert_close(trained[name], value.detach() - 0.1 * value.grad, rtol=0, atol=1e-6)
    assert found.train["loss"] == pytest.approx(found.train["mse"])


def test_one_piece_of_everything_is_an_ordinary_step(tmp_path: Path) -> None:
    class Whole(WaveTask):
        def pieces(self, batch: Tensor) -> Iterator[Outcome]:
            yield from Task.pieces(self, batch)

        def forward(self, batch: Tensor) -> Outcome:
            (outcome,) = WaveTask.pieces(self, batch)
            return outcome

    run(tmp_path / "pieces", WaveTask(span=12))
    run(tmp_path / "whole", Whole(span=12))
    for name in ("last.safetensors", "metrics.csv"):
        assert (tmp_path / "pieces" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("options", [{"accumulation": 2}, {"accumulation": 4}])
def test_parts_and_pieces_give_the_same_step(options: dict[str, Any], tmp_path: Path) -> None:
    run(tmp_path / "one", WaveTask())
    run(tmp_path / "parts", WaveTask(), **options)
    one, parts = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "parts"))
    for key in one:
        torch.testing.assert_close(one[key], parts[key], rtol=0, atol=1e-6)


def test_mixed_precision_takes_pieces(tmp_path: Path) -> None:
    found = run(tmp_path / "run", WaveTask(), precision="bf16-mixed", optimizer="adam")
    assert found.validation["loss"] < 1


def test_stopped_and_resumed_equals_undisturbed(tmp_path: Path) -> None:
    def stop(done: int, total: int | None, note: str) -> None:
        if done == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    cycle = {"schedule": "one-cycle", "optimizer": "adamw"}
    run(tmp_path / "whole", WaveTask(dropout=0.3), **cycle)
    assert run(tmp_path / "run", WaveTask(dropout=0.3), report=stop, **cycle).steps == 3
    run(tmp_path / "run", WaveTask(dropout=0.3), resume=True, **cycle)
    for name in ("best.safetensors", "last.safetensors", "metrics.csv", "state.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_memory_does_not_grow_with_the_number_of_pieces(tmp_path: Path) -> None:
    def most_kept(length: int) -> int:
        kept = [0, 0]

        class Kept:
            def __init__(self, tensor: Tensor) -> None:
                self.tensor = tensor
                kept[0] += 1
                kept[1] = max(kept)

            def __del__(self) -> None:
                kept[0] -= 1

        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            run(tmp_path / str(length), WaveTask(), data=Waves(length), steps=2)
        return kept[1]

    assert most_kept(8) == most_kept(80)


def test_a_step_without_a_piece_is_an_error(tmp_path: Path) -> None:
    class Nothing(WaveTask):
        def pieces(self, batch: Tensor) -> Iterator[Outcome]:
            yield from ()

    with pytest.raises(InputError, match=r"Nothing\.pieces gives no piece"):
        run(tmp_path / "run", Nothing())

    class Neither(Task):
        pass

    with pytest.raises(TypeError, match="Neither has neither forward nor pieces"):
        Neither(nn.Linear(1, 1))


SCRIPT = """
import os
import sys
from pathlib import Path
from test_pieces import Spoilt, WaveTask, run

if __name__ == "__main__":
    run(Path(sys.argv[1]) / "two", WaveTask(), devices=2, accumulation=2)
    try:
        run(Path(sys.argv[1]) / "spoilt", WaveTask(), data=Spoilt(), devices=2)
    except Exception as error:
        told = Path(sys.argv[1]) / f"error_{os.environ['LOCAL_RANK']}.txt"
        told.write_text(f"{type(error).__name__}: {error}")
"""


def test_two_processes_give_the_weights_of_one_and_name_the_same_sample(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parents[2]}", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    run(tmp_path / "one", WaveTask())
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=0, atol=1e-6)
    first, second = ((tmp_path / f"error_{rank}.txt").read_text() for rank in (0, 1))
    assert first == second
    assert re.match(r"RunError: .* in step \d+, computed from samples .*; not finite: 5 of epoch 0;", first)
