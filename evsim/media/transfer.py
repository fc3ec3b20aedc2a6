"""Between code values and light: transfer curves, luma and quantisation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from evsim.errors import InputError
from evsim.media.frame import Transfer

_DARKEST_DN = 1e-3
_GAMMA = 2.2


def full_scale(dtype: DTypeLike) -> float:
    """The code value of full scale: 255, 65535 or 1.0; InputError for another dtype."""
    scales = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0, "float64": 1.0}
    name = np.dtype(dtype).name
    if name not in scales:
        raise InputError(f"images of dtype {name}, expected uint8, uint16 or float32")
    return scales[name]


def to_linear(image: NDArray[Any], transfer: Transfer) -> NDArray[np.float32]:
    """float32 light, same shape, full scale 1.0, from code values of the given transfer curve.

    Integer codes give [0, 1]; float values are not clipped. srgb is the piecewise curve of IEC 61966-2-1.
    """
    if transfer == "log" and image.dtype.kind != "f":
        raise InputError(f"transfer = 'log' with {image.dtype} codes, expected float32 logarithms of DN")
    full = full_scale(image.dtype)
    if image.dtype.kind == "u":
        # One exact value for each code: quicker than the power for each pixel, and the same result.
        return _decode(np.arange(full + 1) / full, transfer).astype(np.float32)[image]
    return _decode(image.astype(np.float64), transfer).astype(np.float32)


def from_linear(light: NDArray[Any], transfer: Transfer) -> NDArray[np.float32]:
    """float32 code values, same shape, full scale 1.0, from light >= 0 with full scale 1.0.

    log gives the natural logarithm of the DN 0..255, of no less than DN 0.001.
    """
    value = np.asarray(light, np.float64)
    if transfer == "srgb":
        value = np.where(
            value <= 0.0031308, 12.92 * value, 1.055 * np.maximum(value, 0.0031308) ** (1 / 2.4) - 0.055
        )
    elif transfer == "gamma":
        value = np.maximum(value, 0.0) ** (1 / _GAMMA)
    elif transfer == "log":
        value = np.log(np.maximum(value * 255.0, _DARKEST_DN))
    else:
        _require_proportional(transfer)
    return value.astype(np.float32)


def quantize(image: NDArray[Any], dtype: DTypeLike) -> tuple[NDArray[Any], int]:
    """Code values of `dtype` (uint8 or uint16), rounded to nearest, from floats of full scale 1.0.

    Returns them with the number of values that lay outside [0, 1] and were clipped.
    """
    clipped = int(np.count_nonzero((image < 0) | (image > 1)))
    scaled = np.rint(np.clip(image, 0.0, 1.0) * np.float64(full_scale(dtype)))
    return scaled.astype(dtype), clipped


def luma(image: NDArray[Any]) -> NDArray[Any]:
    """(H, W) weighted sum .299 R + .587 G + .114 B of code values, dtype kept; grey comes back as it is.

    Integer images are rounded to nearest as OpenCV's RGB to grey conversion does (ITU-R BT.601 weights).
    Equal channels give exactly that channel.
    """
    if image.ndim == 2:
        return image
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"image of shape {image.shape}, expected (H, W) or (H, W, 3)")
    if image.dtype in (np.uint8, np.uint16):
        import cv2

        return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    full_scale(image.dtype)
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    # Differences to green keep equal channels exact, which the plain weighted sum does not.
    weight = image.dtype.type
    return green + weight(0.299) * (red - green) + weight(0.114) * (blue - green)


def _decode(value: NDArray[np.float64], transfer: Transfer) -> NDArray[np.float64]:
    if transfer == "srgb":
        return np.where(value <= 0.04045, value / 12.92, ((np.maximum(value, 0.0) + 0.055) / 1.055) ** 2.4)
    if transfer == "gamma":
        return np.maximum(value, 0.0) ** _GAMMA
    if transfer == "log":
        return np.exp(value) / 255.0
    _require_proportional(transfer)
    return value


def _require_proportional(transfer: str) -> None:
    if transfer not in ("linear", "raw"):
        raise InputError(f"transfer = {transfer!r}, expected one of srgb, gamma, linear, raw, log")
