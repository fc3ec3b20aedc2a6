"""`TrainingConfig`: everything that decides how a network is trained, apart from network, task and data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from evsim.configuration import require_range
from evsim.errors import ConfigError

OptimizerName = Literal["adam", "adamw", "sgd"]
ScheduleName = Literal["constant", "linear", "cosine", "step"]
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
    """constant; linear or cosine towards 0 at the end; step: times schedule_factor every so often."""
    warmup_steps: int = 0
    """Steps in which the learning rate rises linearly to its value."""
    schedule_every: int = 10_000
    """Steps between two drops of schedule step."""
    schedule_factor: float = 0.5
    """Factor of a drop of schedule step."""
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
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} = {getattr(self, name)!r}, expected one of {', '.join(choices)}")
        for beta in self.betas:
            if not 0 <= beta < 1:
                raise ConfigError(f"betas = {self.betas}, expected values from 0 to below 1")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ConfigError(f"clip_norm = {self.clip_norm}, expected a positive number")
        if self.patience is not None:
            require_range("patience", self.patience, 1)
        devices = self.devices * self.nodes
        parts = devices * self.accumulation
        if self.batch_size % parts:
            raise ConfigError(
                f"batch_size = {self.batch_size} cannot be divided among {devices} devices x "
                f"{self.accumulation} accumulated parts; choose a multiple of {parts}"
            )


_LEAST: dict[str, float] = {
    "steps": 1,
    "batch_size": 1,
    "accumulation": 1,
    "learning_rate": 0,
    "weight_decay": 0,
    "warmup_steps": 0,
    "schedule_every": 1,
    "schedule_factor": 0,
    "validate_every": 1,
    "log_every": 1,
    "checkpoint_every": 1,
    "pictures": 0,
    "seed": 0,
    "devices": 1,
    "nodes": 1,
    "workers": 0,
}
_CHOICES: dict[str, tuple[Any, ...]] = {
    "optimizer": get_args(OptimizerName),
    "schedule": get_args(ScheduleName),
    "precision": get_args(Precision),
    "strategy": get_args(Strategy),
}


def learning_rate_factor(config: TrainingConfig, step: int) -> float:
    """What the learning rate is multiplied with in a step, counted from 0; a function of nothing else."""
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    elapsed = step - config.warmup_steps
    share = elapsed / max(1, config.steps - config.warmup_steps)
    if config.schedule == "linear":
        return 1 - share
    if config.schedule == "cosine":
        return (1 + math.cos(math.pi * share)) / 2
    if config.schedule == "step":
        return config.schedule_factor ** (elapsed // config.schedule_every)
    return 1.0
