"""The random fields of a sensor: its fixed pattern, drawn once, and fields of a frame given explicitly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.kernels.philox import random_words
from evsim.sensor.config import SMALLEST_THRESHOLD, SensorConfig, ThresholdConfig

THRESHOLD_RADIUS, THRESHOLD_ANGLE = 16, 17
"""Purposes of random words. Passes use the numbers below 16, models those above for patterns of their own."""


class RandomFields(NamedTuple):
    """The fixed pattern of a sensor: float32 (H, W), or None for a field to be drawn or uniform.

    threshold_on, threshold_off: natural-log contrast. leak_rate_factor: multiplies the leak rate.
    dead_pixels, hot_pixels: bool (H, W), pixels without events and with events of their own.
    """

    threshold_on: NDArray[np.float32] | None = None
    threshold_off: NDArray[np.float32] | None = None
    leak_rate_factor: NDArray[np.float32] | None = None
    dead_pixels: NDArray[np.bool_] | None = None
    hot_pixels: NDArray[np.bool_] | None = None


class FrameFields(NamedTuple):
    """The random fields of one pass, (H, W), or None for a field to be drawn.

    leak_jitter: float32, standard normal. shot_uniform: float32 within 0..1, ON above 1 - p_on and OFF below
    p_off (v2e's rule). lowpass_bypass: bool, pixels that bypass the low-pass (model idslpf).
    """

    leak_jitter: NDArray[np.float32] | None = None
    shot_uniform: NDArray[np.float32] | None = None
    lowpass_bypass: NDArray[np.bool_] | None = None


Threshold = NDArray[np.float32] | None


def draw_thresholds(
    config: ThresholdConfig, size: tuple[int, int], key: int, given: RandomFields
) -> tuple[Threshold, Threshold]:
    """The thresholds of all pixels, ON and OFF; None where they have no spread, given ones are checked."""
    drawn: list[Threshold] = [None, None]
    wanted = given.threshold_on is None or given.threshold_off is None
    if config.contrast_threshold_spread > 0 and wanted:
        nominal = (config.contrast_threshold_on, config.contrast_threshold_off)
        for i, deviate in enumerate(normal_pair(key, size, THRESHOLD_RADIUS, THRESHOLD_ANGLE)):
            threshold = nominal[i] + config.contrast_threshold_spread * deviate
            drawn[i] = np.maximum(threshold, SMALLEST_THRESHOLD).astype(np.float32)
    on, off = given.threshold_on, given.threshold_off
    return (
        check_field("threshold_on", on, size, np.float32, low=1e-6, otherwise=drawn[0]),
        check_field("threshold_off", off, size, np.float32, low=1e-6, otherwise=drawn[1]),
    )


def check_field(
    name: str,
    field: NDArray | None,
    size: tuple[int, int],
    dtype: type,
    *,
    low: float = -np.inf,
    otherwise: NDArray | None = None,
) -> NDArray | None:
    """`field` contiguous and of `dtype`, or `otherwise` if it is None; InputError if it does not fit."""
    if field is None:
        return otherwise
    array = np.require(field, dtype, ["C", "A"])
    if array.shape != size[::-1]:
        raise InputError(f"field {name} has shape {array.shape}, expected {size[::-1]}")
    if not (np.isfinite(array).all() and array.min() >= low):
        raise InputError(f"field {name} spans {array.min()}..{array.max()}, expected finite numbers >= {low}")
    return array


def refuse_field(name: str, field: NDArray | None, config: SensorConfig) -> None:
    """InputError if a field of the fixed pattern is given that the model does not have."""
    if field is not None:
        raise InputError(f"field {name} was given to model {config.model}, which has none: leave it out")


def normal_pair(
    key: int, size: tuple[int, int], radius: int, angle: int, index: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two independent standard normal fields (Box and Muller 1958); radius, angle: purposes of their words.

    index: the number of the pass, 0 for a fixed pattern.
    """
    u = (random_words(key, size, index, radius) + 0.5) * 2.0**-32
    turn = (2 * np.pi * 2.0**-32) * random_words(key, size, index, angle)
    length = np.sqrt(-2 * np.log(u))
    return length * np.cos(turn), length * np.sin(turn)
