"""The network and its predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from evsim.events import Events
from evsim.models.prediction.frames import ExposurePredictor
from evsim.models.prediction.parts import PredictorParts
from evsim.represent.levels import Thresholds, event_levels
from evsim.timed_image import TimedImage

STEPS = 16
"""Moments of the exposure over which its mean is taken."""


@dataclass(frozen=True, kw_only=True)
class SharpenConfig:
    """Hyper-parameters."""

    threshold: float = 0.2
    """Log intensity of an event, before a training that there is not."""


class Sharpen(nn.Module):
    """The threshold is all there is to learn."""

    name: ClassVar[str] = "toy_sharpen"

    def __init__(self, config: SharpenConfig) -> None:
        super().__init__()
        self.config = config
        self.threshold = nn.Parameter(torch.tensor(config.threshold))


class SharpenDeblurrer:
    """See `Deblurrer`."""

    def __init__(self, network: Sharpen) -> None:
        self.network = network

    def sharp(
        self, blurry: TimedImage, events: Events | None, times_us: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """(N, H, W) of a grey image: blurry * exp(level at t) / mean of exp(level)."""
        assert events is not None
        image = blurry.image.astype(np.float32) / np.float32(255)
        scale = image.shape[0] // events.height
        threshold = float(self.network.threshold.detach())
        moments = np.linspace(blurry.t_us - blurry.exposure_us, blurry.t_us, STEPS)
        light = [
            np.exp(event_levels(events, times, Thresholds(threshold, threshold)))
            for times in (moments, np.asarray(times_us, np.float64))
        ]
        mean, wanted = (part.repeat(scale, 1).repeat(scale, 2) for part in light)
        found: NDArray[np.float32] = image * wanted / mean.mean(0)
        return found


def create_predictor(parts: PredictorParts) -> ExposurePredictor:
    """The predictor of a loaded network."""
    assert isinstance(parts.network, Sharpen)
    return ExposurePredictor(SharpenDeblurrer(parts.network))
