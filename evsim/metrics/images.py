"""Images as metrics take them: checked for shape, type and range, clamped, quantised or reduced to luma."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.errors import InputError

Quantise = Literal["none", "floor", "round"]
LARGEST_PREDICTION = 16.0
"""A float prediction may overshoot its full scale of 1.0; beyond this it must be codes of another scale."""
LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""Of R, G, B (ITU-R BT.601)."""


def checked_pair(
    prediction: ArrayLike, reference: ArrayLike, *, grey: bool = False
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both images as (H, W, C) arrays of their own type, equal in shape.

    grey: refuse colour. Raises InputError for shapes that differ or are no image, types other than uint8,
    uint16 and floats, values that are not finite, a reference outside [0, 1], a prediction far outside.
    """
    predicted = checked_image(prediction, "prediction")
    truth = checked_image(reference, "reference", largest=1.0)
    if predicted.shape != truth.shape:
        raise InputError(
            f"prediction has shape {predicted.shape}, reference {truth.shape}; metrics compare pixel "
            "by pixel: crop or resize one of them first"
        )
    if grey and predicted.shape[2] != 1:
        raise InputError(
            f"images have {predicted.shape[2]} channels; this convention is defined for grey images"
        )
    return predicted, truth


def checked_image(image: ArrayLike, name: str, *, largest: float = LARGEST_PREDICTION) -> NDArray[Any]:
    """`image` as (H, W, 1) or (H, W, 3); a float image may leave [0, 1] only if `largest` exceeds 1."""
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or array.size == 0:
        raise InputError(f"{name} has shape {array.shape}, expected (H, W), (H, W, 1) or (H, W, 3)")
    if array.dtype in (np.uint8, np.uint16):
        return array
    if array.dtype.kind != "f":
        raise InputError(f"{name} is {array.dtype}, expected uint8, uint16 or floats of full scale 1.0")
    lowest, highest = float(array.min()), float(array.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise InputError(f"{name} holds {np.count_nonzero(~np.isfinite(array))} values that are not finite")
    allowed = 0.0 if largest <= 1 else -largest
    if lowest < allowed or highest > largest:
        raise InputError(
            f"{name} runs from {lowest:.6g} to {highest:.6g}, expected full scale 1.0; divide code values "
            "by their full scale"
        )
    return array


def count_outside(image: ArrayLike) -> int:
    """How many float values lie outside [0, 1], which most conventions clamp; 0 for codes."""
    array = np.asarray(image)
    return int(np.count_nonzero((array < 0) | (array > 1))) if array.dtype.kind == "f" else 0


def unit(image: NDArray[Any], *, clamp: bool = True) -> NDArray[np.float64]:
    """float64 of full scale 1.0; floats are clamped to [0, 1] unless told otherwise."""
    if image.dtype.kind != "f":
        return image / float(np.iinfo(image.dtype).max)
    return np.clip(image, 0, 1).astype(np.float64) if clamp else image.astype(np.float64)


def codes(image: NDArray[Any], rule: Quantise) -> NDArray[np.float64]:
    """Values of full scale 255: kept, truncated or rounded (ties to even) to 8-bit codes; floats are clamped.

    Floats are scaled in their own precision, as the tools do that write 8-bit images.
    """
    if image.dtype == np.uint8:
        return image.astype(np.float64)
    if image.dtype == np.uint16:
        scaled = image * 255.0 / 65535.0
    else:
        scaled = np.clip(image, 0, 1) * image.dtype.type(255)
    if rule == "none":
        return scaled.astype(np.float64)
    return (np.floor(scaled) if rule == "floor" else np.rint(scaled)).astype(np.float64)


def luma_channel(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W, 1) luma of RGB (.299, .587, .114); grey stays as it is."""
    return image if image.shape[2] == 1 else (image @ np.array(LUMA_WEIGHTS))[..., None]
