"""From light to pictures for people: the camera's own processing, and exposure-normalised previews."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.isp import steps
from evsim.isp.parameters import IspParameters, inverse_gains
from evsim.media.transfer import from_linear, full_scale

_DARKEST_WHITE = 1e-6


def process(light: NDArray[Any], parameters: IspParameters, *, exposure: float = 1.0) -> NDArray[np.uint8]:
    """uint8 picture of camera light: gains, colour matrix, gamma and tone curve, the inverse of `unprocess`.

    light: camera RGB (H, W, 3), as `camera_light` or `demosaic` give it, or grey (H, W) made as their mean;
    uint8, uint16 or float32 of full scale 1.0. parameters: of the clip. exposure: brightens, for instance
    by the low-light factor. Values above white are cut, as a camera does.
    Raises InputError for a wrong shape or NaN.
    """
    value = _light(light) * np.float32(exposure)
    gains = inverse_gains(parameters)
    if value.ndim == 3:
        balanced = steps.clip_to_sensor(steps.apply_gains(value, 1.0 / gains))
        value = steps.colour_matrix(balanced, np.linalg.inv(np.array(parameters.rgb2cam)))
    else:
        value = value / np.float32(gains.mean())
    return _to_bytes(steps.tone_curve(steps.gamma_compression(steps.clip_to_sensor(value))))


def preview(
    light: NDArray[Any], *, white: float | None = None, percentile: float = 99.5
) -> NDArray[np.uint8]:
    """uint8 picture, same shape, in which light of `white` is white, encoded with the sRGB curve.

    light: any image shape, uint8, uint16 or float32 of full scale 1.0. white: give one value for all frames
    of a clip; without it the percentile of this frame, so that frames of little light can be seen.
    """
    value = _light(light)
    if white is None:
        white = exposure_white(light, percentile=percentile)
    scaled = np.clip(value / np.float32(max(white, _DARKEST_WHITE)), 0.0, 1.0)
    return _to_bytes(from_linear(scaled, "srgb"))


def exposure_white(light: NDArray[Any], *, percentile: float = 99.5) -> float:
    """The light, in full scale 1.0, that `percentile` percent of the pixels do not exceed."""
    return float(np.percentile(_light(light), percentile))


def _light(light: NDArray[Any]) -> NDArray[np.float32]:
    if light.size == 0 or light.ndim not in (2, 3) or (light.ndim == 3 and light.shape[2] != 3):
        raise InputError(f"light of shape {light.shape}, expected (H, W) or (H, W, 3), not empty")
    value = (light / np.float32(full_scale(light.dtype))).astype(np.float32, copy=False)
    if np.isnan(value).any():
        raise InputError(
            f"light holds {int(np.isnan(value).sum())} NaN of {value.size} values, expected none"
        )
    return value


def _to_bytes(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)
