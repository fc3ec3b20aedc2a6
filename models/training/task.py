"""What a network brings to the training loop: what a step computes, what is worth showing, which data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from evsim.errors import InputError


class Outcome(NamedTuple):
    """What a training step computed.

    loss: scalar, differentiable, a mean over the samples of the batch. metrics: further scalars, by name.
    """

    loss: Tensor
    metrics: dict[str, Tensor]


class Task(nn.Module):
    """A network together with what training it means; a subclass has `forward` or `pieces`.

    network: what is trained and saved. Losses that are networks themselves become submodules too, so that
    they move to the device; they are in evaluation mode always, and only `network` is saved.
    """

    network: nn.Module

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if type(self).forward is Task.forward and type(self).pieces is Task.pieces:
            raise TypeError(f"{type(self).__name__} has neither forward nor pieces: no training step")
        self.network = network

    def forward(self, batch: Any) -> Outcome:
        """The training step of a batch; it unrolls sequences and carries recurrent state itself.

        Random draws come from torch's generators, which are seeded for every step. By default the sum of
        the pieces.
        """
        return add_outcomes(self.pieces(batch))

    def pieces(self, batch: Any) -> Iterator[Outcome]:
        """The training step in pieces, one backward pass each as it comes; by default one, `self(batch)`.

        For sequences too long for the memory of one pass (truncated back-propagation): a piece starts from
        the state that the one before left, detached, so its graph is freed before the next one is made.
        Losses and metrics of the pieces are shares: added up they are those of the batch, means over its
        samples. The optimiser takes one step for all pieces; draws are seeded for each.
        """
        yield self(batch)

    def validate(self, batch: Any) -> dict[str, Tensor]:
        """Figures of a validation batch, means over its samples; those of the training step by default."""
        outcome = add_outcomes(self.pieces(batch))
        return {"loss": outcome.loss, **outcome.metrics}

    def pictures(self, batch: Any) -> list[NDArray[np.uint8]]:
        """One picture for each sample of a validation batch, (H, W) or (H, W, 3) RGB; none by default."""
        return []

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser: "params", and "scale" where a group has its own learning rate.

        By default all parameters of the network that require a gradient.
        """
        return [{"params": [p for p in self.network.parameters() if p.requires_grad]}]

    def own_state(self) -> dict[str, Any]:
        """Tensors and plain values outside the network that change in training; none by default."""
        return {}

    def load_own_state(self, state: dict[str, Any]) -> None:
        """Take back what `own_state` gave when the run was stopped."""

    def train(self, mode: bool = True) -> Task:
        """Set the mode of the network alone; losses are in evaluation mode."""
        self.training = mode
        for loss in self.children():
            loss.eval()
        self.network.train(mode)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, nn.Module) and all(value is not part for part in self.network.modules()):
            value.eval()


def add_outcomes(pieces: Iterable[Outcome]) -> Outcome:
    """The sum of losses and metrics. Raises InputError where there is none."""
    loss: Tensor | None = None
    metrics: dict[str, Tensor] = {}
    for outcome in pieces:
        loss = outcome.loss if loss is None else loss + outcome.loss
        for name, value in outcome.metrics.items():
            metrics[name] = metrics[name] + value if name in metrics else value
    if loss is None:
        raise InputError("a training step of no pieces; Task.pieces must yield at least one Outcome")
    return Outcome(loss, metrics)


@dataclass(frozen=True)
class Datasets:
    """train: what is trained on. validation: what decides which weights are best, or None."""

    train: Dataset[Any]
    validation: Dataset[Any] | None = None


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """How `evsim train` trains a network for one task; a module of its folder holds one, called TASK.

    config, data: frozen dataclasses of the task's and the data's fields. create: network and config ->
    task. datasets: network and data config -> data sets. training: the published values of
    `TrainingConfig`, where they differ from its defaults.
    """

    config: type
    data: type
    create: Callable[[nn.Module, Any], Task]
    datasets: Callable[[nn.Module, Any], Datasets]
    training: Mapping[str, Any] = field(default_factory=dict)


def grey_picture(*images: Tensor) -> NDArray[np.uint8]:
    """uint8 (H, W1 + W2 + ...): images (H, W) of values 0..1 side by side, values outside cut off."""
    row = torch.cat([image.detach().float().cpu() for image in images], dim=-1)
    found: NDArray[np.uint8] = (row.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return found
