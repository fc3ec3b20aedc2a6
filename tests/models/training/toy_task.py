"""A task small enough to train in milliseconds: a line through noisy points, with dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from evsim.models.training.task import Datasets, Outcome, Task, grey_picture


class Points(Dataset[Tensor]):
    """Points (x, y) of which x is drawn by torch and y = x / 2 - 1."""

    def __init__(self, count: int = 12) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        x = torch.rand(()) + index
        return torch.stack((x, x / 2 - 1))


class LineTask(Task):
    """Mean squared error; `poison` makes the loss of that step infinite."""

    def __init__(self, *, dropout: float = 0.2, poison: int | None = None) -> None:
        torch.manual_seed(3)
        super().__init__(nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1)))
        self.poison, self.steps = poison, 0

    def forward(self, batch: Tensor) -> Outcome:
        error = (self.network(batch[:, :1]) - batch[:, 1:]).square().mean()
        self.steps += self.training
        if self.steps == self.poison:
            error = error * float("inf")
        return Outcome(error, {"rmse": error.detach().sqrt()})

    def pictures(self, batch: Tensor) -> list[NDArray[np.uint8]]:
        return [grey_picture(torch.linspace(0, 1, 6).reshape(2, 3)) for _ in batch]


def line_datasets(**options: Any) -> Datasets:
    return Datasets(Points(**options), Points(5))
