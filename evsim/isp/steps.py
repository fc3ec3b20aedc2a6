"""The steps of the inverse ISP and of the forward ISP, each one equation.

Colour images are (H, W, 3) RGB float32 with full scale 1.0; every function works on any leading shape.
Equations: Brooks et al. 2019, "Unprocessing Images for Learned Raw Denoising", and the published
Sim2Real simulation, which leaves the highlight mask out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Image = NDArray[np.float32]

GAMMA = 2.2
_DARKEST = 1e-8
HIGHLIGHT_KNEE = 0.9


def inverse_tone_curve(image: Image) -> Image:
    """x1 = 1/2 - sin(asin(1 - 2 x) / 3), x clamped to [0, 1]: inverse of the smoothstep 3 x^2 - 2 x^3."""
    x = np.clip(image, 0.0, 1.0)
    return np.float32(0.5) - np.sin(np.arcsin(np.float32(1.0) - np.float32(2.0) * x) / np.float32(3.0))


def tone_curve(image: Image) -> Image:
    """x = 3 x1^2 - 2 x1^3, x1 clamped to [0, 1]: the smoothstep as a global tone curve."""
    x = np.clip(image, 0.0, 1.0)
    return x * x * (np.float32(3.0) - np.float32(2.0) * x)


def gamma_expansion(image: Image) -> Image:
    """x2 = max(x1, 1e-8)^2.2."""
    return np.maximum(image, np.float32(_DARKEST)) ** np.float32(GAMMA)


def gamma_compression(image: Image) -> Image:
    """x1 = max(x2, 1e-8)^(1 / 2.2)."""
    return np.maximum(image, np.float32(_DARKEST)) ** np.float32(1.0 / GAMMA)


def colour_matrix(image: Image, matrix: ArrayLike) -> Image:
    """x3[c] = sum_k matrix[c, k] x2[k]; may leave [0, 1]."""
    return image @ np.asarray(matrix, np.float32).T


def apply_gains(image: Image, gains: ArrayLike) -> Image:
    """x4[c] = x3[c] g[c]."""
    return image * np.asarray(gains, np.float32)


def highlight_mask(camera: Image) -> Image:
    """m = (max(mean_c x3[c] - 0.9, 0) / 0.1)^2, shape (H, W); 0 below the knee, 1 at white."""
    grey = camera.mean(axis=-1, dtype=np.float32)
    excess = np.maximum(grey - np.float32(HIGHLIGHT_KNEE), 0) / np.float32(1.0 - HIGHLIGHT_KNEE)
    return excess * excess


def apply_gains_preserving_highlights(camera: Image, gains: ArrayLike) -> Image:
    """x4[c] = x3[c] max(m + (1 - m) g[c], g[c]), with m of `highlight_mask`: white stays white."""
    g = np.asarray(gains, np.float32)
    mask = highlight_mask(camera)[..., None]
    return camera * np.maximum(mask + (np.float32(1.0) - mask) * g, g)


def clip_to_sensor(image: Image) -> Image:
    """x5 = clamp(x4, 0, 1): what lies below black or above saturation."""
    return np.clip(image, 0.0, 1.0)


def channel_mean(image: Image) -> Image:
    """y = (x5[R] + x5[G] + x5[B]) / 3, shape (H, W)."""
    return image.mean(axis=-1, dtype=np.float32)


def quantise(light: Image, bits: int) -> NDArray[Any]:
    """trunc(clamp(y, 0, 1) (2^bits - 1)) as uint8 (8 bits) or uint16 (9 to 16): not rounded."""
    top = np.float32(2**bits - 1)
    return np.clip(light * top, 0, top).astype(np.uint8 if bits == 8 else np.uint16)
