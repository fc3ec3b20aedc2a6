"""A still picture seen by a moving camera: footage whose true motion is known."""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from evsim.errors import InputError
from evsim.media.frame import Frame, Transfer
from evsim.media.image import read_image, require_image, usual_transfer
from evsim.media.selection import Selection, resize
from evsim.media.source import Source, require_light
from evsim.media.timing import NANOSECONDS, frame_time_ns, rational_rate
from evsim.media.transfer import full_scale
from evsim.media.warning import MediaWarning

MotionPath = Literal["pan", "zigzag", "circle", "zoom-rotate", "shake"]
MOTION_PATHS: tuple[MotionPath, ...] = ("pan", "zigzag", "circle", "zoom-rotate", "shake")

_MOTION_SAMPLES = 4096
_MOST_ENLARGED = 4.0


class Keyframe(NamedTuple):
    """Where the camera is at one moment."""

    time: float
    """Fraction of the clip's duration, 0 to 1."""
    dx: float = 0.0
    """Displacement to the right, in output pixels at zoom 1."""
    dy: float = 0.0
    """Displacement downwards, in output pixels at zoom 1."""
    rotation_deg: float = 0.0
    """Clockwise on the screen, as x is right and y is down."""
    zoom: float = 1.0
    """Magnification."""


@dataclass(frozen=True, kw_only=True)
class CameraMotion:
    """A smooth camera path over a picture. Raises InputError for values out of range."""

    path: MotionPath = "circle"
    """pan: to the right and back; zigzag: the same while swinging up and down more slowly; circle;
    zoom-rotate: in place; shake: an irregular tremor. Rotation and zoom swing along with each of them."""
    amplitude_px: float = 20.0
    """Largest displacement from the centre, in output pixels at zoom 1."""
    cycles: float = 1.0
    """How often the path is run through in the clip."""
    rotation_deg: float = 0.0
    """Largest rotation to either side."""
    zoom: float = 1.0
    """Largest magnification; 1: none."""
    keyframes: tuple[Keyframe, ...] = ()
    """A path of one's own, in place of the named one: a cubic through these moments."""

    def __post_init__(self) -> None:
        if self.path not in MOTION_PATHS:
            raise InputError(f"camera path {self.path!r}, expected one of {', '.join(MOTION_PATHS)}")
        ranges = {"amplitude_px": 0.0, "cycles": 0.0, "rotation_deg": 0.0, "zoom": 1.0}
        for name, low in ranges.items():
            if not low <= getattr(self, name) < math.inf:
                raise InputError(f"{name} = {getattr(self, name)}, expected at least {low:g}")
        times = [key.time for key in self.keyframes]
        if self.keyframes and (len(times) < 2 or any(b <= a for a, b in itertools.pairwise(times))):
            raise InputError("keyframes: expected at least two, in order of increasing time")
        if not all(math.isfinite(value) for key in self.keyframes for value in key):
            raise InputError("keyframes: expected finite numbers")
        if any(key.zoom <= 0 for key in self.keyframes) or any(not 0 <= time <= 1 for time in times):
            raise InputError("keyframes: expected times from 0 to 1 and a positive zoom")

    def at(self, phase: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 4): dx, dy (output pixels), rotation (radians), log zoom at fractions (...) of the clip."""
        phase = np.asarray(phase, np.float64)
        if self.keyframes:
            return _through_keyframes(self.keyframes, phase)
        turn = 2 * np.pi * self.cycles * phase
        dx, dy = _named_path(self.path, self.cycles * phase)
        return np.stack(
            [
                self.amplitude_px * dx,
                self.amplitude_px * dy,
                math.radians(self.rotation_deg) * np.sin(turn),
                math.log(self.zoom) * (1 - np.cos(turn)) / 2,
            ],
            axis=-1,
        )


class StillImageSource(Source):
    """Frames of a camera that moves over a still picture; deterministic, rendered one at a time.

    picture: a file, or an image (H, W) or (H, W, 3). size: (width, height) of the frames. Frames are at
    k / fps up to and including duration_s. dtype: of the frames, that of the picture unless given
    (float32 keeps the shades between codes). picture_scale: output pixels at zoom 1 for each picture pixel;
    by default the smallest at which the camera never sees beyond the picture.
    Warns (MediaWarning) if the picture must be enlarged, or mirrored beyond its border because
    picture_scale asks for it. Raises InputError for a picture much too small.
    """

    kind = "still"

    def __init__(
        self,
        picture: str | os.PathLike[str] | NDArray[Any],
        motion: CameraMotion = CameraMotion(),
        *,
        duration_s: float,
        fps: float,
        size: tuple[int, int],
        transfer: Transfer | None = None,
        name: str | None = None,
        dtype: DTypeLike | None = None,
        picture_scale: float | None = None,
    ) -> None:
        selection = Selection(size=size, fps=fps)
        if not 0 < duration_s < math.inf:
            raise InputError(f"duration_s = {duration_s}, expected a positive number of seconds")
        image, label = _load(picture, name)
        usual: Transfer = "linear" if image.dtype.kind == "f" else "srgb"
        if not isinstance(picture, np.ndarray):
            usual = usual_transfer(Path(picture), image)
        require_light(image, label, transfer or usual)
        self.motion = motion
        self._duration_ns = duration_s * NANOSECONDS
        self._rate = rational_rate(fps)
        self._centre = (np.array(size) - 1) / 2
        reach, self._widest = _reach(motion, size)
        scale = self._choose_scale(image, reach, picture_scale, label)
        self._working, working_scale = _shrink(_as_dtype(image, dtype), scale / self._widest)
        # Pixel centres: picture x and working x stand for the same place if x_w + 0.5 = (x_p + 0.5) * scale.
        self._to_working = np.array(
            [
                [working_scale[0], 0, 0.5 * working_scale[0] - 0.5],
                [0, working_scale[1], 0.5 * working_scale[1] - 0.5],
                [0, 0, 1],
            ]
        )
        self._scale = scale
        self._picture_centre = (np.array([image.shape[1], image.shape[0]]) - 1) / 2
        count = math.floor(duration_s * float(self._rate) + 1e-9) + 1
        super().__init__(
            label,
            np.empty((size[1], size[0], *image.shape[2:]), self._working.dtype),
            selection=Selection(),
            transfer=transfer or usual,
            timing=f"rendered at {fps:g} frames/s",
            fps=float(fps),
            frame_count=count,
            frames_expected=count,
            duration_s=float(frame_time_ns(count - 1, self._rate)) / NANOSECONDS,
        )
        self.selection = selection

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.frame_count or 0):
            t_ns = round(frame_time_ns(index, self._rate))
            yield Frame(self.render(t_ns), t_ns, False, index)

    def render(self, t_ns: int) -> NDArray[Any]:
        """(H, W) or (H, W, 3): the picture as the camera sees it at one time, nanoseconds."""
        matrix = (self._to_working @ _square(self.pose(t_ns)))[:2]
        return cv2.warpAffine(
            self._working,
            matrix,
            (self.width, self.height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )

    def pose(self, t_ns: int) -> NDArray[np.float64]:
        """(2, 3): maps an output pixel (x, y, 1) at a time, nanoseconds, to the picture's pixel (x, y)."""
        dx, dy, angle, log_zoom = self.motion.at(np.array(t_ns / self._duration_ns))
        linear = _rotation(angle) * (math.exp(-log_zoom) / self._scale)
        offset = self._picture_centre + np.array([dx, dy]) / self._scale - linear @ self._centre
        return np.column_stack([linear, offset])

    def motion_between(self, t0_ns: int, t1_ns: int) -> NDArray[np.float64]:
        """(2, 3): maps where a point is seen at t0 (x, y, 1) to where it is seen at t1: the true flow."""
        return (np.linalg.inv(_square(self.pose(t1_ns))) @ _square(self.pose(t0_ns)))[:2]

    def _choose_scale(
        self, image: NDArray[Any], reach: NDArray[np.float64], wanted: float | None, label: str
    ) -> float:
        """Output pixels at zoom 1 for each picture pixel."""
        if min(image.shape[:2]) < 2:
            raise InputError(f"{label} is {image.shape[1]}x{image.shape[0]} pixels, expected at least 2x2")
        # Two more of the widest pixels than the view: shrinking rounds to whole pixels, sampled at centres.
        sides = np.array([image.shape[1], image.shape[0]])
        needed = float(np.max((2 * reach + 2 * self._widest) / sides))
        if wanted is not None and not 0 < wanted < math.inf:
            raise InputError(f"picture_scale = {wanted}, expected a positive number")
        scale = wanted or needed
        if wanted is not None and wanted < needed * (1 - 1e-9):
            warnings.warn(
                f"{label}: at picture_scale {wanted:g} the camera sees beyond the picture, which is mirrored "
                f"there; {needed:.3g} would do",
                MediaWarning,
                stacklevel=3,
            )
        if scale > _MOST_ENLARGED:
            raise InputError(
                f"{label} of {image.shape[1]}x{image.shape[0]} pixels would be enlarged {scale:.1f} times; "
                f"expected a larger picture, a smaller size or less motion"
            )
        if scale > 1 + 1e-9:
            warnings.warn(
                f"{label} is enlarged {scale:.2f} times to cover the camera's path and looks soft; a larger "
                f"picture, a smaller size or less motion avoids it",
                MediaWarning,
                stacklevel=3,
            )
        return scale


