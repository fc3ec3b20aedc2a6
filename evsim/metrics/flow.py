"""Metrics of optical flow as the benchmarks of the field define them, each by its id.

Flows are float (H, W, 2), x and y in pixels; where the truth is NaN nothing is compared. Kept apart from the
metrics of images, which cannot be applied to them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.metrics.metric import Metric
from evsim.registry import Registry

FLOW_METRICS: Registry[Metric] = Registry("flow metric")
"""Every convention by id; called as `metric(prediction, truth) -> float`."""


def endpoint_errors(prediction: NDArray[Any], truth: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Length of the difference and of the truth, float64, at each pixel whose truth is known.

    Raises InputError for shapes that differ, a prediction that is not finite and a truth that is nowhere
    known.
    """
    predicted, known = _at_known(prediction, truth)
    return np.hypot(*(predicted - known).T), np.hypot(*known.T)


def mean_endpoint_error(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Mean length of the difference, pixels."""
    return float(endpoint_errors(prediction, truth)[0].mean())


def mean_angular_error(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Mean angle between (u, v, 1) of both, degrees (Barron et al. 1994)."""
    first, second = (np.column_stack((flow, np.ones(len(flow)))) for flow in _at_known(prediction, truth))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines = np.clip((first * second).sum(1) / lengths, -1, 1)
    return float(np.degrees(np.arccos(cosines)).mean())


def outlier_percentage(
    prediction: NDArray[Any], truth: NDArray[Any], *, pixels: float, share: float = 0.0
) -> float:
    """Percentage of pixels whose error is above `pixels` and above `share` of the truth's length."""
    errors, lengths = endpoint_errors(prediction, truth)
    return 100 * float(np.mean((errors > pixels) & (errors > share * lengths)))


def _at_known(prediction: NDArray[Any], truth: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    if prediction.shape != truth.shape or truth.ndim != 3 or truth.shape[2] != 2:
        raise InputError(
            f"predicted flow has shape {prediction.shape}, the truth {truth.shape}, "
            "expected (H, W, 2) of both"
        )
    known = np.isfinite(truth).all(-1)
    if not known.any():
        raise InputError("the true flow is known at no pixel, so there is nothing to compare")
    if not np.isfinite(prediction).all():
        raise InputError("the predicted flow holds values that are NaN or infinite")
    return prediction[known].astype(np.float64), truth[known].astype(np.float64)


def _file(name: str, definition: str, function: Callable[..., float]) -> None:
    FLOW_METRICS.register(name)(
        Metric(id=name, definition=definition, higher_is_better=False, function=function)
    )


_file("epe", "mean end-point error, pixels", mean_endpoint_error)
_file("ae", "mean angular error of (u, v, 1), degrees (Barron et al., DSEC)", mean_angular_error)
for _pixels in (1, 2, 3):
    _file(
        f"{_pixels}pe",
        f"percentage of pixels whose end-point error is above {_pixels} (DSEC)",
        partial(outlier_percentage, pixels=_pixels),
    )
_file(
    "fl:kitti",
    "percentage of pixels whose end-point error is above 3 and above 5 % of the true length (KITTI 2015)",
    partial(outlier_percentage, pixels=3, share=0.05),
)
