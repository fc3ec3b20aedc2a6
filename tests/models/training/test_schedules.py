"""Learning rates as functions of the step, against the schedulers of torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW, Optimizer
from torch.optim import lr_scheduler as theirs

from evsim.errors import ConfigError
from evsim.models.training.configuration import TrainingConfig
from evsim.models.training.optimizers import make_optimizer, set_learning_rate

RATE = 0.5


def groups() -> list[dict[str, Any]]:
    return [{"params": [torch.zeros(1, requires_grad=True)]}]


def rates(steps: int, samples: int = 10**9, **fields: Any) -> list[float]:
    config = TrainingConfig(steps=steps, learning_rate=RATE, **fields)
    optimizer = make_optimizer(groups(), config)
    return [set_learning_rate(optimizer, config, step, samples) for step in range(steps)]


def wanted(steps: int, make: Callable[[Optimizer], Any], every: int = 1) -> list[float]:
    """What torch's scheduler gives, which is stepped after every so many steps."""
    optimizer = SGD(groups(), lr=RATE)
    scheduler, found = make(optimizer), []
    for step in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0 and step + 1 < steps:
            scheduler.step()
    return found


@pytest.mark.parametrize(
    ("fields", "make"),
    [
        (
            {"schedule": "cosine", "learning_rate_floor": 0.02},
            lambda o: theirs.CosineAnnealingLR(o, 30, eta_min=0.02),
        ),
        (
            {"schedule": "cosine", "decay_length": 12},
            lambda o: theirs.LambdaLR(o, lambda k: (1 + math.cos(math.pi * min(k, 12) / 12)) / 2),
        ),
        (
            {"schedule": "linear", "learning_rate_floor": 0.1, "decay_length": 10},
            lambda o: theirs.LinearLR(o, 1.0, 0.2, total_iters=10),
        ),
        (
            {"schedule": "milestones", "milestones": (4, 9, 9, 25), "schedule_factor": 0.3},
            lambda o: theirs.MultiStepLR(o, [4, 9, 9, 25], gamma=0.3),
        ),
        (
            {"schedule": "step", "schedule_every": 7, "schedule_factor": 0.1},
            lambda o: theirs.StepLR(o, 7, gamma=0.1),
        ),
        (
            {"schedule": "step", "schedule_every": 1, "schedule_factor": 0.9},
            lambda o: theirs.ExponentialLR(o, 0.9),
        ),
        (
            {"warmup_steps": 6, "warmup_start": 0.25},
            lambda o: theirs.LinearLR(o, 0.25, 1.0, total_iters=6),
        ),
    ],
)
def test_schedules_are_those_of_torch(fields: dict[str, Any], make: Callable[[Optimizer], Any]) -> None:
    assert rates(30, **fields) == pytest.approx(wanted(30, make), rel=1e-12, abs=1e-15)


def test_a_warm_up_passes_into_a_decay() -> None:
    def make(optimizer: Optimizer) -> Any:
        rise = theirs.LinearLR(optimizer, 0.1, 1.0, total_iters=5)
        fall = theirs.CosineAnnealingLR(optimizer, 25, eta_min=0.05)
        return theirs.SequentialLR(optimizer, [rise, fall], milestones=[5])

    fields = {"schedule": "cosine", "warmup_steps": 5, "warmup_start": 0.1, "learning_rate_floor": 0.05}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of some versions of torch, about themselves
        expected = wanted(30, make)
    assert rates(30, **fields) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 3, 40])
@pytest.mark.parametrize("rise", [0.0, 0.3, 0.65])
@pytest.mark.parametrize("momentum", [(0.85, 0.95), None])
def test_one_cycle_is_that_of_torch(steps: int, rise: float, momentum: tuple[float, float] | None) -> None:
    ours = TrainingConfig(
        steps=steps,
        learning_rate=RATE,
        schedule="one-cycle",
        optimizer="adamw",
        one_cycle_rise=rise,
        one_cycle_momentum=momentum,
    )
    optimizer, other = make_optimizer(groups(), ours), AdamW(groups(), lr=RATE)
    scheduler = theirs.OneCycleLR(
        other, RATE, total_steps=steps, pct_start=rise, cycle_momentum=momentum is not None
    )
    for step in range(steps):
        set_learning_rate(optimizer, ours, step, 1)
        (mine,), (torchs,) = optimizer.param_groups, other.param_groups
        assert mine["lr"] == pytest.approx(torchs["lr"], rel=1e-12)
        assert mine["betas"] == pytest.approx(torchs["betas"], rel=1e-12)
        other.step()
        if step + 1 < steps:
            scheduler.step()


