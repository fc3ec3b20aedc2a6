"""The optimiser of a configuration."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from evsim.errors import InputError
from evsim.models.training.configuration import TrainingConfig, first_beta, learning_rate_factor


def make_optimizer(groups: list[dict[str, Any]], config: TrainingConfig) -> Optimizer:
    """The optimiser over the groups of a task. Raises InputError when no parameter is to be trained."""
    if not any(group["params"] for group in groups):
        raise InputError("the task has no parameter to train: every one is frozen")
    shared: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=config.betas[0], **shared)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, betas=config.betas, amsgrad=config.amsgrad, **shared)


def set_learning_rate(optimizer: Optimizer, config: TrainingConfig, step: int, samples: int) -> float:
    """Give every group the learning rate of a step; returns that of a group without a scale.

    samples: of an epoch. A schedule that moves the first beta sets it, too.
    """
    rate = config.learning_rate * learning_rate_factor(config, step, samples)
    beta = first_beta(config, step, samples)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)
        if beta is not None and "betas" in group:
            group["betas"] = (beta, group["betas"][1])
        elif beta is not None:
            group["momentum"] = beta
    return rate
