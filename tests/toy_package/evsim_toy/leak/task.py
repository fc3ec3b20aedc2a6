"""Training: images at the ends of windows, the gradient cut every few of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from evsim.models.data.collate import EventSequences
from evsim.models.data.recordings import RecordingData
from evsim.models.training.task import Datasets, Outcome, Task, TaskEntry


@dataclass(frozen=True, kw_only=True)
class LeakTaskConfig:
    """How it is trained."""

    truncate: int = 2
    """Windows that a gradient runs through."""


class LeakTask(Task):
    """Batches {"events": RaggedEvents, "images": (B, T, 1, H, W)} to mean squares, piece by piece."""

    def __init__(self, network: nn.Module, config: LeakTaskConfig) -> None:
        super().__init__(network)
        self.config = config

    def pieces(self, batch: dict[str, Any]) -> Iterator[Outcome]:
        """One outcome for every few windows; the state goes on, its gradient does not."""
        state: Tensor | None = None
        windows = batch["images"].shape[1]
        for first in range(0, windows, self.config.truncate):
            state = None if state is None else state.detach()
            images = []
            for number in range(first, min(first + self.config.truncate, windows)):
                image, state = self.network(batch["events"].window(number), state)
                images.append(image)
            wanted = batch["images"][:, first : first + len(images)]
            error = mse_loss(torch.stack(images, 1), wanted) * len(images) / windows
            yield Outcome(error, {"mse": error.detach()})

    def forward(self, batch: dict[str, Any]) -> Outcome:
        """All pieces in one."""
        outcomes = list(self.pieces(batch))
        total = torch.stack([outcome.loss for outcome in outcomes]).sum()
        return Outcome(total, {"mse": total.detach()})


def make_datasets(network: nn.Module, data: RecordingData) -> Datasets:
    """Sequences of event lists."""
    return Datasets(*data.datasets(EventSequences()))


TASK = TaskEntry(
    config=LeakTaskConfig,
    data=RecordingData,
    create=LeakTask,
    datasets=make_datasets,
    training={"batch_size": 2},
)
