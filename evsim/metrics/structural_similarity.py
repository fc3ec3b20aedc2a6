"""Structural similarity in every convention of the field: window, colour, quantisation, range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.configuration import check_choices
from evsim.errors import InputError
from evsim.metrics.images import Quantise, checked_pair, codes, luma_channel, unit

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang et al. 2003)."""


@dataclass(frozen=True, kw_only=True)
class SsimConvention:
    """How a publication turns two images into one structural similarity (Wang et al. 2004, K .01 and .03)."""

    window: Literal["gaussian", "uniform"] = "gaussian"
    """Weights of the window: gaussian of sigma 1.5, or all equal."""
    side: int = 11
    """Pixels of the window in each direction; only windows wholly inside the image count."""
    colour: Literal["channels", "luma", "grey"] = "channels"
    """Mean over the channels, luma of the images, or grey images only."""
    quantise: Quantise = "none"
    """8-bit codes first: as they are, truncated or rounded."""
    data_range: float = 1.0
    """Range in the constants as a multiple of full scale; anything but 1 reproduces a known mistake."""
    sample_covariance: bool = False
    """Divide (co)variances by n - 1 instead of n."""
    clamp_contrast: bool = False
    """Negative values of the contrast-structure term count as 0."""
    clamp: bool = True
    """Clamp the prediction to [0, 1] first."""

    def __post_init__(self) -> None:
        check_choices(self)


def structural_similarity(prediction: ArrayLike, reference: ArrayLike, convention: SsimConvention) -> float:
    """Mean structural similarity, 1 for identical images.

    Raises InputError for images that cannot be compared or are smaller than the window.
    """
    predicted, truth = checked_pair(prediction, reference, grey=convention.colour == "grey")
    if min(predicted.shape[:2]) < convention.side:
        raise InputError(
            f"images of {predicted.shape[1]}x{predicted.shape[0]} pixels are smaller than the window of "
            f"{convention.side}x{convention.side}"
        )
    contrast, luminance = _terms(_prepared(predicted, convention), _prepared(truth, convention), convention)
    return float(np.mean(contrast * luminance))


def multi_scale_similarity(prediction: ArrayLike, reference: ArrayLike, convention: SsimConvention) -> float:
    """Product over five scales, each half the size of the one before, per channel (Wang et al. 2003).

    Scales are made by 2x2 means; a negative mean counts as 0. Raises InputError for images that cannot be
    compared or whose short side does not exceed 160 pixels.
    """
    predicted, truth = checked_pair(prediction, reference, grey=convention.colour == "grey")
    shortest = (convention.side - 1) * 2 ** (len(SCALE_WEIGHTS) - 1)
    if min(predicted.shape[:2]) <= shortest:
        raise InputError(
            f"images of {predicted.shape[1]}x{predicted.shape[0]} pixels are too small for five scales; "
            f"the short side must exceed {shortest}"
        )
    first, second = _prepared(predicted, convention), _prepared(truth, convention)
    product = np.ones(first.shape[2])
    for scale, weight in enumerate(SCALE_WEIGHTS):
        contrast, luminance = _terms(first, second, convention)
        last = scale == len(SCALE_WEIGHTS) - 1
        mean = np.mean(contrast * luminance if last else contrast, axis=(0, 1))
        product *= np.maximum(mean, 0) ** weight
        if not last:
            first, second = _halved(first), _halved(second)
    return float(np.mean(product))


def _prepared(image: NDArray[Any], convention: SsimConvention) -> NDArray[np.float64]:
    """(H, W, C) of full scale 255."""
    if not convention.clamp:
        return unit(image, clamp=False) * 255
    if convention.colour == "luma":
        # Luma comes first: quantising R, G and B before would round twice.
        return codes(luma_channel(unit(image)), convention.quantise)
    return codes(image, convention.quantise)


def _terms(
    first: NDArray[np.float64], second: NDArray[np.float64], convention: SsimConvention
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The contrast-structure and the luminance map, (h, w, C) over the windows inside the image."""
    small1, small2 = ((k * 255 * convention.data_range) ** 2 for k in (0.01, 0.03))
    taps = _taps(convention)
    mean1, mean2 = _windowed(first, taps), _windowed(second, taps)
    count = taps.size**2
    correction = count / (count - 1) if convention.sample_covariance else 1.0
    variances = _windowed(first**2 + second**2, taps) - mean1**2 - mean2**2
    covariance = _windowed(first * second, taps) - mean1 * mean2
    contrast = (2 * correction * covariance + small2) / (correction * variances + small2)
    if convention.clamp_contrast:
        contrast = np.maximum(contrast, 0)
    return contrast, (2 * mean1 * mean2 + small1) / (mean1**2 + mean2**2 + small1)


def _taps(convention: SsimConvention) -> NDArray[np.float64]:
    if convention.window == "uniform":
        return np.full(convention.side, 1 / convention.side)
    offsets = np.arange(convention.side) - (convention.side - 1) / 2
    weights = np.exp(-(offsets**2) / (2 * 1.5**2))
    return weights / weights.sum()


def _windowed(image: NDArray[np.float64], taps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted means over the windows inside the image."""
    before = taps.size // 2
    # OpenCV drops a single channel.
    filtered = np.asarray(
        cv2.sepFilter2D(image, cv2.CV_64F, taps, taps, borderType=cv2.BORDER_REPLICATE), np.float64
    ).reshape(image.shape)
    after = taps.size - 1 - before
    return filtered[before : image.shape[0] - after, before : image.shape[1] - after]


def _halved(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """2x2 means; an odd side is first extended by a row or column of zeros on both ends, which count."""
    odd = [(side % 2, side % 2) for side in image.shape[:2]]
    padded = np.pad(image, [*odd, (0, 0)])
    height, width = (side // 2 for side in padded.shape[:2])
    blocks = padded[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1)
    return blocks.mean(axis=(1, 3))
