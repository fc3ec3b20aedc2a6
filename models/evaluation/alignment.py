"""One gauge for a whole sequence: what no method can know of brightness is fitted before scores are taken.

Events fix log intensity up to a scale, where the contrast threshold is unknown, and an offset. Fitted once
for a sequence, unlike a normalisation of each frame, neither hides flicker nor a gain that drifts. The fit is
that of `evsim.metrics.alignment`, from sums over pairs that need not be held at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.metrics.alignment import DARKEST
from evsim.metrics.images import LARGEST_PREDICTION

SequenceAlignment = Literal["none", "log-affine", "log-offset", "robust"]
Image = NDArray[Any]


def fit_alignment(
    pairs: Iterable[tuple[Image, Image | None]], kind: SequenceAlignment, *, logarithmic: bool = False
) -> Callable[[Image], NDArray[np.float32]]:
    """What brings the predictions of a sequence to its references: a function of an image, not clipped.

    pairs: predictions and references (H, W) or (H, W, 3), floats of full scale 1.0 or codes; a prediction
    without a reference is not counted. log-affine: exp(a L + b), least squares of the log of the references
    over all values, L the log of the prediction, or the prediction itself if `logarithmic`. log-offset: with
    a = 1. robust: (x - p1) / (p99 - p1) by the percentiles of all predictions, which needs no references.
    Raises InputError for pairs that differ in shape, or where nothing can be fitted.
    """
    if kind == "robust":
        return _stretch([as_light(prediction) for prediction, _ in pairs])
    sums = np.zeros(5)
    for prediction, reference in pairs:
        if reference is None:
            continue
        if prediction.shape != reference.shape:
            raise InputError(f"prediction has shape {prediction.shape}, reference {reference.shape}")
        level = _level(prediction, logarithmic).astype(np.float64).ravel()
        wanted = _level(reference, False).astype(np.float64).ravel()
        sums += np.array([level.size, level.sum(), wanted.sum(), level @ level, level @ wanted], np.float64)
    if not sums[0]:
        raise InputError(f"align = {kind} needs references to fit to, and no scored frame has one")
    level_mean, wanted_mean, square, product = sums[1:] / sums[0]
    slope = 1.0
    if kind == "log-affine":
        variance = square - level_mean**2
        # A flat video has no contrast to scale.
        slope = (product - level_mean * wanted_mean) / variance if variance > 1e-12 else 0.0
    offset = wanted_mean - slope * level_mean
    # Light without bound would be refused as codes of another scale.
    highest = math.log(LARGEST_PREDICTION)
    return lambda image: np.exp(
        np.minimum(slope * _level(image, logarithmic) + offset, highest), dtype=np.float32
    )


def as_light(image: Image) -> NDArray[np.float32]:
    """float32 of full scale 1.0."""
    full = 1.0 if image.dtype.kind == "f" else float(np.iinfo(image.dtype).max)
    return (image / np.float32(full)).astype(np.float32)


def _level(image: Image, logarithmic: bool) -> NDArray[np.float32]:
    if logarithmic:
        return image.astype(np.float32)
    return np.log(np.maximum(as_light(image), np.float32(DARKEST)))


def _stretch(images: list[NDArray[np.float32]]) -> Callable[[Image], NDArray[np.float32]]:
    if not images:
        raise InputError("align = robust: there are no predictions")
    low, high = np.percentile(np.concatenate([image.ravel() for image in images]), (1, 99))
    span = high - low if high > low else 1.0
    return lambda image: ((as_light(image) - low) / span).astype(np.float32)
