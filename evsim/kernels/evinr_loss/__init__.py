"""The loss by which EvINR fits a video to events, and its gradient, in one pass over the video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evsim.errors import InputError
from evsim.kernels.backend import chosen_backend, load_backend
from evsim.kernels.evinr_loss.arguments import LossWeights
from evsim.kernels.evinr_loss.reference import loss_terms
from evsim.kernels.operator import tensor_operator

__all__ = ["BACKENDS", "EvinrLoss", "LossWeights", "evinr_loss", "evinr_loss_and_gradient"]

BACKENDS = {
    "cpu": "evsim.kernels.evinr_loss.cpu",
    "gpu": "evsim.kernels.evinr_loss.gpu",
    "reference": "evsim.kernels.evinr_loss.reference",
}


class EvinrLoss(NamedTuple):
    """A loss and the terms that it consists of, each a scalar tensor."""

    total: Tensor
    """temporal + spatial weight (rows + columns + differences) + constant weight * variance."""
    temporal: Tensor
    """Mean square of what differences of consecutive frames and changes by events differ."""
    rows: Tensor
    """Mean absolute difference of neighbours in a column of pixels: between rows."""
    columns: Tensor
    """Mean absolute difference of neighbours in a row of pixels: between columns."""
    differences: Tensor
    """Mean absolute difference of consecutive frames."""
    variance: Tensor
    """Variance over time of the mean of each frame, unbiased."""


def evinr_loss(
    video: Tensor, changes: Tensor, weights: LossWeights | None = None, *, backend: str | None = None
) -> EvinrLoss:
    """The loss of a video of log intensity, differentiable by the video (Wang et al. 2024, "EvINR").

    video: float (F, H, W, C), F >= 2. changes: float (F - 1, H, W, C), change of log intensity between
    consecutive frames by the events. weights: of the terms, the published ones for None. The total has a
    gradient; the terms have one with the reference only. backend: "cpu", "gpu" or "reference", else
    EVSIM_BACKEND, else by the device of the video. Raises InputError for other shapes, BackendError.
    """
    chosen, placed = (
        weights or LossWeights(),
        chosen_backend("evinr_loss", BACKENDS, backend, video.device.type),
    )
    _require_shapes(video, changes)
    if placed == "reference":
        return EvinrLoss(*loss_terms(video, changes, chosen).unbind())
    terms, _ = _OPERATOR(video, changes, chosen.spatial, chosen.constant, placed)
    return EvinrLoss(*terms.unbind())


def evinr_loss_and_gradient(
    video: Tensor,
    changes: Tensor,
    weights: LossWeights | None = None,
    *,
    out: Tensor | None = None,
    backend: str | None = None,
) -> tuple[EvinrLoss, Tensor]:
    """What `evinr_loss` gives, and the gradient (F, H, W, C) of the total by the video, without autograd.

    out: where the gradient is written, contiguous; new memory for None.
    """
    gradient = torch.empty_like(video) if out is None else out
    terms = _run(video, changes, weights or LossWeights(), gradient, backend)
    return EvinrLoss(*terms.unbind()), gradient


def _terms_and_slope(
    video: Tensor, changes: Tensor, spatial: float, constant: float, backend: str
) -> tuple[Tensor, Tensor]:
    """The terms (6,), and the gradient of the first, the total, by the video."""
    slope = torch.empty_like(video, memory_format=torch.contiguous_format)
    weights = LossWeights(spatial=spatial, constant=constant)
    return _run(video.detach().contiguous(), changes.detach(), weights, slope, backend), slope


def _shapes(
    video: Tensor, changes: Tensor, spatial: float, constant: float, backend: str
) -> tuple[Tensor, Tensor]:
    return video.new_empty(6), torch.empty_like(video, memory_format=torch.contiguous_format)


def _backward(
    needed: Sequence[bool], upstream: Sequence[Tensor], arguments: Sequence[Any], results: Sequence[Tensor]
) -> list[Tensor | None]:
    return [results[1] * upstream[0][0]] if needed[0] else [None]


_OPERATOR = tensor_operator(
    "evinr_loss", _terms_and_slope, shapes=_shapes, backward=_backward, fixed=("changes",)
)


def _run(
    video: Tensor, changes: Tensor, weights: LossWeights, gradient: Tensor, backend: str | None
) -> Tensor:
    _require_shapes(video, changes)
    placed = chosen_backend("evinr_loss", BACKENDS, backend, video.device.type)
    terms: Tensor = load_backend("evinr_loss", BACKENDS, placed)(video, changes, weights, gradient)
    return terms


def _require_shapes(video: Tensor, changes: Tensor) -> None:
    expected = (video.shape[0] - 1, *video.shape[1:]) if video.ndim == 4 else None
    if expected is None or expected[0] < 1 or tuple(changes.shape) != expected:
        raise InputError(
            f"a video of shape {tuple(video.shape)} with changes of shape {tuple(changes.shape)}, expected "
            "(F, H, W, C) with (F - 1, H, W, C), F at least 2"
        )
