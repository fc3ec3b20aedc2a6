"""Noticing the step whose loss or gradient is not finite, and naming the samples it was computed from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from evsim.models.data.dataset import SampleKey, describe_sample, load_sample

SHOWN = 16
"""Samples of one step that a message lists."""


@dataclass(frozen=True, kw_only=True)
class BrokenStep:
    """A step that cannot be taken.

    step: counted from 0. process: which computed it. loss; norm: of the gradient, None where it is not known.
    """

    step: int
    process: int
    loss: float
    norm: float | None


class FiniteCheck:
    """Keeps the first step with a loss or gradient that is not finite.

    It stays on the device until `first` reads it, so that noting a step waits for nothing.
    """

    def __init__(self, process: int = 0) -> None:
        self.process = process
        self._kept: tuple[Tensor, Tensor, Tensor] | None = None
        self._knows_norm = False

    def note(self, step: int, loss: Tensor, norm: Tensor | None) -> None:
        """Note a step. norm: of its gradient; None where a broken one is not unusual (a scaled gradient)."""
        loss = loss.detach().float()
        gradient = torch.full_like(loss, math.nan) if norm is None else norm.detach().to(loss)
        broken = ~torch.isfinite(loss) if norm is None else ~(torch.isfinite(loss) & torch.isfinite(gradient))
        number, self._knows_norm = torch.where(broken, step, -1), norm is not None
        if self._kept is None:
            self._kept = number, loss, gradient
            return
        earlier = self._kept[0] >= 0
        new = (number, loss, gradient)
        number, loss, gradient = (torch.where(earlier, a, b) for a, b in zip(self._kept, new))
        self._kept = number, loss, gradient

    def first(self) -> BrokenStep | None:
        """The first broken step of this process; waits for the device."""
        if self._kept is None:
            return None
        step, loss, norm = (float(value) for value in self._kept)
        if step < 0:
            return None
        known = norm if self._knows_norm else None
        return BrokenStep(step=int(step), process=self.process, loss=loss, norm=known)


def norm_of_gradients(parameters: Iterable[Tensor]) -> Tensor:
    """Euclidean norm over all gradients there are, scalar."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())


def describe_samples(dataset: Dataset[Any], seed: int, keys: list[SampleKey]) -> tuple[str, bool]:
    """The samples of a step for a message, and whether one of them is the cause: it is not finite itself.

    Each is loaded once more. A data set's method describe(index) says what its samples are called.
    """
    broken = [key for key in keys if not _is_finite(load_sample(dataset, seed, key))]
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    listed = f"computed from samples {_listed(dataset, keys[:SHOWN])}{more}"
    if not broken:
        return f"{listed}, which are finite themselves", False
    return f"{listed}; not finite: {_listed(dataset, broken)}", True


def _listed(dataset: Any, keys: list[SampleKey]) -> str:
    parts = []
    for epoch in dict.fromkeys(key.epoch for key in keys):
        of_epoch = [key.index for key in keys if key.epoch == epoch]
        parts.append(f"{', '.join(_name(dataset, index) for index in of_epoch)} of epoch {epoch}")
    return ", ".join(parts)


def _name(dataset: Any, index: int) -> str:
    """The number of a sample, and what it is called where that says more."""
    called = describe_sample(dataset, index)
    return str(index) if called == f"sample {index}" else f"{index} ({called})"


def _is_finite(value: Any) -> bool:
    """False if an array or tensor anywhere in a sample holds infinity or NaN."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    if isinstance(value, float):
        return math.isfinite(value)
    if is_dataclass(value):
        return all(_is_finite(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Mapping):
        return all(_is_finite(item) for item in value.values())
    return all(_is_finite(item) for item in value) if isinstance(value, (list, tuple)) else True
