"""Shot and read noise of an image sensor on linear light, reproducible for every frame by itself.

Model of Brooks et al. 2019: gaussian with variance ``light * shot + read``. This is the noise of a frame
camera; the noise events of an event sensor are the simulated sensor's own.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from evsim.randomness import RandomDraws, derive_key


def draw_noise_levels(draws: RandomDraws, shot_noise_range: tuple[float, float]) -> tuple[float, float]:
    """(shot, read) variances: ln shot uniform over the range, ln read = 2.18 ln shot + 1.20 + N(0, 0.26)."""
    shot = draws.loguniform(*shot_noise_range)
    return shot, math.exp(2.18 * math.log(shot) + 1.20 + draws.normal(0.0, 0.26))


def frame_noise_key(seed: int, clip: str, frame: int) -> int:
    """The 64-bit key of the noise of one frame: any frame can be made alone, in any order, by any worker."""
    return derive_key(seed, clip, f"isp-noise:{frame}")


def add_noise(
    light: NDArray[np.float32], shot_noise: float, read_noise: float, key: int
) -> NDArray[np.float32]:
    """light + sqrt(light shot_noise + read_noise) z with z standard normal, clamped to [0, 1] as a sensor is.

    light: float32, any shape, in [0, 1]. shot_noise, read_noise: variances at full scale 1.0.
    """
    deviation = np.sqrt(light * np.float32(shot_noise) + np.float32(read_noise))
    noisy = light + deviation * standard_normal(light.shape, key)
    return np.clip(noisy, 0.0, 1.0, out=noisy)


def standard_normal(shape: tuple[int, ...], key: int) -> NDArray[np.float32]:
    """float32 standard normal values, a function of (shape, key) alone.

    Box-Muller on the raw words of Philox4x64-10, because numpy's own normal values may change between
    releases and its raw words may not.
    """
    count = math.prod(shape)
    words = np.random.Philox(key=key).random_raw((count + 1) // 2)
    first = ((words >> np.uint64(32)).astype(np.float64) + 0.5) * 2.0**-32
    angle = ((words & np.uint64(0xFFFFFFFF)).astype(np.float32)) * np.float32(2.0**-32 * 2.0 * math.pi)
    radius = np.sqrt(-2.0 * np.log(first)).astype(np.float32)
    values = np.empty(2 * len(words), np.float32)
    values[0::2] = radius * np.cos(angle)
    values[1::2] = radius * np.sin(angle)
    return values[:count].reshape(shape)
