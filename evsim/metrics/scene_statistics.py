"""Natural scene statistics: locally normalised luminance and its generalised gaussian fits."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.errors import InputError
from evsim.metrics.images import checked_image, codes, luma_channel, unit

_SHAPES: NDArray[np.float64] = np.arange(200, 10001) / 1000
_WINDOW_SIDE = 7
_WINDOW_SIGMA = 7 / 6
_EPSILON = float(np.finfo(np.float32).eps)


class Asymmetric(NamedTuple):
    """A fitted asymmetric generalised gaussian: NaN where the values are all of one sign or zero."""

    shape: float
    """Exponent, in [0.2, 10] to 0.001; 2 is the gaussian."""
    left: float
    """Root mean square of the negative values."""
    right: float
    """Root mean square of the positive values."""


def luminance(image: ArrayLike) -> NDArray[np.float64]:
    """(H, W) luma of an image, rounded to codes 0..255, as float64; InputError for what is no image."""
    checked = checked_image(image, "image")
    return codes(luma_channel(unit(checked)).astype(np.float32), "round")[..., 0]


def normalised_luminance(
    image: NDArray[np.float64], *, border: Literal["zero", "replicate"]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(image - local mean) / (local deviation + 1), and the local deviation; both (H, W).

    image: (H, W), full scale 255. The window is 7x7 gaussian, sigma 7/6; beyond the border there are zeros
    or copies of the border. Mittal et al. 2012.
    """
    offsets = np.arange(_WINDOW_SIDE) - _WINDOW_SIDE // 2
    taps = np.exp(-(offsets**2) / (2 * _WINDOW_SIGMA**2))
    taps /= taps.sum()
    kind = cv2.BORDER_CONSTANT if border == "zero" else cv2.BORDER_REPLICATE
    mean = cv2.sepFilter2D(image, cv2.CV_64F, taps, taps, borderType=kind)
    mean_square = cv2.sepFilter2D(image**2, cv2.CV_64F, taps, taps, borderType=kind)
    deviation = np.sqrt(np.abs(mean_square - mean**2) + _EPSILON)
    return (image - mean) / (deviation + 1), deviation


def half_size(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """(ceil(H/2), ceil(W/2)) by antialiased bicubic interpolation, borders mirrored (MATLAB's imresize)."""
    return _halving(image.shape[0]) @ image @ _halving(image.shape[1]).T


def symmetric_fit(values: NDArray[np.float64]) -> tuple[float, float]:
    """Shape and variance of the generalised gaussian with the moments of `values`; NaN if all are 0."""
    variance = float(np.mean(values**2))
    magnitude = float(np.mean(np.abs(values)))
    if magnitude == 0:
        return math.nan, variance
    return _shape_at(magnitude**2 / variance), variance


def asymmetric_fit(values: NDArray[np.float64]) -> Asymmetric:
    """The asymmetric generalised gaussian with the moments of `values` (Lasmar et al. 2009)."""
    negative, positive = values[values < 0], values[values > 0]
    if not negative.size or not positive.size:
        return Asymmetric(math.nan, math.nan, math.nan)
    left, right = math.sqrt(np.mean(negative**2)), math.sqrt(np.mean(positive**2))
    ratio = left / right
    moments = float(np.mean(np.abs(values)) ** 2 / np.mean(values**2))
    return Asymmetric(_shape_at(moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2), left, right)


def neighbour_product(values: NDArray[np.float64], shift: tuple[int, int]) -> NDArray[np.float64]:
    """Each value times the one `shift` (rows, columns) before it; the borders wrap around."""
    return values * np.roll(values, shift, axis=(0, 1))


def require_finite(features: NDArray[Any], name: str) -> None:
    """InputError if a fit failed, which takes an image (or every block) without texture."""
    if not np.isfinite(features).all():
        raise InputError(f"{name}: the image has no texture to take statistics of")


def _shape_at(ratio: float) -> float:
    """The tabulated shape whose (mean magnitude)^2 / mean square is closest to `ratio`."""
    shapes, ratios = _moment_table()
    return float(shapes[np.argmin(np.abs(ratios - ratio))])


@functools.cache
def _moment_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ratios = [
        math.exp(2 * math.lgamma(2 / shape) - math.lgamma(1 / shape) - math.lgamma(3 / shape))
        for shape in _SHAPES.tolist()
    ]
    return _SHAPES, np.array(ratios)


def _halving(size: int) -> NDArray[np.float64]:
    """(ceil(size/2), size) matrix of interpolation weights."""
    halved = -(-size // 2)
    centres = (np.arange(halved) + 0.5) * 2 - 0.5
    columns = np.floor(centres - 4)[:, None] + np.arange(10)
    weights = _cubic((centres[:, None] - columns) / 2)
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = np.concatenate([np.arange(size), np.arange(size)[::-1]])[columns.astype(int) % (2 * size)]
    matrix = np.zeros((halved, size))
    np.add.at(matrix, (np.arange(halved)[:, None], mirrored), weights)
    return matrix


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel with slope -1/2."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
