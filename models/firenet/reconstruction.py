"""FireNet behind the interface of networks that turn events into images."""

from __future__ import annotations

from torch import nn

from evsim.errors import InputError
from evsim.models.firenet.network import FireNet
from evsim.models.reconstruction import VoxelReconstructor


def make_reconstructor(network: nn.Module) -> VoxelReconstructor:
    """A reconstructor of one sequence; the network needs no padding."""
    if not isinstance(network, FireNet):
        raise InputError(f"a {type(network).__name__}, expected a FireNet")
    return VoxelReconstructor(network, bins=network.config.bins)
