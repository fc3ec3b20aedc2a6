"""What every implementation of the loss takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evsim.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the terms beside the temporal one, which has 1; the defaults are the published ones."""

    spatial: float = 0.05
    """Of the mean absolute differences between rows, columns and frames."""
    constant: float = 0.1
    """Of the variance over time of the mean of each frame."""

    def __post_init__(self) -> None:
        for name in ("spatial", "constant"):  # by name: torch.compile follows nothing else
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"{name} = {value}, expected a number from 0")


def counts(shape: tuple[int, int, int, int]) -> tuple[int, int, int]:
    """How many differences of rows, columns and frames a video (F, H, W, C) has; at least 1 each.

    A video one pixel high or wide has none in that direction: its sum 0 divided by 1 is the mean 0.
    """
    frames, height, width, channels = shape
    return (
        max(1, frames * (height - 1) * width * channels),
        max(1, frames * height * (width - 1) * channels),
        (frames - 1) * height * width * channels,
    )
