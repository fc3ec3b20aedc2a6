"""Pixel-wise conventions: squared and absolute error, peak signal-to-noise ratio, lightness order error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.configuration import check_choices
from evsim.metrics.images import Quantise, checked_pair, codes, luma_channel, unit

_LIGHTNESS_SIDE = 50


def mean_squared_error(
    prediction: ArrayLike, reference: ArrayLike, *, clamp: bool = True, quantise: Quantise | None = None
) -> float:
    """Mean squared difference over pixels and channels: full scale 1.0, or 255 if quantised.

    clamp: the prediction to [0, 1] first. Raises InputError for images that cannot be compared.
    """
    predicted, truth = checked_pair(prediction, reference)
    if quantise is None:
        return float(np.mean((unit(predicted, clamp=clamp) - unit(truth)) ** 2))
    return float(np.mean((codes(predicted, quantise) - codes(truth, quantise)) ** 2))


def mean_absolute_error(
    prediction: ArrayLike, reference: ArrayLike, *, quantise: Quantise | None = None
) -> float:
    """Mean absolute difference over pixels and channels: full scale 1.0, or 255 if quantised ('IE').

    Raises InputError for images that cannot be compared.
    """
    predicted, truth = checked_pair(prediction, reference)
    if quantise is None:
        return float(np.mean(np.abs(unit(predicted) - unit(truth))))
    return float(np.mean(np.abs(codes(predicted, quantise) - codes(truth, quantise))))


@dataclass(frozen=True, kw_only=True)
class PsnrConvention:
    """How a publication turns two images into one peak signal-to-noise ratio in dB."""

    quantise: Quantise = "none"
    """8-bit codes first: as they are, truncated or rounded."""
    colour: Literal["channels", "luma"] = "channels"
    """All channels jointly, or the luma of the images."""
    floor: float = 0.0
    """Added to the mean squared error (full scale 1.0); with 0, identical images give infinity."""

    def __post_init__(self) -> None:
        check_choices(self)


def peak_signal_to_noise(prediction: ArrayLike, reference: ArrayLike, convention: PsnrConvention) -> float:
    """10 log10(1 / (mean squared error + floor)) in dB, both images clamped to [0, 1].

    Raises InputError for images that cannot be compared.
    """
    predicted, truth = checked_pair(prediction, reference)
    error = _compared(predicted, convention) - _compared(truth, convention)
    mean_square = float(np.mean(error**2)) / 255**2 + convention.floor
    return math.inf if mean_square == 0 else -10 * math.log10(mean_square)


def _compared(image: NDArray[np.generic], convention: PsnrConvention) -> NDArray[np.float64]:
    if convention.colour == "channels":
        return codes(image, convention.quantise)
    # Luma comes first: quantising R, G and B before would round twice.
    return codes(luma_channel(unit(image)), convention.quantise)


def lightness_order_error(prediction: ArrayLike, reference: ArrayLike) -> float:
    """Mean number of pixels whose order in lightness to a pixel differs between prediction and reference.

    Both grey images are resized (bilinear) so that the short side has 50 pixels; the prediction is not
    clamped. Wang et al. 2013. Raises InputError for images that cannot be compared.
    """
    predicted, truth = (
        _small(unit(image, clamp=False)[..., 0]) for image in checked_pair(prediction, reference, grey=True)
    )
    # One row of the order matrix at a time: the whole of it would grow with the fourth power of the side.
    differing = [
        np.count_nonzero((level >= predicted) != (true >= truth)) for level, true in zip(predicted, truth)
    ]
    return float(np.mean(differing))


def _small(image: NDArray[np.float64]) -> NDArray[np.float64]:
    height, width = image.shape
    scale = _LIGHTNESS_SIDE / min(height, width)
    size = (round(width * scale), round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.float64).reshape(-1)
