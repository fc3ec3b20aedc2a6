"""From what a camera stored to the light that its sensor saw: the whole inverse ISP for one frame.

Integer images go through tables of their 256 or 65536 levels and one weighted sum a channel, a few rows at a
time; the result equals the steps of `evsim.isp.steps` one after the other within 1e-6.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.errors import InputError
from evsim.isp import steps
from evsim.isp.mosaic import RGGB, bayer_plane
from evsim.isp.noise import add_noise
from evsim.isp.parameters import IspConfig, IspParameters, inverse_gains
from evsim.media.frame import Transfer
from evsim.media.transfer import full_scale, luma, to_linear

Plane = NDArray[np.float32]
Planes = tuple[Plane, Plane, Plane]

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of linear sRGB in relative luminance (ITU-R BT.709)."""

_MEAN = (1 / 3, 1 / 3, 1 / 3)
_ROUNDING = 1e-5
_BAND_ROWS = 32  # even, so that a band starts with a whole Bayer cell


def unprocess(
    image: NDArray[Any],
    parameters: IspParameters,
    config: IspConfig,
    transfer: Transfer = "srgb",
    *,
    noise_key: int | None = None,
) -> NDArray[Any]:
    """The light on the sensor, (H, W), for one frame.

    image: (H, W) grey, taken as three equal channels, or (H, W, 3) RGB; uint8, uint16, or float32 of full
    scale 1.0. parameters: of the clip, from `draw_parameters`. transfer: what the code values mean. srgb
    undoes tone curve and gamma, gamma the gamma only, linear neither; raw also has the camera's colours and
    gains already, so only `low_light_factor` acts on it; log is the natural logarithm of DN 0..255.
    noise_key: from `frame_noise_key`, needed if and only if `config.noise` is on.

    Returns float32 in [0, 1], or uint8 / uint16 as `config.bit_depth` says. With variant none and bit depth
    0 the code values come back as they are: luma in the input's own type.
    Raises InputError for a wrong shape or type, NaN, and floats outside [0, 1].
    """
    image = _checked(image, config, transfer)
    if config.variant == "none":
        return _code_values(image, config, transfer)
    if (noise_key is None) != (config.noise == "none"):
        found = "without a noise_key" if noise_key is None else "with a noise_key"
        raise InputError(f"noise = {config.noise} {found}; pass one made by frame_noise_key for each frame")
    light = _sensor_plane(image, parameters, config, transfer)
    if noise_key is not None:
        light = add_noise(light, parameters.shot_noise, parameters.read_noise, noise_key)
    return steps.quantise(light, config.bit_depth) if config.bit_depth else light


def camera_light(
    image: NDArray[Any], parameters: IspParameters, config: IspConfig, transfer: Transfer = "srgb"
) -> NDArray[np.float32]:
    """float32 (H, W, 3) light behind each colour filter, before channels become one plane and without noise.

    Arguments and errors as of `unprocess`; variant none gives the code values, scaled to 1.0.
    """
    image = _checked(image, config, transfer)
    if config.variant == "none":
        return _three_channels(_scaled(image))
    linear = _linear(image, _table(image.dtype, config, transfer), config, transfer)
    return np.stack(_channels(linear, parameters, config, transfer), axis=-1)


def _checked(image: NDArray[Any], config: IspConfig, transfer: Transfer) -> NDArray[Any]:
    """The image, floats as float32 within their range; InputError for what cannot be used."""
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or image.size == 0:
        raise InputError(f"image of shape {image.shape}, expected (H, W) grey or (H, W, 3) RGB, not empty")
    if image.dtype not in (np.uint8, np.uint16, np.float32, np.float64):
        raise InputError(f"image of dtype {image.dtype}, expected uint8, uint16 or float32 of full scale 1.0")
    if image.dtype.kind == "u":
        if transfer == "log":
            raise InputError(f"log code values in {image.dtype}, expected float32: integers cannot hold them")
        return image
    low, high = (0.0, 1.0) if transfer != "log" else (-np.inf, _brightest_log(config))
    smallest, largest = float(image.min()), float(image.max())
    image = image.astype(np.float32, copy=False)
    if low <= smallest and largest <= high:
        return image
    # Interpolated frames may pass the ends by a rounding error; NaN fails every comparison.
    if low - _ROUNDING <= smallest and largest <= high + _ROUNDING:
        return np.clip(image, low, high)
    bad = ~((image >= low - _ROUNDING) & (image <= high + _ROUNDING))
    raise InputError(
        f"{int(bad.sum())} of {image.size} float values are NaN or outside {low:g} to {high:.4g} "
        f"(smallest {smallest:g}, largest {largest:g}); divide by full scale and repair the frame first"
    )


def _brightest_log(config: IspConfig) -> float:
    return float(np.finfo(np.float32).max) if config.variant == "none" else float(np.log(255.0))


def _code_values(image: NDArray[Any], config: IspConfig, transfer: Transfer) -> NDArray[Any]:
    if transfer == "log" and not np.isfinite(image).all():
        raise InputError(
            "log code values reach minus infinity; add a floor, such as DN 0.001, before the logarithm"
        )
    if image.ndim == 2 or config.grey_rule == "luma":
        grey = luma(image)
    elif config.grey_rule == "bayer":
        grey = bayer_plane(image)
    else:
        grey = _scaled(image).mean(axis=-1, dtype=np.float32)
    if not config.bit_depth:
        return grey
    if transfer == "log":
        raise InputError(
            f"bit_depth = {config.bit_depth} with log code values, expected 0: they are not 0 to 1"
        )
    if grey.dtype == (np.uint8 if config.bit_depth == 8 else np.uint16):
        return grey
    return steps.quantise(_scaled(grey), config.bit_depth)


