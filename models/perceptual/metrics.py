"""Perceptual networks as metrics of numpy images, under the ids of the metric registry."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from evsim import metrics
from evsim.errors import InputError
from evsim.metrics import METRICS, Metric, weight_paths
from evsim.metrics.images import checked_pair, unit
from evsim.models.perceptual.checkpoint import load_dists, load_lpips
from evsim.models.perceptual.dists import Dists
from evsim.models.perceptual.features import Trunk
from evsim.models.perceptual.flolpips import flolpips
from evsim.models.perceptual.lpips import Lpips
from evsim.models.weights.published import weights_folder

_TRUNKS: dict[str, Trunk] = {
    "lpips:alex": "alex",
    "lpips:vgg": "vgg",
    "lpips:squeeze": "squeeze",
    "lpips:ner": "vgg",
    "flolpips:alex": "alex",
}


def load_metric(
    name: str, folder: str | os.PathLike[str] | None = None, *, device: str | torch.device = "cpu"
) -> Metric:
    """The metric `name`, any of the registry, ready to be called, with its weights read from `folder`.

    folder: by default that of `weights_folder`. device: where a network computes. Raises InputError for an
    unknown id or a missing file, CheckpointError or FormatError for a file that does not fit.
    """
    metric = METRICS[name]
    folder = weights_folder() if folder is None else folder
    if name != "dists" and name not in _TRUNKS:
        return metrics.load_metric(name, folder)
    trunk_file, other_file = weight_paths(metric, folder)
    if name == "dists":
        network: nn.Module = load_dists(trunk_file, other_file)
    else:
        network = load_lpips(_TRUNKS[name], trunk_file, other_file)
    return with_network(name, network.to(device))


def with_network(name: str, network: nn.Module) -> Metric:
    """The metric `name` computed by a network that is already loaded (LPIPS with its trunk, or DISTS).

    Raises InputError for an id that is not of a perceptual network.
    """
    if name != "dists" and name not in _TRUNKS:
        raise InputError(f"metric {name} is not computed by a perceptual network")
    wanted = Dists if name == "dists" else Lpips
    if not isinstance(network, wanted):
        raise InputError(f"metric {name} is computed by {wanted.__name__}, not by {type(network).__name__}")
    function: Callable[..., float] = partial(_distance, network=network, clamp=name != "lpips:ner")
    if name == "flolpips:alex" and isinstance(network, Lpips):
        function = partial(_flow_distance, network=network)
    return dataclasses.replace(METRICS[name], function=function)


def _distance(prediction: ArrayLike, reference: ArrayLike, *, network: nn.Module, clamp: bool) -> float:
    images = _tensors(prediction, reference, network, clamp=clamp)
    with torch.inference_mode():
        return float(network(*images))


def _flow_distance(
    prediction: ArrayLike,
    reference: ArrayLike,
    flow_prediction: ArrayLike,
    flow_reference: ArrayLike,
    *,
    network: Lpips,
) -> float:
    """Flows: (H, W, 2) in pixels, of each image to the one after it in its video."""
    images = _tensors(prediction, reference, network, clamp=True)
    flows = [
        _tensor(_checked_flow(flow, name), network)
        for flow, name in ((flow_prediction, "prediction"), (flow_reference, "reference"))
    ]
    with torch.inference_mode():
        return float(flolpips(network, *images, *flows))


def _checked_flow(flow: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(flow)
    if array.ndim != 3 or array.shape[2] != 2 or not np.isfinite(array).all():
        raise InputError(f"flow of the {name} has shape {array.shape}, expected finite (H, W, 2) in pixels")
    return array


def _tensors(
    prediction: ArrayLike, reference: ArrayLike, network: nn.Module, *, clamp: bool
) -> tuple[Tensor, Tensor]:
    predicted, truth = checked_pair(prediction, reference)
    return _tensor(unit(predicted, clamp=clamp), network), _tensor(unit(truth), network)


def _tensor(image: NDArray[Any], network: nn.Module) -> Tensor:
    """(1, C, H, W) of (H, W, C), of the network's type and device."""
    parameter = next(network.parameters())
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))[None]).to(parameter)
