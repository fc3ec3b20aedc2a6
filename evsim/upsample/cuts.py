"""Scene cuts: is the second frame another view of the same scene?

Two small pictures of log luma are matched by optical flow, and the structure (local covariance) that is left
in common is measured, as in the structure term of SSIM (Wang et al. 2004). Motion is explained by the flow;
a change of exposure is an offset in the logarithm, which flow and covariance ignore; saturated areas have no
say; noise is subtracted from the variances; a flow that is not the same back is no motion. What remains
unexplained is a change of scene. Histograms are
not used: two shots of one film have much the same histogram, and one exposure step changes it completely.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from evsim.upsample.code_values import FULL_SCALE
from evsim.upsample.dense_flow import dense_flow
from evsim.upsample.luma import bright_level, matching_luma

Picture = NDArray[np.float32]

_SMALLEST_SIDE = 32
"""Pictures shorter than this on a side hold too little structure to be judged."""

_LONG_SIDE = 160
"""The matched pictures are about this many pixels long."""

_WINDOW = (7, 7)
_NEIGHBOURS = np.ones(_WINDOW, np.uint8)
_NOISE_FLOOR = 0.08
_SATURATED = 0.97
_KNEE = 0.05
"""Under this share of the bright level the logarithm turns linear: there is little light and much noise."""

_CONTRAST_FLOOR = 0.02
"""Local contrast (standard deviation of log luma) that says nothing: 2 %."""

_ALIKE_WITHOUT_MOTION = 0.8
"""Over this similarity at rest no motion needs to be looked for."""

_ALIKE_WITH_MOTION = 0.8
"""Over this similarity the flow that explains it needs no second opinion."""

_SLACK_PX2, _SLACK_SHARE = 0.5, 0.02
"""Squared forward-backward error that is still consistent: so much, plus a share of the squared flows."""

_ALMOST_ALL = 0.99
_SEARCH_AGAIN = 0.6
"""Under this similarity a global shift, too long for the flow, is looked for before a cut is believed."""

_SMALLEST_OVERLAP = 0.25
_SMALLEST_OVERLAP_SIDE = 16
_ENOUGH_TO_COMPARE = 0.1


class _Reduced(NamedTuple):
    """A small luma picture with the standard deviation that the frame's white noise has in it."""

    picture: Picture
    usable: Picture
    noise: float
    full_scale: float


class _Matched(NamedTuple):
    """What two frames are compared by: log luma, variance of its noise, unsaturated pixels, 8 bits of it."""

    log: Picture
    noise: Picture
    usable: Picture
    code: NDArray[np.uint8]

    def part(self, where: tuple[slice, slice]) -> _Matched:
        return _Matched(self.log[where], self.noise[where], self.usable[where], self.code[where])