def test_one_cycle_moves_the_momentum_of_sgd() -> None:
    config = TrainingConfig(steps=10, schedule="one-cycle", optimizer="sgd")
    optimizer = make_optimizer(groups(), config)
    found = []
    for step in range(10):
        set_learning_rate(optimizer, config, step, 1)
        found.append(optimizer.param_groups[0]["momentum"])
    assert (found[0], min(found), found[-1]) == pytest.approx((0.95, 0.85, 0.95))


def test_a_schedule_counts_epochs_of_the_data() -> None:
    fields = {"schedule": "milestones", "milestones": (2, 3), "schedule_factor": 0.1, "batch_size": 4}
    # Epochs of 12 samples are 3 steps.
    expected = wanted(12, lambda o: theirs.MultiStepLR(o, [2, 3], gamma=0.1), every=3)
    assert rates(12, samples=12, schedule_unit="epoch", **fields) == pytest.approx(expected)
    # Of 10 samples: a step counts to the epoch of its first one.
    cosine = rates(5, samples=10, schedule_unit="epoch", schedule="cosine", batch_size=4)
    assert cosine == pytest.approx([RATE, RATE, RATE, RATE / 2, RATE / 2])


def test_the_published_warm_up_and_cosine_of_gem() -> None:
    """Per epoch: e/10 up to epoch 10, once more the whole rate, then a cosine of 200 epochs to 1e-5."""
    config = TrainingConfig(
        steps=210,
        batch_size=1,
        learning_rate=1e-3,
        learning_rate_floor=1e-5,
        schedule="cosine",
        schedule_unit="epoch",
        warmup_steps=10,
        warmup_start=0.0,
        decay_start=11,
        decay_length=200,
    )
    optimizer = make_optimizer(groups(), config)
    found = [set_learning_rate(optimizer, config, epoch, 1) for epoch in range(210)]
    expected = [1e-3 * e / 10 for e in range(11)]
    expected += [
        1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + math.cos(math.pi * (e - 11) / 200)) for e in range(11, 210)
    ]
    assert found == pytest.approx(expected, abs=1e-12)


def test_epochs_become_steps_that_take_every_sample() -> None:
    assert TrainingConfig(epochs=3, batch_size=4).in_steps(10).steps == 8
    assert TrainingConfig(epochs=0.5, batch_size=4).in_steps(32).steps == 4
    made = TrainingConfig(epochs=2, batch_size=2).in_steps(8)
    assert (made.steps, made.epochs) == (8, None)
    assert TrainingConfig(steps=7).in_steps(10).steps == 7


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"schedule": "cosin"}, "schedule = 'cosin'.*did you mean 'cosine'"),
        ({"schedule": "milestones"}, "milestones = .* needs some"),
        ({"milestones": (3,)}, "no other takes them"),
        ({"schedule": "step", "decay_length": 3}, "decay_length is for schedules linear and cosine"),
        ({"schedule": "cosine", "warmup_steps": 9, "decay_start": 5}, "decay_start = 5 lies in the warm-up"),
        ({"learning_rate_floor": 1.0}, "learning_rate_floor = 1.0, expected at most learning_rate"),
        ({"schedule": "one-cycle", "warmup_steps": 3}, "expected warmup_steps = 0"),
        ({"schedule": "one-cycle", "one_cycle_rise": 1.5}, "one_cycle_rise = 1.5"),
        ({"epochs": 0}, "epochs = 0, expected a positive number"),
    ],
)
def test_schedules_that_contradict_themselves_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TrainingConfig(**fields)
