"""`TrainingConfig`: everything that decides how a network is trained, apart from network, task and data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from evsim.configuration import check_choices, later, require_range
from evsim.errors import ConfigError

OptimizerName = Literal["adam", "adamw", "sgd"]
ScheduleName = Literal["constant", "linear", "cosine", "step", "milestones", "one-cycle"]
ScheduleUnit = Literal["step", "epoch"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Strategy = Literal["auto", "ddp", "ddp_find_unused_parameters_true"]

FREE_ON_RESUME = (
    "steps",
    "accumulation",
    "validate_every",
    "log_every",
    "checkpoint_every",
    "pictures",
    "patience",
    "device",
    "devices",
    "nodes",
    "strategy",
    "workers",
    "compile",
)
"""Fields that a run may change when it is resumed: what was computed so far stays what it was."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is trained."""

    steps: int = 10_000
    """Optimiser steps."""
    epochs: float | None = later(default=None)
    """Passes over the data instead of steps; a run begins by turning it into steps."""
    batch_size: int = 4
    """Samples of one step, over all devices and accumulated parts together."""
    accumulation: int = 1
    """Parts in which each device computes its samples of a step, one after another, to save memory."""
    optimizer: OptimizerName = "adam"
    """adam, adamw or sgd."""
    learning_rate: float = 1e-4
    """Largest step size; the schedule scales it."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of Adam's moments; the first is the momentum of sgd."""
    amsgrad: bool = False
    """Keep the largest second moment (Reddi et al. 2018)."""
    weight_decay: float = 0.0
    """Weight decay: in the gradient for adam and sgd, decoupled for adamw."""
    schedule: ScheduleName = "constant"
    """constant, linear, cosine, step, milestones or one-cycle: docs/training.md, "Learning rate"."""
    schedule_unit: ScheduleUnit = later(default="step")
    """step or epoch: what the fields of the schedule count; an epoch keeps the rate it begins with."""
    warmup_steps: int = 0
    """Units in which the learning rate rises linearly to its value."""
    warmup_start: float | None = later(default=None)
    """Factor of the first of them; none is 1 / (warmup_steps + 1)."""
    decay_start: int | None = later(default=None)
    """Unit in which linear and cosine begin to fall; none is right after the warm-up."""
    decay_length: int | None = later(default=None)
    """Units in which they reach the floor; none is those that are left until the end."""
    learning_rate_floor: float = later(default=0.0)
    """Learning rate that the schedule does not go below after the warm-up."""
    schedule_every: int = 10_000
    """Units between two drops of schedule step, counted after the warm-up."""
    milestones: tuple[int, ...] = later(default=())
    """Units, from the begin, at which schedule milestones drops; one that stands twice counts twice."""
    schedule_factor: float = 0.5
    """Factor of a drop of schedules step and milestones."""
    one_cycle_rise: float = later(default=0.3)
    """Share of the run in which one-cycle rises."""
    one_cycle_start_divisor: float = later(default=25.0)
    """One-cycle begins with the learning rate divided by this."""
    one_cycle_end_divisor: float = later(default=1e4)
    """One-cycle ends with the rate that it began with, divided by this."""
    one_cycle_momentum: tuple[float, float] | None = later(default=(0.85, 0.95))
    """The first of betas falls from the second value to the first and rises again; none leaves it."""
    clip_norm: float | None = None
    """Largest norm of the gradient; a longer one is scaled down to it."""
    precision: Precision = "32-true"
    """32-true, bf16-mixed or 16-mixed."""
    validate_every: int = 500
    """Steps between validations; the last step is always validated."""
    log_every: int = 50
    """Steps over which training figures are averaged for one row of metrics.csv."""
    checkpoint_every: int = 500
    """Steps between two writings of the state from which the run can be resumed."""
    pictures: int = 4
    """Sample pictures of each validation."""
    monitor: str = "loss"
    """Figure that decides which weights are best: of validation, or of training where there is none."""
    maximize: bool = False
    """The monitored figure is better when larger."""
    patience: int | None = None
    """Stop early after so many validations in a row without an improvement; none never stops."""
    seed: int = 0
    """Decides initial weights, order of samples, augmentation, and every other draw."""
    device: str | None = None
    """cpu, cuda, cuda:N or mps; none is the first GPU, else the CPU."""
    devices: int = 1
    """Processes on this machine, each with a device of its own."""
    nodes: int = 1
    """Machines with as many devices each; a launcher such as SLURM's srun starts their processes."""
    strategy: Strategy = "auto"
    """How several processes exchange gradients; auto is ddp."""
    workers: int = 0
    """Processes that load data for each device; 0 loads in between the steps."""
    compile: bool = False
    """Compile the network with torch.compile."""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            require_range(name, getattr(self, name), least)
        check_choices(self)
        for name in ("betas", "one_cycle_momentum"):
            if not all(0 <= beta < 1 for beta in getattr(self, name) or ()):
                raise ConfigError(f"{name} = {getattr(self, name)}, expected values from 0 to below 1")
        if self.epochs is not None and not self.epochs > 0:
            raise ConfigError(f"epochs = {self.epochs}, expected a positive number")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ConfigError(f"clip_norm = {self.clip_norm}, expected a positive number")
        if self.patience is not None:
            require_range("patience", self.patience, 1)
        self._require_schedule()
        devices = self.devices * self.nodes
        parts = devices * self.accumulation
        if self.batch_size % parts:
            raise ConfigError(
                f"batch_size = {self.batch_size} cannot be divided among {devices} devices x "
                f"{self.accumulation} accumulated parts; choose a multiple of {parts}"
            )

    def _require_schedule(self) -> None:
        """ConfigError where a field of the schedule does not fit the schedule that was chosen."""
        for name in ("warmup_start", "decay_start", "decay_length"):
            value = getattr(self, name)
            if value is not None:
                require_range(name, value, 1 if name == "decay_length" else 0)
                if name != "warmup_start" and self.schedule not in ("linear", "cosine"):
                    raise ConfigError(f"{name} is for schedules linear and cosine, not for {self.schedule}")
        if self.decay_start is not None and self.decay_start < self.warmup_steps:
            raise ConfigError(
                f"decay_start = {self.decay_start} lies in the warm-up of {self.warmup_steps}; expected none "
                "or a later one"
            )
        if bool(self.milestones) != (self.schedule == "milestones"):
            raise ConfigError(
                f"milestones = {list(self.milestones)} with schedule = {self.schedule!r}; that schedule "
                "needs some, and no other takes them"
            )
        for milestone in self.milestones:
            require_range("milestones", milestone, 0)
        if self.learning_rate_floor > self.learning_rate:
            raise ConfigError(
                f"learning_rate_floor = {self.learning_rate_floor}, expected at most learning_rate = "
                f"{self.learning_rate}"
            )
        if self.schedule != "one-cycle":
            return
        require_range("one_cycle_rise", self.one_cycle_rise, 0, 1)
        for name in ("one_cycle_start_divisor", "one_cycle_end_divisor"):
            require_range(name, getattr(self, name), 1)
        if self.warmup_steps or self.learning_rate_floor:
            raise ConfigError(
                "schedule one-cycle rises and falls by itself: expected warmup_steps = 0 and "
                "learning_rate_floor = 0; its own fields are one_cycle_rise and the two divisors"
            )

    def in_steps(self, samples: int) -> TrainingConfig:
        """The same with `epochs` of so many samples turned into steps, the last one begun counted whole."""
        if self.epochs is None:
            return self
        return replace(self, epochs=None, steps=math.ceil(self.epochs * samples / self.batch_size))


