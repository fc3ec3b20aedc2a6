"""Means of figures over parts, steps and processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor


class Averages:
    """Weighted sums of scalars by name, in float64 on the device where the scalars are.

    Nothing is read back from the device before `means` is called, so a step waits for no figure.
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, float]] = {}

    def add(self, figures: Mapping[str, Tensor], weight: float = 1.0) -> None:
        """Count in one value of each figure."""
        for name, value in figures.items():
            # Apple's GPUs have no float64.
            kind = torch.float32 if value.device.type == "mps" else torch.float64
            term = value.detach().to(kind) * weight
            total, weights = self._sums.get(name, (torch.zeros_like(term), 0.0))
            self._sums[name] = (total.to(term) + term, weights + weight)

    def state(self, fabric: Fabric) -> dict[str, tuple[float, float]]:
        """Sum and weight of each figure over all processes, which all must call this."""
        own = {name: (float(total), weight) for name, (total, weight) in self._sums.items()}
        joined: dict[str, tuple[float, float]] = {}
        for part in gather(fabric, own):
            for name, (total, weight) in part.items():
                before = joined.get(name, (0.0, 0.0))
                joined[name] = (before[0] + total, before[1] + weight)
        return joined

    def means(self, fabric: Fabric) -> dict[str, float]:
        """The mean of each figure over all processes, which all must call this."""
        return {name: total / weight for name, (total, weight) in self.state(fabric).items()}

    def clear(self) -> None:
        """Begin anew."""
        self._sums = {}

    def restore(self, state: Mapping[str, tuple[float, float]], processes: int) -> None:
        """Continue from what `state` gave; each of the processes takes its share."""
        self._sums = {
            name: (torch.tensor(total / processes, dtype=torch.float64), weight / processes)
            for name, (total, weight) in state.items()
        }


def gather(fabric: Fabric, value: Any) -> list[Any]:
    """The plain values that all processes pass, by rank, in each process."""
    if fabric.world_size == 1:
        return [value]
    found: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(found, value)
    return found
