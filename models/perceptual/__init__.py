"""Perceptual networks: ImageNet feature stacks, LPIPS, DISTS and FloLPIPS, as losses and as metrics."""

from evsim.models.perceptual.checkpoint import dists_state, load_dists, load_lpips, lpips_state
from evsim.models.perceptual.dists import Dists
from evsim.models.perceptual.features import FeatureStack, feature_stack
from evsim.models.perceptual.flolpips import flolpips, flolpips_of_sequence
from evsim.models.perceptual.lpips import Lpips
from evsim.models.perceptual.metrics import load_metric, with_network

__all__ = [
    "Dists",
    "FeatureStack",
    "Lpips",
    "dists_state",
    "feature_stack",
    "flolpips",
    "flolpips_of_sequence",
    "load_dists",
    "load_lpips",
    "load_metric",
    "lpips_state",
    "with_network",
]
