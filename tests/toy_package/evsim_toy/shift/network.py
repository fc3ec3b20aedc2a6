"""The network and its estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evsim.models.prediction.parts import PredictorParts


@dataclass(frozen=True, kw_only=True)
class ShiftConfig:
    """Hyper-parameters."""

    limit_px: float = 8.0
    """Longest shift at the begin of a training that there is not."""


class Shift(nn.Module):
    """Two grey images to the shift between them."""

    name: ClassVar[str] = "toy_shift"

    def __init__(self, config: ShiftConfig) -> None:
        super().__init__()
        self.config = config
        self.limit = nn.Parameter(torch.tensor(config.limit_px))

    def forward(self, image0: Tensor, image1: Tensor) -> Tensor:
        """(2,): x and y of the shift from image0 (H, W) to image1, whole pixels."""
        spectrum = torch.fft.fft2(image1) * torch.fft.fft2(image0).conj()
        peak = torch.fft.ifft2(spectrum / spectrum.abs().clamp(min=1e-9)).real.argmax()
        height, width = image0.shape
        y, x = peak // width, peak % width
        shift = torch.stack([x - width * (2 * x > width), y - height * (2 * y > height)]).float()
        return shift.clamp(-self.limit, self.limit)


class ShiftEstimator:
    """See `FlowEstimator`."""

    def __init__(self, network: Shift) -> None:
        self.network = network

    def flow(self, image0: NDArray[np.float32], image1: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (H, W, 2), the same everywhere."""
        grey = [image if image.ndim == 2 else image.mean(-1) for image in (image0, image1)]
        with torch.inference_mode():
            shift = self.network(*map(torch.from_numpy, grey)).numpy()
        return np.broadcast_to(shift, (*image0.shape[:2], 2)).astype(np.float32)


def create_estimator(parts: PredictorParts) -> ShiftEstimator:
    """The estimator of a loaded network."""
    assert isinstance(parts.network, Shift)
    return ShiftEstimator(parts.network)