def _load(picture: str | os.PathLike[str] | NDArray[Any], name: str | None) -> tuple[NDArray[Any], str]:
    if isinstance(picture, np.ndarray):
        return require_image(picture, name or "picture"), name or "picture"
    return read_image(picture), name or str(picture)


def _as_dtype(image: NDArray[Any], dtype: DTypeLike | None) -> NDArray[Any]:
    """The image in another type, full scale kept; integers only become wider or float."""
    if dtype is None or np.dtype(dtype) == image.dtype:
        return image
    wanted = np.dtype(dtype)
    if wanted == np.float32:
        return (image / np.float32(full_scale(image.dtype))).astype(np.float32)
    if wanted == np.uint16 and image.dtype == np.uint8:
        return image.astype(np.uint16) * np.uint16(257)
    raise InputError(f"dtype = {wanted}, expected {image.dtype}, a wider integer or float32")


def _shrink(image: NDArray[Any], scale: float) -> tuple[NDArray[Any], tuple[float, float]]:
    """The picture shrunk by area to about `scale`, so that sampling it does not alias; never enlarged."""
    height, width = image.shape[:2]
    if scale >= 1:
        return image, (1.0, 1.0)
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    return resize(image, size), (size[0] / width, size[1] / height)


def _reach(motion: CameraMotion, size: tuple[int, int]) -> tuple[NDArray[np.float64], float]:
    """How far from the centre the camera sees in x and y, output pixels at zoom 1; and the widest view.

    The widest view is the largest distance in output pixels at zoom 1 that one output pixel spans.
    """
    dx, dy, angle, log_zoom = np.moveaxis(motion.at(np.linspace(0, 1, _MOTION_SAMPLES + 1)), -1, 0)
    spans = np.exp(-log_zoom)
    half_width, half_height = (size[0] - 1) / 2 * spans, (size[1] - 1) / 2 * spans
    cos, sin = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    reach_x = np.max(np.abs(dx) + cos * half_width + sin * half_height)
    reach_y = np.max(np.abs(dy) + sin * half_width + cos * half_height)
    return np.array([reach_x, reach_y]), float(np.max(spans))


