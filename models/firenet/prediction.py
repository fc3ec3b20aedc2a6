"""FireNet behind the contract of predictors."""

from __future__ import annotations

from evsim.errors import InputError
from evsim.models.firenet.network import FireNet
from evsim.models.prediction.parts import PredictorParts
from evsim.models.prediction.windows import VoxelRecurrent, WindowPredictor


def create_predictor(parts: PredictorParts) -> WindowPredictor:
    """A predictor that pads as the published evaluations of either network do."""
    network = parts.network
    if not isinstance(network, FireNet):
        raise InputError(f"a {type(network).__name__}, expected a FireNet")
    # The network needs none, but the first FireNet was always run on multiples of 16 pixels.
    multiple = 16 if network.config.normalize_voxels else 1
    return WindowPredictor(VoxelRecurrent(network, bins=network.config.bins, pad_multiple=multiple))
