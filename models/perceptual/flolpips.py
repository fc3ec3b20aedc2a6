"""FloLPIPS: LPIPS weighted by how wrongly things move (Danier et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from evsim.errors import InputError
from evsim.models.perceptual.lpips import Lpips

Flow = Callable[[Tensor, Tensor], Tensor]


def flolpips(
    network: Lpips, prediction: Tensor, reference: Tensor, flow_prediction: Tensor, flow_reference: Tensor
) -> Tensor:
    """(B,) distances of frames whose optical flows to the frame after them are given.

    prediction, reference: (B, 1 or 3, H, W), full scale 1.0. Flows: (B, 2, H, W), pixels. Where the flows of
    a frame are identical there is nothing to weight by, and its distance is plain LPIPS. Raises InputError
    for other shapes.
    """
    return flolpips_terms(network, prediction, reference, flow_prediction, flow_reference).sum(1)


def flolpips_terms(
    network: Lpips, prediction: Tensor, reference: Tensor, flow_prediction: Tensor, flow_reference: Tensor
) -> Tensor:
    """(B, layers): what each layer adds to the distance."""
    size = (prediction.shape[0], 2, *prediction.shape[2:])
    if flow_prediction.shape != size or flow_reference.shape != size:
        raise InputError(
            f"flows have shapes {tuple(flow_prediction.shape)} and {tuple(flow_reference.shape)}, "
            f"expected {size}"
        )
    maps = network.layer_maps(prediction, reference)
    difference = flow_reference - flow_prediction
    return torch.stack([_weighted_mean(each, difference) for each in maps], 1)


def flolpips_of_sequence(network: Lpips, frames: Iterable[tuple[Tensor, Tensor]], flow: Flow) -> float:
    """Mean distance over the frames of a video but the last, interpolated and original ones alike.

    frames: pairs (prediction, reference), each (1, 1 or 3, H, W), in the order of time. flow: gives the
    optical flow (1, 2, H, W) from its first argument to its second. Raises InputError for fewer than two
    frames.
    """
    values = []
    before: tuple[Tensor, Tensor] | None = None
    for prediction, reference in frames:
        if before is not None:
            flows = flow(before[0], prediction), flow(before[1], reference)
            values.append(float(flolpips(network, *before, *flows)))
        before = prediction, reference
    if not values:
        raise InputError("flolpips needs at least two frames: it compares the motion between them")
    return sum(values) / len(values)


def _weighted_mean(values: Tensor, difference: Tensor) -> Tensor:
    """(B,) mean of (B, 1, h, w), weighted by the length of the resized difference of flows."""
    resized = interpolate(difference, values.shape[2:], mode="bilinear", align_corners=False)
    weights = torch.linalg.vector_norm(resized, dim=1, keepdim=True)
    total = weights.sum((1, 2, 3))
    weighted = (values * weights).sum((1, 2, 3)) / torch.where(total > 0, total, 1)
    return torch.where(total > 0, weighted, values.mean((1, 2, 3)))
