"""The random fields of a sensor: its fixed pattern, drawn once, and fields of a frame given explicitly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.kernels.philox import random_words
from evsim.sensor.config import SMALLEST_THRESHOLD, SensorConfig

# Purposes of random words; the passes use the numbers below 16.
THRESHOLD_RADIUS, THRESHOLD_ANGLE, LEAK_RADIUS, LEAK_ANGLE = 16, 17, 18, 19


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


def draw_fixed_pattern(
    config: SensorConfig, size: tuple[int, int], key: int, given: RandomFields | None = None
) -> RandomFields:
    """The fixed pattern of one sensor; fields that have no spread stay None, given ones are checked."""
    given = given or RandomFields()
    _require_used(config, given)
    thresholds: list[NDArray[np.float32] | None] = [None, None]
    spreads = config.uses("contrast_threshold_spread") and config.contrast_threshold_spread > 0
    if spreads and (given.threshold_on is None or given.threshold_off is None):
        nominal = (config.contrast_threshold_on, config.contrast_threshold_off)
        for i, deviate in enumerate(normal_pair(key, size, THRESHOLD_RADIUS, THRESHOLD_ANGLE)):
            drawn = nominal[i] + config.contrast_threshold_spread * deviate
            thresholds[i] = np.maximum(drawn, SMALLEST_THRESHOLD).astype(np.float32)
    factor = None
    leaks = config.uses("leak_rate_hz") and config.leak_rate_hz > 0
    if leaks and config.leak_rate_spread_decades > 0 and given.leak_rate_factor is None:
        deviate, _ = normal_pair(key, size, LEAK_RADIUS, LEAK_ANGLE)
        factor = (10.0 ** (config.leak_rate_spread_decades * deviate)).astype(np.float32)
    return RandomFields(
        check_field("threshold_on", given.threshold_on, size, np.float32, low=1e-6, otherwise=thresholds[0]),
        check_field(
            "threshold_off", given.threshold_off, size, np.float32, low=1e-6, otherwise=thresholds[1]
        ),
        check_field("leak_rate_factor", given.leak_rate_factor, size, np.float32, low=0, otherwise=factor),
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


def _require_used(config: SensorConfig, given: RandomFields) -> None:
    """InputError for a field of the fixed pattern that the model does not have."""
    for name, field in (
        ("contrast_threshold_on", "threshold_on"),
        ("contrast_threshold_off", "threshold_off"),
        ("leak_rate_hz", "leak_rate_factor"),
    ):
        if getattr(given, field) is not None and not config.uses(name):
            raise InputError(f"field {field} was given to model {config.model}, which has none: leave it out")


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
