"""Which part of a clip is used, at which size, and how its clock is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A window in time and space on a clip. Raises InputError for values that no clip could satisfy."""

    start_s: float | None = None
    """First time that is used, in seconds on the clip's own clock as played; None: from the start."""
    stop_s: float | None = None
    """Times from here on are not used, in seconds on the clip's own clock as played; None: to the end."""
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Pixels cut off at the left, right, top and bottom, before resizing."""
    size: tuple[int, int] | None = None
    """(width, height) to resize to: by area when shrinking, bilinear when growing; None: as cropped."""
    fps: float | None = None
    """Frames per second in place of the clip's own timing: frame k is at k / fps seconds."""
    slow_motion: float = 1.0
    """The footage was shot at this many times its playback rate: frame times are divided by it."""

    def __post_init__(self) -> None:
        for name in ("start_s", "stop_s"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and math.isfinite(value)):
                raise InputError(f"{name} = {value!r}, expected seconds")
        if self.start_s is not None and self.stop_s is not None and not self.start_s < self.stop_s:
            raise InputError(f"stop_s = {self.stop_s}, expected more than start_s = {self.start_s}")
        if not _are_integers(self.crop, 4) or min(self.crop) < 0:
            raise InputError(f"crop = {self.crop!r}, expected four pixel counts: left, right, top, bottom")
        if self.size is not None and (not _are_integers(self.size, 2) or min(self.size) < 1):
            raise InputError(f"size = {self.size!r}, expected (width, height) in pixels")
        for name in ("fps", "slow_motion"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value < math.inf):
                raise InputError(f"{name} = {value!r}, expected a positive number")
        if self.slow_motion is None:
            raise InputError("slow_motion = None, expected a positive number")

    def contains(self, t_ns: int) -> bool:
        """True if the time on the clip's own clock, in nanoseconds, is at or after start and before stop."""
        return not self.is_before(t_ns) and not self.is_after(t_ns)

    def is_before(self, t_ns: int) -> bool:
        """True if the time lies before the window."""
        return self.start_s is not None and t_ns < _nanoseconds(self.start_s)

    def is_after(self, t_ns: int) -> bool:
        """True if the time lies at or after the end of the window."""
        return self.stop_s is not None and t_ns >= _nanoseconds(self.stop_s)

    def real_time_ns(self, t_ns: int | Fraction) -> int:
        """The time in the world of a time on the playback clock: divided by the slow-motion factor."""
        return round(Fraction(t_ns) / Fraction(self.slow_motion))

    def fitted_size(self, width: int, height: int, name: str) -> tuple[int, int]:
        """(width, height) after cropping and resizing; InputError if the crop leaves nothing."""
        left, right, top, bottom = self.crop
        if left + right >= width or top + bottom >= height:
            raise InputError(
                f"{name}: crop {left},{right},{top},{bottom} (left, right, top, bottom) leaves nothing of "
                f"{width}x{height} pixels"
            )
        return self.size or (width - left - right, height - top - bottom)

    def fit(self, image: NDArray[Any]) -> NDArray[Any]:
        """The image (H, W) or (H, W, 3) cropped and resized; dtype kept, contiguous."""
        left, right, top, bottom = self.crop
        height, width = image.shape[:2]
        cropped = image[top : height - bottom, left : width - right]
        if self.size is not None and self.size != (cropped.shape[1], cropped.shape[0]):
            cropped = resize(cropped, self.size)
        return np.ascontiguousarray(cropped)


def resize(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """The image at (width, height): each axis is averaged by area if it shrinks, bilinear if it grows."""
    import cv2

    height, width = image.shape[:2]
    if size[0] < width and size[1] > height:
        image = cv2.resize(image, (size[0], height), interpolation=cv2.INTER_AREA)
    elif size[1] < height and size[0] > width:
        image = cv2.resize(image, (width, size[1]), interpolation=cv2.INTER_AREA)
    height, width = image.shape[:2]
    shrinks = size[0] <= width and size[1] <= height
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _nanoseconds(seconds: float) -> int:
    return round(Fraction(seconds) * 10**9)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are_integers(values: Any, count: int) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == count
        and all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    )


WHOLE_CLIP = Selection()
"""Everything, at the clip's own size and times."""