def _sensor_plane(
    image: NDArray[Any], parameters: IspParameters, config: IspConfig, transfer: Transfer
) -> NDArray[np.float32]:
    """The noiseless light, float32 (H, W)."""
    light = np.empty(image.shape[:2], np.float32)
    table = _table(image.dtype, config, transfer)
    if image.ndim == 3 or table is None:
        for rows in _bands(image.shape[0]):
            linear = _linear(image[rows], table, config, transfer)
            light[rows] = _collapse(_channels(linear, parameters, config, transfer), config)
        return light
    # A grey code value decides its light alone, so the chain runs once for each level.
    by_level = _channels((table[None],) * 3, parameters, config, transfer)
    if config.grey_rule == "bayer":
        for row, column, channel in RGGB:
            light[row::2, column::2] = _look_up(image[row::2, column::2], by_level[channel][0])
        return light
    return _look_up(image, _collapse(by_level, config)[0])


def _bands(height: int) -> list[slice]:
    """Rows to work on at a time, so that what is computed from them stays in the processor's cache."""
    return [slice(row, row + _BAND_ROWS) for row in range(0, height, _BAND_ROWS)]


def _table(dtype: np.dtype[Any], config: IspConfig, transfer: Transfer) -> Plane | None:
    """Linear light of every level of an integer type, None for floats."""
    if dtype.kind == "f":
        return None
    levels = np.iinfo(dtype).max
    # Computed in float64 and rounded once, so that every processor gets the same table.
    return _decode(np.arange(levels + 1) / np.float64(levels), config, transfer)


def _linear(image: NDArray[Any], table: Plane | None, config: IspConfig, transfer: Transfer) -> Planes:
    """Linear light of the picture, red, green, blue: what the camera encoded, before colour and gains."""
    planes = cv2.split(image) if image.ndim == 3 else [image]
    light = [
        _decode(plane, config, transfer) if table is None else _look_up(plane, table) for plane in planes
    ]
    return (light[0], light[1], light[2]) if image.ndim == 3 else (light[0],) * 3


def _decode(codes: NDArray[Any], config: IspConfig, transfer: Transfer) -> Plane:
    """Linear light of float code values."""
    if config.is_camera and transfer in ("srgb", "gamma"):
        tone_free = steps.inverse_tone_curve(codes) if transfer == "srgb" else np.clip(codes, 0.0, 1.0)
        return steps.gamma_expansion(tone_free).astype(np.float32, copy=False)
    return np.clip(to_linear(codes, transfer), 0.0, 1.0)


def _channels(linear: Planes, parameters: IspParameters, config: IspConfig, transfer: Transfer) -> Planes:
    """Light behind the red, green and blue filters, clipped to [0, 1], in new arrays."""
    if not config.is_camera or transfer == "raw":
        factor, white = np.float32(1.0 / config.low_light_factor), np.float32(1.0)
        red, green, blue = (np.minimum(plane * factor, white) for plane in linear)
        return red, green, blue
    matrix = np.array(parameters.rgb2cam)
    gains = inverse_gains(parameters, config.low_light_factor)
    if config.variant == "brooks":
        red, green, blue = (_weighted_sum(linear, row) for row in matrix)
        camera = _preserve_highlights((red, green, blue), gains)
    else:
        red, green, blue = (_weighted_sum(linear, row) for row in gains[:, None] * matrix)
        camera = (red, green, blue)
    for plane in camera:
        np.clip(plane, 0.0, 1.0, out=plane)
    return camera


def _preserve_highlights(camera: Planes, gains: NDArray[np.float64]) -> Planes:
    """`steps.apply_gains_preserving_highlights` on planes, overwriting them."""
    excess = _weighted_sum(camera, _MEAN)
    excess -= np.float32(steps.HIGHLIGHT_KNEE)
    np.maximum(excess, 0.0, out=excess)
    excess *= np.float32(1.0 / (1.0 - steps.HIGHLIGHT_KNEE))
    mask = excess * excess
    rest = np.float32(1.0) - mask
    for plane, gain in zip(camera, gains.astype(np.float32)):
        plane *= np.maximum(mask + rest * gain, gain)
    return camera


def _weighted_sum(planes: Planes, weights: ArrayLike) -> Plane:
    """w0 planes[0] + w1 planes[1] + w2 planes[2], rounded after each operation.

    Not a matrix product: libraries fuse its operations in ways that depend on processor and position,
    and a light that differs in its last bit can move an event.
    """
    w0, w1, w2 = np.asarray(weights, np.float32)
    total = planes[0] * w0
    term = planes[1] * w1
    total += term
    np.multiply(planes[2], w2, out=term)
    total += term
    return total


def _collapse(channels: Planes, config: IspConfig) -> Plane:
    if config.grey_rule == "bayer":
        return bayer_plane(np.stack(channels, axis=-1))
    if config.grey_rule == "mean":
        return _weighted_sum(channels, _MEAN)
    red, green, blue = channels
    # By differences to green, equal channels give exactly that channel.
    return green + np.float32(LUMINANCE[0]) * (red - green) + np.float32(LUMINANCE[2]) * (blue - green)


def _look_up(image: NDArray[Any], table: Plane) -> Plane:
    # OpenCV's table look-up is several times quicker than indexing, and takes 8-bit images only.
    if image.dtype == np.uint8:
        return np.asarray(cv2.LUT(np.ascontiguousarray(image), np.ascontiguousarray(table)), np.float32)
    return table[image]


def _scaled(image: NDArray[Any]) -> NDArray[np.float32]:
    return (image / np.float32(full_scale(image.dtype))).astype(np.float32, copy=False)


def _three_channels(image: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
