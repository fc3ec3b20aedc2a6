"""What happens to a reconstruction before it is scored: normalisation, and equalisation of both images."""

from __future__ import annotations

from typing import Any, Literal, get_args

import cv2
import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.errors import InputError
from evsim.metrics.images import checked_image, codes, unit

Normalisation = Literal["none", "standard", "robust", "exprobust"]
Equalisation = Literal["none", "global", "local", "clahe"]

_LOCAL_RADIUS = 55
_BINS = 256


def normalise_image(image: ArrayLike, kind: Normalisation) -> NDArray[np.float32]:
    """float32 (H, W) reconstruction, its values spread between two of its percentiles; not clipped.

    standard: minimum and maximum. robust: percentiles 1 and 99. exprobust: the same of exp(image), for
    networks whose output is logarithmic. Done frame by frame, it hides gain errors and may flicker. A
    constant image becomes 0. Raises InputError for an unknown kind or values that are not finite.
    """
    if kind not in get_args(Normalisation):
        raise InputError(f"normalisation {kind!r}, expected one of {', '.join(get_args(Normalisation))}")
    values = np.asarray(image, np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"image holds {np.count_nonzero(~np.isfinite(values))} values that are not finite")
    if kind == "none":
        return values
    if kind == "exprobust":
        values = np.exp(values)
    low, high = np.percentile(values, (0, 100) if kind == "standard" else (1, 99))
    if high <= low:
        return np.zeros_like(values)
    return ((values - low) / (high - low)).astype(np.float32)


def equalise_image(image: ArrayLike, kind: Equalisation) -> NDArray[np.floating[Any]]:
    """(H, W) floats in [0, 1]: the grey image clipped, its histogram equalised.

    global: over the whole image, 256 bins between its extremes. local: 8-bit rank within a disk of radius 55.
    clahe: 8-bit, contrast-limited (clip 2) on 8x8 tiles. Raises InputError for colour or an unknown kind.
    """
    checked = checked_image(image, "image")
    if checked.shape[2] != 1:
        raise InputError("equalisation is defined for grey images")
    grey = unit(checked)[..., 0]
    if kind == "none":
        return grey
    if kind == "global":
        return _equalise_globally(grey)
    eight_bit = codes(checked, "round")[..., 0].astype(np.uint8)
    if kind == "local":
        return _rank_in_disk(eight_bit, _LOCAL_RADIUS) / np.float32(255)
    if kind == "clahe":
        return cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(eight_bit) / np.float32(255)
    raise InputError(f"equalisation {kind!r}, expected one of {', '.join(get_args(Equalisation))}")


def _equalise_globally(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    counts, edges = np.histogram(grey, bins=_BINS)
    cumulative = np.cumsum(counts) / grey.size
    return np.interp(grey, (edges[:-1] + edges[1:]) / 2, cumulative)


@numba.njit(cache=True, nogil=True)
def _rank_in_disk(image: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:  # pragma: no cover
    """floor(255 * share of the pixels within `radius` whose value is at most the pixel's own)."""
    height, width = image.shape
    reach = np.empty(2 * radius + 1, np.int64)
    for offset in range(-radius, radius + 1):
        reach[offset + radius] = int(np.sqrt(radius * radius - offset * offset))
    ranks = np.empty((height, width), np.uint8)
    for y in range(height):
        top, bottom = max(0, y - radius), min(height - 1, y + radius)
        histogram = np.zeros(256, np.int64)
        total = 0
        for row in range(top, bottom + 1):
            for x in range(min(width, reach[row - y + radius])):
                histogram[image[row, x]] += 1
                total += 1
        for x in range(width):
            for row in range(top, bottom + 1):
                entering = x + reach[row - y + radius]
                leaving = x - reach[row - y + radius] - 1
                if entering < width:
                    histogram[image[row, entering]] += 1
                    total += 1
                if leaving >= 0:
                    histogram[image[row, leaving]] -= 1
                    total -= 1
            below = 0
            for level in range(image[y, x] + 1):
                below += histogram[level]
            ranks[y, x] = 255 * below // total
    return ranks
