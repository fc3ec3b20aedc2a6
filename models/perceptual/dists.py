"""DISTS: structure and texture similarity of two images in VGG-16 features (Ding et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from evsim.models.perceptual.features import vgg16_features
from evsim.models.perceptual.lpips import colour, require_pair

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_STABILISER = 1e-6


class L2Pool(nn.Module):
    """Halves an image: the root of the weighted mean square, weights (1/4, 1/2, 1/4) in both directions."""

    filter: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = torch.tensor([0.25, 0.5, 0.25])
        kernel = torch.outer(taps, taps).expand(channels, 1, 3, 3).clone()
        self.register_buffer("filter", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, ceil(h/2), ceil(w/2)); zeros beyond the border."""
        square = conv2d(x**2, self.filter, stride=2, padding=1, groups=x.shape[1])
        return torch.sqrt(square + 1e-12)


class Dists(nn.Module):
    """Deep image structure and texture similarity, 0 for identical images; frozen, in evaluation mode.

    The weights are untrained until a checkpoint is loaded (`load_dists`).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.trunk = vgg16_features(L2Pool)
        self.channels = [3, *self.trunk.channels]
        width = sum(self.channels)
        self.alpha = nn.Parameter(torch.full((1, width, 1, 1), 0.5 / width))
        self.beta = nn.Parameter(torch.full((1, width, 1, 1), 0.5 / width))
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def forward(self, prediction: Tensor, reference: Tensor) -> Tensor:
        """(B,) distances of images (B, 1, H, W) or (B, 3, H, W) RGB of full scale 1.0; nothing is clamped.

        Differentiable in both; images are compared at the size they have. Raises InputError for other shapes.
        """
        texture, structure = self.stage_terms(prediction, reference)
        return 1 - texture.sum(1) - structure.sum(1)

    def stage_terms(self, prediction: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted texture and structure similarity, each (B, 6): of the image and of five depths."""
        require_pair(prediction, reference)
        total = self.alpha.sum() + self.beta.sum()
        alphas = torch.split((self.alpha / total).flatten(), self.channels)
        betas = torch.split((self.beta / total).flatten(), self.channels)
        textures, structures = [], []
        for first, second, alpha, beta in zip(
            self.features(prediction), self.features(reference), alphas, betas, strict=True
        ):
            texture, structure = _similarities(first, second)
            textures.append((alpha * texture).sum(1))
            structures.append((beta * structure).sum(1))
        return torch.stack(textures, 1), torch.stack(structures, 1)

    def features(self, images: Tensor) -> list[Tensor]:
        """The image itself and the activations at five depths, finest first."""
        images = colour(images)
        return [images, *self.trunk((images - self.mean) / self.deviation)]


def _similarities(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C) similarity of the means and of the structure of two (B, C, h, w)."""
    mean1, mean2 = first.mean((2, 3)), second.mean((2, 3))
    texture = (2 * mean1 * mean2 + _STABILISER) / (mean1**2 + mean2**2 + _STABILISER)
    centred1, centred2 = first - mean1[..., None, None], second - mean2[..., None, None]
    variances = (centred1**2).mean((2, 3)) + (centred2**2).mean((2, 3))
    covariance = (centred1 * centred2).mean((2, 3))
    return texture, (2 * covariance + _STABILISER) / (variances + _STABILISER)
