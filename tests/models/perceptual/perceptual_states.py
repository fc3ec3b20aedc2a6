"""Published states of the perceptual networks, filled by the fixtures' rule."""

from __future__ import annotations

import fnmatch
import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch


def filled_state(keys_file: Path) -> dict[str, torch.Tensor]:
    """The filled tensors of a key file; keys that it says to keep are left out."""
    description = json.loads(keys_file.read_text())
    return {
        key: fill(key, shape, description["scale"])
        for key, shape, _ in description["keys"]
        if not any(fnmatch.fnmatchcase(key, pattern) for pattern in description["keep"])
    }


def fill(key: str, shape: list[int], scale: Mapping[str, float]) -> torch.Tensor:
    """The value of a convolution's weight or bias, which is all that these networks have."""
    draw = np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF)
    spread = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) >= 2 else 0.05
    value = draw.standard_normal(shape) * spread
    for pattern, factor in scale.items():
        if fnmatch.fnmatchcase(key, pattern):
            value = value * factor
    return torch.from_numpy(value.astype(np.float32))


def torchvision_state(filled: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The trunk of a filled state under torchvision's names, with a classifier as its files have."""
    trunk = {
        ".".join(["features", *key.split(".")[2 if key.startswith("net.") else 1 :]]): value
        for key, value in filled.items()
    }
    return {**trunk, "classifier.1.weight": torch.zeros(4, 4), "classifier.1.bias": torch.zeros(4)}
