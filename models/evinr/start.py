"""A closed-form start: the last layer that comes nearest to the events, before the first step.

The random network's functions of time are kept; the video is linear in the last layer, so that its weights
are a ridge regression onto the integrated events. Its bias, of which events say nothing, is the image that
leaves the least gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evsim.models.evinr.network import Evinr
from evsim.models.evinr.step import Targets
from evsim.models.evinr.targets import levels_of
from evsim.models.log_video.initial_image import initial_image

RIDGE = 1e-3
"""Of the regression, in units of the features' variance times the number of frames."""


@torch.no_grad()
def start_from_events(network: Evinr, targets: Targets) -> None:
    """Set the last layer of a network to the solution for these targets."""
    omega, readout = network.config.omega, network.readout
    features = network.features(targets.times.to(readout.weight.device)).double().cpu()
    centred = features - features.mean(0)
    levels = levels_of(targets).flatten(1).cpu()
    levels -= levels.mean(0)
    frames = len(features)
    ridge = RIDGE * frames * features.var()
    # As many unknowns as frames instead of as features: the form (A A^T + r)^-1 of the same solution.
    gram = centred @ centred.T + ridge * torch.eye(frames, dtype=torch.float64)
    weights = torch.linalg.solve(gram, centred).float().T @ levels
    fitted = network.frames(features.float() @ weights)
    readout.weight.copy_(weights.T / omega)
    readout.bias.copy_(_least_gradient(fitted).flatten() / omega)


def _least_gradient(video: Tensor) -> Tensor:
    """(H, W, C): the image for each channel that, added to the video, leaves the least total variation."""
    images = [
        torch.from_numpy(initial_image(video[..., channel].numpy())) for channel in range(video.shape[-1])
    ]
    return torch.stack(images, -1)
