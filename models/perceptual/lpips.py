"""LPIPS: the distance of two images in the features of a classification network (Zhang et al. 2018, v0.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evsim.errors import InputError
from evsim.models.perceptual.features import Trunk, feature_stack

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-10


class Lpips(nn.Module):
    """Learned perceptual image patch similarity, lower is more alike; frozen, in evaluation mode.

    The weights are untrained until a checkpoint is loaded (`load_lpips`).
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: Trunk = "alex") -> None:
        super().__init__()
        self.trunk = feature_stack(trunk)
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in self.trunk.channels)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def forward(self, prediction: Tensor, reference: Tensor) -> Tensor:
        """(B,) distances of images (B, 1, H, W) or (B, 3, H, W) RGB of full scale 1.0; nothing is clamped.

        Differentiable in both. Grey counts for all three channels. Raises InputError for other shapes.
        """
        return self.layer_terms(prediction, reference).sum(1)

    def layer_terms(self, prediction: Tensor, reference: Tensor) -> Tensor:
        """(B, layers): what each layer adds to the distance."""
        return torch.stack([m.mean((1, 2, 3)) for m in self.layer_maps(prediction, reference)], 1)

    def layer_maps(self, prediction: Tensor, reference: Tensor) -> list[Tensor]:
        """Per layer (B, 1, h, w): the weighted squared difference of the normalised features."""
        require_pair(prediction, reference)
        first, second = self._features(prediction), self._features(reference)
        return [head((_normalised(a) - _normalised(b)) ** 2) for head, a, b in zip(self.heads, first, second)]

    def _features(self, images: Tensor) -> list[Tensor]:
        features: list[Tensor] = self.trunk((colour(images) * 2 - 1 - self.shift) / self.scale)
        return features


def require_pair(prediction: Tensor, reference: Tensor) -> None:
    """InputError unless both are (B, 1, H, W) or both (B, 3, H, W) of one shape."""
    if prediction.shape != reference.shape or prediction.dim() != 4 or prediction.shape[1] not in (1, 3):
        raise InputError(
            f"prediction has shape {tuple(prediction.shape)}, reference {tuple(reference.shape)}; expected "
            "the same (B, 1, H, W) or (B, 3, H, W)"
        )


def colour(images: Tensor) -> Tensor:
    """(B, 3, H, W) of grey or colour images."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def _normalised(features: Tensor) -> Tensor:
    # vector_norm, unlike the root of a sum, has a finite gradient where all features are 0.
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + _EPSILON)
