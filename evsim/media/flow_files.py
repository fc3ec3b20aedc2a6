"""Files of optical flow: Middlebury's .flo, and 16-bit PNG as KITTI and DSEC write it.

Flows are float32 (H, W, 2), x and y in pixels; NaN where a file says that it is not known.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError

FLOW_KINDS = (".flo", ".png", ".npy")
PngFlow = Literal["kitti", "dsec"]
STEPS_A_PIXEL: dict[PngFlow, float] = {"kitti": 64.0, "dsec": 128.0}
"""Code values of a 16-bit PNG that are one pixel of motion."""

_MAGIC = 202021.25
_UNKNOWN = 1e9
"""In .flo a value above this says that nothing is known."""


def read_flow(path: str | os.PathLike[str], png: PngFlow = "kitti") -> NDArray[np.float32]:
    """The flow of a .flo, .png or .npy file; png: whose code values a PNG holds.

    Raises InputError for a file that is not there or of another kind, FormatError for other content.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file} does not exist, expected a file of optical flow")
    if file.suffix == ".flo":
        return _read_flo(file)
    if file.suffix == ".png":
        return _read_png(file, STEPS_A_PIXEL[png])
    if file.suffix == ".npy":
        return _require_flow(file, np.load(file, allow_pickle=False))
    raise InputError(f"{file} has suffix {file.suffix!r}, expected one of {', '.join(FLOW_KINDS)}")


def flow_bytes(flow: NDArray[np.float32]) -> bytes:
    """The content of a .flo file."""
    height, width = flow.shape[:2]
    head = np.array([_MAGIC], "<f4").tobytes() + np.array([width, height], "<i4").tobytes()
    return head + np.where(np.isfinite(flow), flow, 2 * _UNKNOWN).astype("<f4").tobytes()


def _read_flo(file: Path) -> NDArray[np.float32]:
    content = file.read_bytes()
    if len(content) < 12 or np.frombuffer(content, "<f4", 1)[0] != np.float32(_MAGIC):
        raise FormatError(file, "does not begin as .flo files do")
    width, height = (int(side) for side in np.frombuffer(content, "<i4", 2, 4))
    if width < 1 or height < 1 or len(content) != 12 + 8 * width * height:
        raise FormatError(file, f"has {len(content)} bytes, expected those of {width}x{height} pixels")
    flow = np.frombuffer(content, "<f4", 2 * width * height, 12).reshape(height, width, 2).astype(np.float32)
    flow[(np.abs(flow) > _UNKNOWN).any(-1)] = np.nan
    return flow


def _read_png(file: Path, steps: float) -> NDArray[np.float32]:
    codes = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if codes is None or codes.dtype != np.uint16 or codes.ndim != 3 or codes.shape[2] != 3:
        raise FormatError(file, "is no PNG of three 16-bit channels: flow x, flow y, known")
    # OpenCV turns the order of the channels round.
    flow = (codes[..., :0:-1].astype(np.float32) - 2**15) / np.float32(steps)
    flow[codes[..., 0] == 0] = np.nan
    return flow


def _require_flow(file: Path, flow: NDArray[Any]) -> NDArray[np.float32]:
    if flow.ndim != 3 or flow.shape[2] != 2 or flow.dtype.kind != "f":
        raise FormatError(file, f"holds {flow.dtype} {flow.shape}, expected floats (H, W, 2)")
    return flow.astype(np.float32)
