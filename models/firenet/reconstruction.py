"""FireNet behind the interface of networks that turn events into images."""

from __future__ import annotations

from torch import nn

from evsim.errors import InputError
from evsim.models.firenet.network import FireNet
from evsim.models.reconstruction import VoxelReconstructor


def make_reconstructor(network: nn.Module) -> VoxelReconstructor:
    """A reconstructor of one sequence, padded as in the published evaluations of either network."""
    if not isinstance(network, FireNet):
        raise InputError(f"a {type(network).__name__}, expected a FireNet")
    # The network needs none, but the first FireNet was always run on multiples of 16 pixels.
    multiple = 16 if network.config.normalize_voxels else 1
    return VoxelReconstructor(network, bins=network.config.bins, pad_multiple=multiple)
