"""The loss by which EvINR fits a video to events, and its gradient, in one pass over the video."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from evsim.errors import BackendError, InputError
from evsim.kernels.backend import load_backend
from evsim.kernels.evinr_loss.arguments import LossWeights

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
    gradient; the terms have none. backend: "cpu", "gpu" or "reference", else EVSIM_BACKEND, else by the
    device of the video. Raises InputError for other shapes, BackendError.
    """
    terms = _Loss.apply(video, changes, weights or LossWeights(), backend)
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


class _Loss(torch.autograd.Function):
    """The terms as one tensor (6,), of which the first, the total, has a gradient."""

    @staticmethod
    def forward(
        context: Any, video: Tensor, changes: Tensor, weights: LossWeights, backend: str | None
    ) -> Tensor:
        gradient = torch.empty_like(video, memory_format=torch.contiguous_format)
        terms = _run(video.detach().contiguous(), changes, weights, gradient, backend)
        context.save_for_backward(gradient)
        return terms

    @staticmethod
    def backward(context: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = context.saved_tensors
        return gradient * upstream[0][0], None, None, None


def _run(
    video: Tensor, changes: Tensor, weights: LossWeights, gradient: Tensor, backend: str | None
) -> Tensor:
    expected = (video.shape[0] - 1, *video.shape[1:]) if video.ndim == 4 else None
    if expected is None or expected[0] < 1 or tuple(changes.shape) != expected:
        raise InputError(
            f"a video of shape {tuple(video.shape)} with changes of shape {tuple(changes.shape)}, expected "
            "(F, H, W, C) with (F - 1, H, W, C), F at least 2"
        )
    run = load_backend("evinr_loss", BACKENDS, backend, "gpu" if video.is_cuda else "cpu")
    if video.is_cuda and run.__module__ == BACKENDS["cpu"]:
        raise BackendError(
            f"backend 'cpu' of evinr_loss cannot run here: the video is on {video.device}; move it first"
        )
    terms: Tensor = run(video, changes, weights, gradient)
    return terms