class CutDetector:
    """Tells of each frame of a clip, in order, whether a scene cut lies before it; holds one small picture.

    threshold: similarity (0 to 1) under which a pair is a cut.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._previous: _Reduced | None = None

    def cut_before(self, image: NDArray[Any]) -> bool:
        """True if `image` shows another scene than the image given before; False for the first."""
        if min(image.shape[:2]) < _SMALLEST_SIDE:
            return False
        previous, self._previous = self._previous, _reduce(image)
        return previous is not None and _similarity(previous, self._previous) < self._threshold


def scene_similarity(image0: NDArray[Any], image1: NDArray[Any]) -> float:
    """How much of the scene two consecutive frames share: about 1 within a shot, under 0.3 across a cut.

    image0, image1: of one size and type. Images smaller than 32 pixels on a side, and two pictures without
    any structure, give 1.0: nothing speaks for a cut.
    """
    if min(image0.shape[:2]) < _SMALLEST_SIDE:
        return 1.0
    return _similarity(_reduce(image0), _reduce(image1))


def _reduce(image: NDArray[Any]) -> _Reduced:
    image = np.ascontiguousarray(image)
    height, width = image.shape[:2]
    step = max(1, round(max(height, width) / _LONG_SIDE))
    step = min(step, max(1, min(height, width) // _SMALLEST_SIDE))
    size = (width // step, height // step)
    skipped = 2 if step >= 4 else 1  # every second row is average enough, at half the time
    small = cv2.resize(image[::skipped], size, interpolation=cv2.INTER_AREA) if step > 1 else image
    full_scale = FULL_SCALE[image.dtype]
    strongest = (
        small if small.ndim == 2 else np.maximum(np.maximum(small[..., 0], small[..., 1]), small[..., 2])
    )
    unsaturated = (strongest < _SATURATED * full_scale).astype(np.float32)
    return _Reduced(
        np.maximum(matching_luma(small), 0),
        unsaturated,
        _noise_deviation(image) * skipped**0.5 / step,
        full_scale,
    )


def _noise_deviation(image: NDArray[Any]) -> float:
    """Noise of an image: median absolute second difference along every 32nd row, robust to edges."""
    rows = (image[::32, :, 1] if image.ndim == 3 else image[::32]).astype(np.float32)
    second = np.abs(rows[:, 2:] - 2 * rows[:, 1:-1] + rows[:, :-2]).ravel()
    return float(np.partition(second, second.size // 2)[second.size // 2]) / (0.6745 * 6**0.5)


def _similarity(frame0: _Reduced, frame1: _Reduced) -> float:
    bright = max(bright_level(frame0.picture), bright_level(frame1.picture))
    knee = max(_KNEE * bright, frame0.noise, frame1.noise, frame0.full_scale / 1024)
    log0, log1 = np.log(frame0.picture + np.float32(knee)), np.log(frame1.picture + np.float32(knee))
    noise0, noise1 = np.square(frame0.noise * np.exp(-log0)), np.square(frame1.noise * np.exp(-log1))
    both = frame0.usable * frame1.usable
    unsaturated = np.asarray(cv2.erode(both, _NEIGHBOURS), np.float32)
    at_rest = _mean(*_structure(log0, log1, noise0, noise1, unsaturated))
    if at_rest > _ALIKE_WITHOUT_MOTION:
        return at_rest
    saturation = np.log(np.float32(_SATURATED * frame0.full_scale + knee))
    code0, code1 = _same_exposure(log0, log1, both > 0, saturation)
    matched0 = _Matched(log0, noise0, frame0.usable, code0)
    matched1 = _Matched(log1, noise1, frame1.usable, code1)
    similarity = max(at_rest, _compensated(matched0, matched1))
    if similarity < _SEARCH_AGAIN:
        overlap = _overlap_after_global_shift(log0, log1)
        if overlap is not None:
            similarity = max(similarity, _compensated(matched0.part(overlap[0]), matched1.part(overlap[1])))
    return similarity


def _compensated(frame0: _Matched, frame1: _Matched) -> float:
    """Structure in common after the flow; where it is little, also whether the flow is one at all.

    Between two scenes a flow exists too: it bends one texture into the other. But there and back it goes
    different ways, so the geometric mean of structure and forward-backward consistency tells them apart.
    """
    flow = dense_flow(frame0.code, frame1.code, fast=True)
    height, width = frame0.log.shape
    target_x = flow[..., 0] + np.arange(width, dtype=np.float32)
    target_y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]

    def carried(picture: Picture) -> Picture:
        moved = cv2.remap(picture, target_x, target_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(moved, np.float32)

    inside = (target_x >= 0) & (target_x <= width - 1) & (target_y >= 0) & (target_y <= height - 1)
    usable = np.asarray(cv2.erode(frame0.usable * inside, _NEIGHBOURS), np.float32)
    usable *= cv2.erode(carried(frame1.usable), _NEIGHBOURS) > _ALMOST_ALL
    structure, weight = _structure(
        frame0.log, carried(frame1.log), frame0.noise, carried(frame1.noise), usable
    )
    similarity = _mean(structure, weight)
    if similarity > _ALIKE_WITH_MOTION:
        return similarity
    back = carried(dense_flow(frame1.code, frame0.code, fast=True))
    error = np.square(flow + back).sum(axis=2)
    slack = _SLACK_PX2 + _SLACK_SHARE * (np.square(flow) + np.square(back)).sum(axis=2)
    consistency = _mean(np.exp(-error / slack), weight)
    return (max(similarity, 0.0) * consistency) ** 0.5


def _same_exposure(
    log0: Picture, log1: Picture, both: NDArray[np.bool_], saturation: np.float32
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both pictures in 8 bits as one exposure would show them: same level, blown out at the same light.

    both: pixels that neither picture has saturated; the level is compared there.
    """
    step = float(np.median((log1 - log0)[both])) if both.mean() > _ENOUGH_TO_COMPARE else 0.0
    aligned = log1 - np.float32(step)
    ceiling = min(saturation, saturation - step) if not both.all() else np.float32(np.inf)
    picture0, picture1 = np.minimum(log0, ceiling), np.minimum(aligned, ceiling)
    low = min(float(picture0.min()), float(picture1.min()))
    high = max(float(picture0.max()), float(picture1.max()))
    gain = np.float32(255.0 / max(high - low, 1e-6))
    return ((picture0 - low) * gain).astype(np.uint8), ((picture1 - low) * gain).astype(np.uint8)


def _structure(
    picture0: Picture, picture1: Picture, noise0: Picture, noise1: Picture, usable: Picture
) -> tuple[Picture, Picture]:
    """The structure term of two pictures at each pixel, and how much contrast it speaks for."""
    mean0, mean1 = cv2.blur(picture0, _WINDOW), cv2.blur(picture1, _WINDOW)
    variance0 = cv2.blur(picture0 * picture0 - noise0, _WINDOW) - mean0 * mean0
    variance1 = cv2.blur(picture1 * picture1 - noise1, _WINDOW) - mean1 * mean1
    covariance = cv2.blur(picture0 * picture1, _WINDOW) - mean0 * mean1
    floor = np.float32(_CONTRAST_FLOOR**2) + np.float32(_NOISE_FLOOR) * (noise0 + noise1)
    variance0, variance1 = np.maximum(variance0, 0), np.maximum(variance1, 0)
    structure = np.minimum((2 * covariance + floor) / (variance0 + variance1 + floor), 1)
    return structure, np.sqrt(np.maximum(variance0, variance1)) * usable


def _mean(values: Picture, weight: Picture) -> float:
    """The weighted mean; 1 where nothing has weight, for then nothing speaks for a cut."""
    total = float(weight.sum())
    return float((values * weight).sum()) / total if total > 0 else 1.0


def _overlap_after_global_shift(
    log0: Picture, log1: Picture
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """The parts of two pictures that show the same if the whole view has shifted, by phase correlation."""
    height, width = log0.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    (shift_x, shift_y), _ = cv2.phaseCorrelate(log0 - log0.mean(), log1 - log1.mean(), window)
    x, y = round(shift_x), round(shift_y)
    parts = (
        (slice(max(0, -y), height - max(0, y)), slice(max(0, -x), width - max(0, x))),
        (slice(max(0, y), height - max(0, -y)), slice(max(0, x), width - max(0, -x))),
    )
    overlap_height, overlap_width = height - abs(y), width - abs(x)
    enough = overlap_height * overlap_width >= _SMALLEST_OVERLAP * height * width
    return parts if enough and min(overlap_height, overlap_width) >= _SMALLEST_OVERLAP_SIDE else None
