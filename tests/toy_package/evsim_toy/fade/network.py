"""The network, its options and its predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from evsim.events import Events
from evsim.models.prediction.flow import FlowEstimator
from evsim.models.prediction.frames import FramePredictor
from evsim.models.prediction.parts import PredictorParts, make_flow_estimator


@dataclass(frozen=True, kw_only=True)
class FadeConfig:
    """Hyper-parameters."""

    exponent: float = 1.0
    """Of the fraction, before a training that there is not."""


@dataclass(frozen=True, kw_only=True)
class FadeOptions:
    """What can be chosen when it is applied."""

    flow: str = "toy_shift"
    """Network that estimates the flow."""
    flow_weights: str = ""
    """Its weight file."""


class Fade(nn.Module):
    """How much of the second frame there is at a fraction of the way."""

    name: ClassVar[str] = "toy_fade"

    def __init__(self, config: FadeConfig) -> None:
        super().__init__()
        self.config = config
        self.exponent = nn.Parameter(torch.tensor(config.exponent))

    def forward(self, fraction: float) -> float:
        """The share of the second frame."""
        return float(fraction ** self.exponent.detach())


class FadeInterpolator:
    """See `PairInterpolator`."""

    def __init__(self, network: Fade, estimator: FlowEstimator) -> None:
        self.network, self.estimator = network, estimator

    def between(
        self,
        frame0: NDArray[np.float32],
        frame1: NDArray[np.float32],
        fractions: NDArray[np.float64],
        events: Events | None,
    ) -> NDArray[np.float32]:
        """(N, H, W) or (N, H, W, 3): whole shifts of both frames, blended."""
        shift = self.estimator.flow(frame0, frame1)[0, 0]
        return np.stack([self._at(frame0, frame1, shift, float(fraction)) for fraction in fractions])

    def _at(
        self,
        frame0: NDArray[np.float32],
        frame1: NDArray[np.float32],
        shift: NDArray[np.float32],
        fraction: float,
    ) -> NDArray[np.float32]:
        x0, y0 = np.rint(shift * fraction).astype(int)
        x1, y1 = np.rint(shift * (fraction - 1)).astype(int)
        share = np.float32(self.network(fraction))
        early, late = np.roll(frame0, (y0, x0), (0, 1)), np.roll(frame1, (y1, x1), (0, 1))
        return (1 - share) * early + share * late


def create_predictor(parts: PredictorParts) -> FramePredictor:
    """The predictor of a loaded network and the estimator that its options name."""
    assert isinstance(parts.network, Fade)
    options: FadeOptions = parts.options
    estimator = make_flow_estimator(options.flow, weights=options.flow_weights, files=parts.files)
    return FramePredictor(FadeInterpolator(parts.network, estimator))