def _named_path(path: str, run: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Displacement in x and y, within -1 to 1, after `run` passes of the path."""
    turn = 2 * np.pi * run
    # To and fro at constant speed: from -1 to 1 in the first half of a pass, and back in the second.
    swing = 1 - np.abs(2 - 4 * (run % 1.0))
    if path == "pan":
        return swing, np.zeros_like(run)
    if path == "zigzag":
        return swing, np.sin(turn / 4)
    if path == "circle":
        return np.cos(turn), np.sin(turn)
    if path == "shake":
        # Three incommensurate tremors to each axis; the weights add up to 1.
        x = 0.5 * np.sin(turn) + 0.3 * np.sin(2.618 * turn + 1.0) + 0.2 * np.sin(5.236 * turn + 2.0)
        y = 0.5 * np.sin(1.272 * turn + 0.5) + 0.3 * np.sin(3.33 * turn + 1.5) + 0.2 * np.sin(6.66 * turn)
        return x, y
    return np.zeros_like(run), np.zeros_like(run)


def _through_keyframes(keyframes: tuple[Keyframe, ...], phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cubic Hermite interpolation, tangents by finite differences; still before and after the keyframes."""
    times = np.array([key.time for key in keyframes])
    values = np.array(
        [[key.dx, key.dy, math.radians(key.rotation_deg), math.log(key.zoom)] for key in keyframes]
    )
    tangents = np.gradient(values, times, axis=0)
    moment = np.clip(phase, times[0], times[-1])
    k = np.clip(np.searchsorted(times, moment, side="right") - 1, 0, len(times) - 2)
    span = times[k + 1] - times[k]
    u = ((moment - times[k]) / span)[..., None]
    step = span[..., None]
    return (
        (1 + 2 * u) * (1 - u) ** 2 * values[k]
        + u * (1 - u) ** 2 * step * tangents[k]
        + u**2 * (3 - 2 * u) * values[k + 1]
        + u**2 * (u - 1) * step * tangents[k + 1]
    )


def _rotation(angle: float) -> NDArray[np.float64]:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _square(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.vstack([matrix, [0.0, 0.0, 1.0]])
