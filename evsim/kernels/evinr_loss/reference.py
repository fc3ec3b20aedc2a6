"""The loss as it is written down, its gradient by autograd; in any precision."""

from __future__ import annotations

import torch
from torch import Tensor

from evsim.kernels.evinr_loss.arguments import LossWeights, counts


def evinr_loss(video: Tensor, changes: Tensor, weights: LossWeights, gradient: Tensor) -> Tensor:
    """The terms (6,), the total first; the gradient by the video (F, H, W, C) is written to `gradient`."""
    with torch.enable_grad():
        leaf = video.detach().requires_grad_()
        terms = loss_terms(leaf, changes, weights)
        gradient.copy_(torch.autograd.grad(terms[0], leaf)[0])
    return terms.detach()


def loss_terms(video: Tensor, changes: Tensor, weights: LossWeights) -> Tensor:
    """The terms (6,) in order of `EvinrLoss`, differentiable."""
    difference = video.diff(dim=0)
    row_count, column_count, difference_count = counts((*video.shape,))
    temporal = (difference - changes).square().mean()
    rows = video.diff(dim=1).abs().sum() / row_count
    columns = video.diff(dim=2).abs().sum() / column_count
    differences = difference.abs().sum() / difference_count
    variance = video.mean((1, 2, 3)).var()
    total = temporal + weights.spatial * (rows + columns + differences) + weights.constant * variance
    return torch.stack([total, temporal, rows, columns, differences, variance])
