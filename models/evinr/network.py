"""EvINR's network: a time goes in, the whole frame of log intensity at that time comes out.

Wang et al. 2024, "Revisit Event Generation Model: Self-supervised Learning of Event-to-Video Reconstruction
with Implicit Neural Representations". Sine layers (Sitzmann et al. 2020) turn the time into `neck_width`
numbers, of which every pixel is a linear function: the video is a sum of so many images, each times a learned
function of time.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from evsim.configuration import require_range
from evsim.errors import ConfigError, InputError

TONE_EXPONENT = 1 / 0.6


@dataclass(frozen=True, kw_only=True)
class EvinrConfig:
    """Hyper-parameters of EvINR's network, and what its pixels and times stand for."""

    width: int = 346
    """Columns of the sensor."""
    height: int = 260
    """Rows of the sensor."""
    color: bool = False
    """RGB instead of grey."""
    hidden_layers: int = 3
    """Sine layers between the first one and the neck."""
    hidden_width: int = 512
    """Units of these layers."""
    neck_width: int = 256
    """Functions of time that the pixels are made of."""
    omega: float = 10.0
    """What every layer multiplies its linear function with."""
    window_us: tuple[float, float] = (-1.0, 1.0)
    """Times, microseconds on the recording's clock, that the network's own times -1 and 1 stand for."""
    transposed: bool = False
    """The frames are stored column by column, as the published code does for sensors higher than wide."""

    def __post_init__(self) -> None:
        for name in ("width", "height", "hidden_width", "neck_width"):
            require_range(name, getattr(self, name), 1)
        require_range("hidden_layers", self.hidden_layers, 0)
        if not self.omega > 0:
            raise ConfigError(f"omega = {self.omega}, expected a positive number")
        if not self.window_us[0] < self.window_us[1]:
            raise ConfigError(f"window_us = {self.window_us}, expected two increasing times")

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(rows, columns, channels) of a frame as the network holds it."""
        sides = (self.width, self.height) if self.transposed else (self.height, self.width)
        return (*sides, 3 if self.color else 1)


class Evinr(nn.Module):
    """Times to frames of log intensity."""

    name: ClassVar[str] = "evinr"

    def __init__(self, config: EvinrConfig) -> None:
        super().__init__()
        self.config = config
        hidden = [config.hidden_width] * (config.hidden_layers + 1)
        widths = [1, *hidden, config.neck_width]
        # In the order of the published code, so that a seed gives its weights.
        self.layers = nn.ModuleList()
        for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            bound = 1.0 if index == 0 else math.sqrt(6 / inputs) / config.omega
            self.layers.append(_linear(inputs, outputs, bound))
        bound = math.sqrt(6 / config.neck_width) / config.omega
        self.readout = _linear(config.neck_width, math.prod(config.frame_shape), bound)

    def forward(self, times: Tensor) -> Tensor:
        """Log intensity (T, H, W, C) at times (T,) or (T, 1), of which -1 and 1 are the window's ends.

        H, W are the network's own rows and columns. Raises InputError for times of another shape.
        """
        return self.frames(self.config.omega * self.readout(self.features(times)))

    def features(self, times: Tensor) -> Tensor:
        """The functions of time (T, neck_width) of which every pixel is a linear function."""
        values = _column(times)
        for layer in self.layers:
            values = torch.sin(self.config.omega * layer(values))
        return values

    def with_derivative(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Log intensity and its derivative by the network's time, each (T, H, W, C).

        The derivative is carried forward beside the value: a' = cos(z) z', z' = omega A a'.
        """
        omega = self.config.omega
        values = _column(times)
        slopes = torch.ones_like(values)
        for layer in self.layers:
            phases = omega * layer(values)
            values = torch.sin(phases)
            slopes = torch.cos(phases) * (omega * nn.functional.linear(slopes, layer.weight))  # type: ignore[arg-type]
        video = self.frames(omega * self.readout(values))
        return video, self.frames(omega * nn.functional.linear(slopes, self.readout.weight))

    def frames(self, pixels: Tensor) -> Tensor:
        """Pixels (T, H * W * C) as frames (T, H, W, C)."""
        return pixels.view(len(pixels), *self.config.frame_shape)

    def own_times(self, times_us: Tensor) -> Tensor:
        """float32 (T,) times of the network, from float64 microseconds on the recording's clock."""
        start, end = self.config.window_us
        return (2 * (times_us - start) / (end - start) - 1).float()


def tone_map(log_intensity: Tensor) -> Tensor:
    """Light in 0..1 from log intensity, I / (1 + I) to the power 1 / 0.6, without overflow."""
    return torch.sigmoid(log_intensity) ** TONE_EXPONENT


def _linear(inputs: int, outputs: int, bound: float) -> nn.Linear:
    """A layer with uniform weights and torch's default biases."""
    layer = nn.Linear(inputs, outputs)
    nn.init.uniform_(layer.weight, -bound, bound)
    return layer


def _column(times: Tensor) -> Tensor:
    if times.ndim not in (1, 2) or (times.ndim == 2 and times.shape[1] != 1):
        raise InputError(f"times of shape {tuple(times.shape)}, expected (T,) or (T, 1)")
    return times.reshape(-1, 1)
