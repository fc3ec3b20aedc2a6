"""One image file of any kind to an array: 8/16-bit and float pictures, NPY, OpenEXR, camera RAW."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.media.frame import Transfer

PICTURE_KINDS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe"), "JPEG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".pgm", ".ppm", ".pnm"), "PNM"),
    **{f".{name}": name.upper() for name in ("png", "bmp", "webp", "jp2", "pfm", "hdr")},
}
RAW_KINDS = {
    f".{name}": name.upper()
    for name in (
        *("dng", "nef", "nrw", "cr2", "cr3", "crw", "arw", "srf", "sr2", "raf"),
        *("orf", "rw2", "pef", "srw", "3fr", "iiq", "kdc", "dcr", "mrw"),
    )
}
IMAGE_KINDS = {**PICTURE_KINDS, **RAW_KINDS, ".npy": "NPY", ".exr": "EXR"}
"""What a file is by its suffix in lower case; suffixes of one kind may be mixed in a folder."""


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key by which frame_9 comes before frame_10."""
    parts = re.split(r"([0-9]+)", name)
    key = [(0, int(part), "") if k % 2 else (1, 0, part.casefold()) for k, part in enumerate(parts)]
    return key, name


def image_kind(path: str | os.PathLike[str]) -> str | None:
    """PNG, JPEG, NPY, EXR, DNG, ... by the suffix, or None if it is no image."""
    return IMAGE_KINDS.get(Path(path).suffix.lower())


def usual_transfer(path: str | os.PathLike[str], image: NDArray[Any]) -> Transfer:
    """raw for camera RAW, linear for float images, srgb for code values."""
    if Path(path).suffix.lower() in RAW_KINDS:
        return "raw"
    return "linear" if image.dtype.kind == "f" else "srgb"


def read_image(path: str | os.PathLike[str]) -> NDArray[Any]:
    """(H, W) grey or (H, W, 3) RGB; uint8 or uint16 codes, or float32 with full scale 1.0.

    An alpha channel is left out: see `read_image_and_alpha`. Raises InputError for what is missing,
    unreadable or of another type.
    """
    return read_image_and_alpha(path)[0]


def read_image_and_alpha(path: str | os.PathLike[str]) -> tuple[NDArray[Any], int]:
    """The image as `read_image` gives it, and how many of its pixels were not opaque."""
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in IMAGE_KINDS:
        raise InputError(
            f"{file} is no image that can be read: suffix {suffix!r}; expected PNG, TIFF, JPEG, ..."
        )
    if not file.is_file():
        raise InputError(f"{file} {'is a folder' if file.is_dir() else 'does not exist'}, expected an image")
    if suffix == ".npy":
        return require_image(_read_npy(file), str(file)), 0
    if suffix == ".exr":
        from evsim.media.exr import read_exr

        return read_exr(file), 0
    if suffix in RAW_KINDS:
        from evsim.media.camera_raw import read_raw

        return read_raw(file), 0
    return _read_picture(file)


def require_image(image: NDArray[Any], label: str) -> NDArray[Any]:
    """The array as an image: (H, W, 1) becomes (H, W), wider floats float32; InputError if it is none."""
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or 0 in image.shape:
        raise InputError(f"{label} has shape {image.shape}, expected (H, W) grey or (H, W, 3) RGB")
    if image.dtype.kind == "f":
        return image.astype(np.float32)
    if image.dtype.name not in ("uint8", "uint16"):
        raise InputError(f"{label} is {image.dtype}, expected uint8, uint16 or float32 with full scale 1.0")
    return image.astype(image.dtype.newbyteorder("="))


def _read_npy(file: Path) -> NDArray[Any]:
    try:
        loaded = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{file} is not a readable NPY array: {error}") from error
    if loaded.ndim == 4:
        raise InputError(
            f"{file} holds a stack of shape {loaded.shape}; open the file itself, not its folder"
        )
    return loaded


def _read_picture(file: Path) -> tuple[NDArray[Any], int]:
    import cv2

    from evsim.media.video import quiet_opencv

    try:
        content = np.fromfile(file, np.uint8)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    # Photographs carry their orientation beside the pixels; all other kinds are taken as they are.
    jpeg = PICTURE_KINDS[file.suffix.lower()] == "JPEG"
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH if jpeg else cv2.IMREAD_UNCHANGED
    try:
        with quiet_opencv():
            image = cv2.imdecode(content, flags) if len(content) else None
    except cv2.error:
        image = None
    if image is None:
        state = "damaged or not what its suffix says" if len(content) else "empty"
        raise InputError(f"{file} cannot be decoded: the file is {state}")
    transparent = 0
    if image.ndim == 3 and image.shape[2] == 4:
        opaque = {"uint8": 255, "uint16": 65535}.get(image.dtype.name, 1)
        transparent = int(np.count_nonzero(image[..., 3] != opaque))
        image = image[..., :3]
    if image.ndim == 3 and image.shape[2] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return require_image(image, str(file)), transparent
