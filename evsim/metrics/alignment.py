"""Scores of a reconstructed sequence of log intensity, whose level and gain events do not determine.

A method that sees only events gives log intensity up to an offset (and, where the contrast threshold is not
known, a gain). Before scoring, one offset and one gain are chosen for the whole sequence; never for each
frame, which would hide flicker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.errors import InputError
from evsim.metrics.images import checked_image, unit
from evsim.metrics.metric import METRICS
from evsim.metrics.preparation import equalise_image, normalise_image

AlignmentRule = Literal[
    "log-affine", "log-offset", "tone-mapped", "exprobust", "tone-mapped-robust", "tone-mapped-equalised"
]
ALIGNED_METRICS = ("mse", "ssim:evreal")
DARKEST = 1.0 / 255.0
"""The reference is not taken to be darker than one 8-bit code: its logarithm would run away."""
TONE_EXPONENT = 1.0 / 0.6


def tone_map(log_intensity: ArrayLike) -> NDArray[np.float32]:
    """float32 in (0, 1): (I / (1 + I))^(1/0.6) of I = exp(log_intensity), which cannot overflow.

    The display curve of EvINR (Wang et al. 2024); 0 becomes 0.315.
    """
    values = np.asarray(log_intensity, np.float32)
    # The logistic function through tanh: no exponential of a large number on either side.
    return ((0.5 + 0.5 * np.tanh(0.5 * values)) ** np.float32(TONE_EXPONENT)).astype(np.float32)


def log_fit(log_intensity: ArrayLike, references: ArrayLike, *, gain: bool = True) -> tuple[float, float]:
    """The (a, b) for which a L + b is nearest to the logarithm of the references, over a whole sequence.

    log_intensity: (T, H, W). references: (T, H, W), codes or floats of full scale 1. gain: False keeps a = 1.
    Least squares; a constant L has no gain, and a is 1. Raises InputError for shapes that differ or values
    that are not finite.
    """
    predicted, target = _checked(log_intensity, references)
    truth = np.log(np.maximum(target, DARKEST))
    centre, level = predicted.mean(), truth.mean()
    spread = predicted - centre
    power = float(np.vdot(spread, spread))
    a = float(np.vdot(spread, truth - level)) / power if gain and power > 0 else 1.0
    return a, float(level - a * centre)


def aligned_images(
    log_intensity: ArrayLike, references: ArrayLike, alignment: AlignmentRule
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predictions and references, (T, H, W) in [0, 1], as the alignment compares them.

    log-affine: exp(a L + b), see `log_fit`. log-offset: the same with a = 1. tone-mapped: see `tone_map`, no
    alignment. exprobust, tone-mapped-robust: exp(L) or its tone map between percentiles 1 and 99 of each
    frame. tone-mapped-equalised: histograms of both equalised, frame by frame. Raises InputError.
    """
    if alignment not in get_args(AlignmentRule):
        raise InputError(f"alignment {alignment!r}, expected one of {', '.join(get_args(AlignmentRule))}")
    predicted, target = _checked(log_intensity, references)
    if alignment in ("log-affine", "log-offset"):
        a, b = log_fit(predicted, target, gain=alignment == "log-affine")
        return np.clip(np.exp(a * predicted + b), 0, 1), target
    if alignment == "exprobust":
        shown = np.stack([normalise_image(image, "exprobust") for image in predicted])
    else:
        shown = tone_map(predicted)
        if alignment == "tone-mapped-robust":
            shown = np.stack([normalise_image(image, "robust") for image in shown])
    if alignment == "tone-mapped-equalised":
        return (
            np.stack([equalise_image(image, "global") for image in shown]),
            np.stack([equalise_image(image, "global") for image in target]),
        )
    return np.clip(shown, 0, 1).astype(np.float64), target


def aligned_scores(
    log_intensity: ArrayLike, references: ArrayLike, alignment: AlignmentRule = "log-affine"
) -> Mapping[str, float]:
    """Mean over the frames of `mse` and `ssim:evreal` after an alignment; keys such as "mse@log-affine".

    Arguments and errors as `aligned_images`.
    """
    predictions, targets = aligned_images(log_intensity, references, alignment)
    return {
        f"{name}@{alignment}": float(np.mean([METRICS[name](*pair) for pair in zip(predictions, targets)]))
        for name in ALIGNED_METRICS
    }


def _checked(
    log_intensity: ArrayLike, references: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    predicted = np.asarray(log_intensity, np.float64)
    if predicted.ndim != 3 or not predicted.size or not np.isfinite(predicted).all():
        raise InputError(
            f"log intensity has shape {predicted.shape} and {np.count_nonzero(~np.isfinite(predicted))} "
            "values that are not finite, expected finite (T, H, W)"
        )
    target = np.stack([_grey(image) for image in np.asarray(references)])
    if target.shape != predicted.shape:
        raise InputError(f"log intensity has shape {predicted.shape}, references {target.shape}")
    return predicted, target


def _grey(image: NDArray[np.generic]) -> NDArray[np.float64]:
    checked = checked_image(image, "reference", largest=1.0)
    if checked.shape[2] != 1:
        raise InputError("a reference has three channels; alignment is defined for grey images")
    return unit(checked)[..., 0]
