"""FireNet: convolution, two convolutional GRUs, two residual blocks; full resolution throughout.

Scheerlinck et al. 2020, "Fast Image Reconstruction with an Event Camera". FireNet+ (Stoffregen et al. 2020)
is the same network, trained on voxel grids that are not normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from evsim.configuration import require_range
from evsim.errors import ConfigError, InputError


@dataclass(frozen=True, kw_only=True)
class FireNetConfig:
    """Hyper-parameters of FireNet; the defaults are those of FireNet+."""

    bins: int = 5
    """Bins of the voxel grid."""
    channels: int = 16
    """Feature channels of every layer and of both states."""
    kernel_size: int = 3
    """Side of every convolution but the last, odd."""
    normalize_voxels: bool = False
    """Normalise the voxel grid's non-zero values to mean 0 and deviation 1, as the first FireNet expects."""

    def __post_init__(self) -> None:
        require_range("bins", self.bins, 1)
        require_range("channels", self.channels, 1)
        require_range("kernel_size", self.kernel_size, 1)
        if self.kernel_size % 2 == 0:
            raise ConfigError(f"kernel_size = {self.kernel_size}, expected an odd number")


class FireNetState(NamedTuple):
    """Hidden states of the two recurrent layers, each float (B, channels, H, W)."""

    first: Tensor
    second: Tensor


class FireNet(nn.Module):
    """Voxel grid and state to image and next state."""

    name: ClassVar[str] = "firenet"

    def __init__(self, config: FireNetConfig) -> None:
        super().__init__()
        self.config = config
        channels, kernel_size = config.channels, config.kernel_size
        self.head = _convolution(config.bins, channels, kernel_size)
        self.recurrent1 = ConvGRU(channels, kernel_size)
        self.residual1 = ResidualBlock(channels, kernel_size)
        self.recurrent2 = ConvGRU(channels, kernel_size)
        self.residual2 = ResidualBlock(channels, kernel_size)
        self.prediction = nn.Conv2d(channels, 1, 1)

    def forward(self, voxel: Tensor, state: FireNetState | None = None) -> tuple[Tensor, FireNetState]:
        """The image (B, 1, H, W), nominally in 0..1 and not clipped, and the state for the next step.

        voxel: (B, bins, H, W) signed voxel grid by the E2VID rule, of any size. state: of the previous step,
        or None at the start of a sequence, which means zeros. Raises InputError for other shapes.
        """
        config = self.config
        if voxel.ndim != 4 or voxel.shape[1] != config.bins:
            raise InputError(f"voxel grid of shape {tuple(voxel.shape)}, expected (B, {config.bins}, H, W)")
        if config.normalize_voxels:
            voxel = normalize_nonzero(voxel)
        previous = self.initial_state(voxel) if state is None else state
        self._require_fit(voxel, previous)
        features = torch.relu(self.head(voxel))
        first = self.recurrent1(features, previous.first)
        second = self.recurrent2(self.residual1(first), previous.second)
        return self.prediction(self.residual2(second)), FireNetState(first, second)

    def initial_state(self, voxel: Tensor) -> FireNetState:
        """The zero state for sequences of voxel grids (B, bins, H, W) such as this one."""
        shape = (voxel.shape[0], self.config.channels, *voxel.shape[2:])
        return FireNetState(voxel.new_zeros(shape), voxel.new_zeros(shape))

    def _require_fit(self, voxel: Tensor, state: FireNetState) -> None:
        wanted = (voxel.shape[0], self.config.channels, *voxel.shape[2:])
        for tensor in state:
            if tuple(tensor.shape) != wanted:
                raise InputError(
                    f"state of shape {tuple(tensor.shape)}, expected {wanted} for this voxel grid; pass None "
                    "to start a sequence"
                )


class ConvGRU(nn.Module):
    """Gated recurrent unit whose three gates are convolutions (Ballas et al. 2016)."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.reset_gate = _convolution(2 * channels, channels, kernel_size)
        self.update_gate = _convolution(2 * channels, channels, kernel_size)
        self.out_gate = _convolution(2 * channels, channels, kernel_size)
        for gate in (self.reset_gate, self.update_gate, self.out_gate):
            nn.init.orthogonal_(gate.weight)
            nn.init.zeros_(gate.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, hidden: Tensor) -> Tensor:
        """The next hidden state; features and hidden are (B, channels, H, W)."""
        joined = torch.cat((features, hidden), dim=1)
        update = torch.sigmoid(self.update_gate(joined))
        reset = torch.sigmoid(self.reset_gate(joined))
        candidate = torch.tanh(self.out_gate(torch.cat((features, hidden * reset), dim=1)))
        return hidden * (1 - update) + candidate * update


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, channels, kernel_size)
        self.conv2 = _convolution(channels, channels, kernel_size)

    def forward(self, features: Tensor) -> Tensor:
        """Features of the same shape (B, channels, H, W)."""
        return torch.relu(self.conv2(torch.relu(self.conv1(features))) + features)


def normalize_nonzero(voxel: Tensor, smallest_deviation: float = 1e-6) -> Tensor:
    """Each sample's non-zero values to mean 0 and deviation 1, zeros kept; voxel is (B, bins, H, W).

    The deviation is that of the population and at least `smallest_deviation` (evaluation protocol of
    EVREAL, Ercan et al. 2023).
    """
    filled = voxel != 0
    count = filled.sum((1, 2, 3), keepdim=True).clamp(min=1)
    mean = voxel.sum((1, 2, 3), keepdim=True) / count
    variance = (voxel * voxel).sum((1, 2, 3), keepdim=True) / count - mean * mean
    deviation = variance.clamp(min=0).sqrt().clamp(min=smallest_deviation)
    return torch.where(filled, (voxel - mean) / deviation, torch.zeros_like(voxel))


def _convolution(inputs: int, outputs: int, kernel_size: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)
