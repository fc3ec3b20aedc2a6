"""The convolutional parts of AlexNet, VGG-16 and SqueezeNet 1.1, with torchvision's key names.

A stack gives the activations after chosen layers. Weights are published elsewhere (ImageNet); torchvision
itself is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from evsim.errors import InputError

Trunk = Literal["alex", "vgg", "squeeze"]

VGG_LAYERS: tuple[int | None, ...] = (
    *(64, 64, None, 128, 128, None, 256, 256, 256, None),
    *(512, 512, 512, None, 512, 512, 512),
)
"""Output channels of the convolutions of VGG-16; None is a pooling layer."""


class FeatureStack(nn.Module):
    """Layers in a row, of which some are looked at.

    features: the layers, under torchvision's name. taps: indices of the layers whose output is returned, in
    increasing order. channels: of those outputs. smallest: side of the smallest image that leaves a pixel.
    """

    def __init__(
        self, features: nn.Sequential, taps: tuple[int, ...], channels: tuple[int, ...], smallest: int
    ) -> None:
        super().__init__()
        self.features = features
        self.taps = taps
        self.channels = channels
        self.smallest = smallest

    def forward(self, images: Tensor) -> list[Tensor]:
        """The tapped activations (B, channels[k], h, w) of normalised images (B, 3, H, W), finest first.

        Raises InputError for another shape or an image too small.
        """
        if images.dim() != 4 or images.shape[1] != 3 or min(images.shape[2:]) < self.smallest:
            raise InputError(
                f"images have shape {tuple(images.shape)}, expected (B, 3, H, W) with sides of at least "
                f"{self.smallest} pixels"
            )
        found = []
        for index, layer in enumerate(self.features):
            images = layer(images)
            if index in self.taps:
                found.append(images)
        return found


class Fire(nn.Module):
    """1x1 squeeze, then 1x1 and 3x3 expansion side by side (Iandola et al. 2016)."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, 2 * expanded, h, w)."""
        x = torch.relu(self.squeeze(x))
        return torch.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


def feature_stack(trunk: Trunk) -> FeatureStack:
    """The stack of `trunk` with the taps that LPIPS uses, untrained; InputError for another name."""
    stacks: dict[str, Callable[[], FeatureStack]] = {
        "alex": alexnet_features,
        "vgg": vgg16_features,
        "squeeze": squeezenet_features,
    }
    if trunk not in stacks:
        raise InputError(f"trunk {trunk!r}, expected one of {', '.join(get_args(Trunk))}")
    return stacks[trunk]()


def alexnet_features() -> FeatureStack:
    """The five convolutions of AlexNet, tapped after each rectification (Krizhevsky 2014)."""
    layers = [
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    ]
    return FeatureStack(nn.Sequential(*layers), (1, 4, 7, 9, 11), (64, 192, 384, 256, 256), 31)


def vgg16_features(pool: Callable[[int], nn.Module] = lambda channels: nn.MaxPool2d(2)) -> FeatureStack:
    """The thirteen convolutions of VGG-16, tapped after the last rectification before each pooling.

    pool: makes the pooling layer for a number of channels. Simonyan and Zisserman 2015.
    """
    layers: list[nn.Module] = []
    channels = 3
    for width in VGG_LAYERS:
        if width is None:
            layers.append(pool(channels))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return FeatureStack(nn.Sequential(*layers), (3, 8, 15, 22, 29), (64, 128, 256, 512, 512), 16)


def squeezenet_features() -> FeatureStack:
    """SqueezeNet 1.1 without its classifier, tapped at seven depths (Iandola et al. 2016)."""
    layers = [
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
    ]
    channels = (64, 128, 256, 384, 384, 512, 512)
    return FeatureStack(nn.Sequential(*layers), (1, 4, 7, 9, 10, 11, 12), channels, 17)
