"""Brightness pictures for matching: what motion estimation and cut detection look at instead of the frames.

Nothing computed here reaches an output frame; it only steers where output frames take their samples from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114  # luma weights of ITU-R BT.601


def matching_luma(image: NDArray[Any]) -> NDArray[np.float32]:
    """Luma (H, W) float32 of a grey or RGB image of any type, in units of that type."""
    if image.ndim == 2:
        return image.astype(np.float32)
    weights = np.array([_RED, _GREEN, _BLUE], np.float32)
    return np.ascontiguousarray(image.astype(np.float32) @ weights)


def bright_level(image: NDArray[np.float32]) -> float:
    """The brightness that 99.9 % of a luma picture's pixels do not exceed, from every fourth row and column.

    A percentile, so that single hot pixels do not decide.
    """
    sample = image[::4, ::4].ravel()
    rank = min(sample.size - 1, int(0.999 * sample.size))
    return float(np.partition(sample, rank)[rank])


def matching_pair(image0: NDArray[Any], image1: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The two images as 8-bit luma (H, W) under one common gain.

    8-bit images keep their code values. Others are scaled so that the pair's bright level is 255: linear
    light of a dark scene would otherwise fall into a few codes.
    """
    luma0, luma1 = matching_luma(image0), matching_luma(image1)
    linear = image0.dtype != np.uint8
    gain = 255.0 / max(bright_level(luma0), bright_level(luma1), 1e-12) if linear else 1.0
    return _to_bytes(luma0, gain), _to_bytes(luma1, gain)


def _to_bytes(picture: NDArray[np.float32], gain: float) -> NDArray[np.uint8]:
    scaled = np.rint(picture * np.float32(gain))
    return np.clip(scaled, 0, 255).astype(np.uint8)
