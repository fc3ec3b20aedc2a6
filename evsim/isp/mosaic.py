"""The Bayer colour filter array in RGGB order: one colour for each pixel, and back by interpolation."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError

RGGB = ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2))
"""(row, column, channel) of the four sites of a 2 x 2 cell: R, G, G, B."""

_CROSS = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32)
_SQUARE = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)


def mosaic_rggb(rgb: NDArray[Any]) -> NDArray[Any]:
    """(4, H / 2, W / 2) planes R(0, 0), G(0, 1), G(1, 0), B(1, 1) of an (H, W, 3) image, dtype kept.

    Raises InputError for an odd height or width, which has no whole cells: crop it or use `bayer_plane`.
    """
    height, width = _colour_size(rgb)
    if height % 2 or width % 2:
        raise InputError(
            f"image of {width}x{height} pixels has an odd side, and RGGB cells are 2x2; "
            "crop it by one, or use bayer_plane, which takes any size"
        )
    return np.stack([rgb[row::2, column::2, channel] for row, column, channel in RGGB])


def bayer_plane(rgb: NDArray[Any]) -> NDArray[Any]:
    """(H, W) plane in which each pixel holds the one colour of its filter; dtype kept, any size.

    On an odd side the last row or column is half a cell.
    """
    height, width = _colour_size(rgb)
    plane = np.empty((height, width), rgb.dtype)
    for row, column, channel in RGGB:
        plane[row::2, column::2] = rgb[row::2, column::2, channel]
    return plane


def demosaic(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 (H, W, 3) from an RGGB plane by bilinear interpolation; sites keep their own colour exactly.

    Raises InputError below 2 x 2 pixels, where a colour is missing.
    """
    if plane.ndim != 2 or min(plane.shape) < 2:
        raise InputError(f"Bayer plane of shape {plane.shape}, expected (H, W) of at least 2x2")
    colour = np.empty((*plane.shape, 3), np.float32)
    for channel, kernel in enumerate((_SQUARE, _CROSS, _SQUARE)):
        known = np.zeros(plane.shape, np.float32)
        for row, column, site_channel in RGGB:
            if site_channel == channel:
                known[row::2, column::2] = 1.0
        # Dividing by the weight that was really there makes the borders right without padding rules.
        weight = cv2.filter2D(known, -1, kernel, borderType=cv2.BORDER_CONSTANT)
        value = cv2.filter2D(known * plane, -1, kernel, borderType=cv2.BORDER_CONSTANT)
        colour[..., channel] = np.where(known > 0, plane, value / weight)
    return colour


def _colour_size(rgb: NDArray[Any]) -> tuple[int, int]:
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise InputError(f"image of shape {rgb.shape}, expected (H, W, 3)")
    return rgb.shape[0], rgb.shape[1]