_LEAST: dict[str, float] = {
    "steps": 1,
    "batch_size": 1,
    "accumulation": 1,
    "learning_rate": 0,
    "weight_decay": 0,
    "warmup_steps": 0,
    "schedule_every": 1,
    "schedule_factor": 0,
    "learning_rate_floor": 0,
    "validate_every": 1,
    "log_every": 1,
    "checkpoint_every": 1,
    "pictures": 0,
    "seed": 0,
    "devices": 1,
    "nodes": 1,
    "workers": 0,
}


def learning_rate_factor(config: TrainingConfig, step: int, samples: int | None = None) -> float:
    """What the learning rate is multiplied with in a step, counted from 0; a function of nothing else.

    samples: of an epoch; needed where the schedule counts epochs.
    """
    now, end = _in_units(config, step, samples)
    if config.schedule == "one-cycle":
        start = 1 / config.one_cycle_start_divisor
        return _one_cycle(config, now, end, start, 1.0, start / config.one_cycle_end_divisor)
    if now < config.warmup_steps:
        if config.warmup_start is None:
            return (now + 1) / (config.warmup_steps + 1)
        return config.warmup_start + (1 - config.warmup_start) * now / config.warmup_steps
    floor = config.learning_rate_floor / config.learning_rate if config.learning_rate_floor else 0.0
    elapsed = now - config.warmup_steps
    if config.schedule in ("linear", "cosine"):
        return floor + (1 - floor) * _fall(config, now, end)
    if config.schedule == "step":
        return max(floor, config.schedule_factor ** (elapsed // config.schedule_every))
    if config.schedule == "milestones":
        passed = sum(milestone <= now for milestone in config.milestones)
        return max(floor, config.schedule_factor**passed)
    return 1.0


def first_beta(config: TrainingConfig, step: int, samples: int | None = None) -> float | None:
    """The first of the optimiser's betas in a step, where the schedule moves it, else None."""
    if config.schedule != "one-cycle" or config.one_cycle_momentum is None:
        return None
    low, high = config.one_cycle_momentum
    return _one_cycle(config, *_in_units(config, step, samples), high, low, high)


def _in_units(config: TrainingConfig, step: int, samples: int | None) -> tuple[int, int]:
    """A step, and how many there are, in what the schedule counts."""
    if config.schedule_unit == "step":
        return step, config.steps
    if samples is None:
        raise ConfigError("schedule_unit = 'epoch' needs the number of samples of an epoch")
    return step * config.batch_size // samples, math.ceil(config.steps * config.batch_size / samples)


def _fall(config: TrainingConfig, now: int, end: int) -> float:
    """From 1 to 0 over the decay, linearly or along a cosine."""
    start = config.warmup_steps if config.decay_start is None else config.decay_start
    length = max(1, end - start) if config.decay_length is None else config.decay_length
    share = min(1.0, max(0, now - start) / length)
    return 1 - share if config.schedule == "linear" else (1 + math.cos(math.pi * share)) / 2


def _one_cycle(config: TrainingConfig, now: int, end: int, first: float, top: float, last: float) -> float:
    """Along half a cosine from `first` to `top`, then along another to `last` (Smith and Topin 2018)."""
    turn, end = config.one_cycle_rise * end - 1, end - 1
    if now <= turn:
        return _half_cosine(first, top, now / turn if turn > 0 else 1.0)
    return _half_cosine(top, last, min(1.0, (now - turn) / (end - turn)))


def _half_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) / 2 * (1 + math.cos(math.pi * share))
