"""Frames as the sensor takes them: checked code values, read-only and contiguous, and their DN 0..255."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError

FULL_SCALE_DN = 255.0
UINT16_PER_DN = 257.0
LARGEST_LOG = 80.0


def check_frame(frame: Any, size: tuple[int, int]) -> NDArray[Any]:
    """`frame` as a read-only, contiguous (H, W) array of uint8, uint16 or float32; copied only if needed.

    Raises InputError for another shape or type, for colour, and for values that are not finite and >= 0.
    """
    image = np.asarray(frame)
    width, height = size
    if image.ndim == 3:
        raise InputError(
            f"frame has shape {image.shape}, expected ({height}, {width}): the sensor sees one channel; "
            "convert colour to grey or to one RAW plane first (evsim.isp.unprocess does)"
        )
    if image.shape != (height, width):
        raise InputError(
            f"frame has shape {image.shape}, expected ({height}, {width}) for a sensor of {width}x{height}; "
            "resize the frame or make the Simulator for its size"
        )
    kind, bytes_each = image.dtype.kind, image.dtype.itemsize
    if (kind, bytes_each) not in (("u", 1), ("u", 2), ("f", 4), ("f", 8)):
        raise InputError(f"frame is {image.dtype}, expected uint8, uint16, float32 or float64")
    wanted = np.float32 if kind == "f" else (np.uint8, np.uint16)[bytes_each - 1]
    if kind == "f":
        _check_values(image)
    # Always read-only, whatever the caller passed: one type for the compiled passes.
    checked = np.require(image, wanted, ["C", "A"]).view()
    checked.flags.writeable = False
    return checked


def check_log_frame(frame: Any, size: tuple[int, int]) -> NDArray[np.float32]:
    """`frame` as `check_frame` gives it, but of natural logarithms of DN: float, -80 to 80."""
    image = np.asarray(frame)
    if image.dtype.kind != "f":
        raise InputError(
            f"frame is {image.dtype} with input log, expected float32 or float64 natural logarithms of DN; "
            "set input to linear for frames of light"
        )
    bad = ~(np.abs(image) <= LARGEST_LOG)
    if bad.any():
        raise InputError(
            f"{int(bad.sum())} of {image.size} frame values are no logarithms of DN (the first is "
            f"{image[bad][0]}), expected numbers from -{LARGEST_LOG:g} to {LARGEST_LOG:g} (255 DN is "
            "5.541); add a little light to black before the logarithm"
        )
    # Shape and type are checked as those of light.
    check_frame(np.zeros_like(image), size)
    checked = np.require(image, np.float32, ["C", "A"]).view()
    checked.flags.writeable = False
    return checked


def dn_scale(frame: NDArray[Any], float_full_scale: float) -> float:
    """What code values of `frame` have to be multiplied by to give DN 0..255."""
    if frame.dtype == np.uint8:
        return 1.0
    return 1.0 / UINT16_PER_DN if frame.dtype == np.uint16 else FULL_SCALE_DN / float_full_scale


def to_dn(frame: NDArray[Any], float_full_scale: float) -> NDArray[np.float32]:
    """DN 0..255 of a checked frame as float32."""
    return frame.astype(np.float32) * np.float32(dn_scale(frame, float_full_scale))


def _check_values(image: NDArray[Any]) -> None:
    low, high = image.min(), image.max()  # both are NaN if a value is
    if low >= 0 and high <= np.finfo(np.float32).max:
        return
    bad = ~((image >= 0) & (image <= np.finfo(np.float32).max))
    y, x = (int(i) for i in np.argwhere(bad)[0])
    raise InputError(
        f"{int(bad.sum())} of {image.size} frame values cannot be light: value {image[y, x]} at row {y}, "
        f"column {x}, expected finite numbers >= 0; clip or repair the frame first"
    )
