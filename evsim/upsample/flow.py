"""Frames in between along optical flow: both frames are carried to the wanted time and mixed.

For a time t between 0 and 1 the motion of either frame is projected to t (bilinear splatting, weighted by
forward-backward consistency, after Baker et al. 2011), which gives one velocity for each pixel of the new
frame; the new frame samples both sources along it. A place that only one source can see (nothing of the
other arrives there, or its sample lies outside the image) is taken from that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from evsim.kernels.threads.bands import RowBands
from evsim.upsample.dense_flow import SMALLEST_SIDE, dense_flow
from evsim.upsample.interpolator import BlendedPair, PreparedPair
from evsim.upsample.luma import matching_pair
from evsim.upsample.projection import blend_along, consistency, project

_AT_REST_PX = 0.05
_MOVING_PX = 0.15
"""Flow under the first is noise of the matcher and set to zero; between both it fades in."""

_MOTION_PERCENTILE = 99.5
_ENOUGH_TRUSTED = 0.1
_SAME_NEIGHBOURHOOD = np.ones((7, 7), np.uint8)
_TEXTURE = 6
_LARGE = 128


class FlowInterpolator:
    """The default interpolator: DIS optical flow in both directions, needs no weights.

    Deterministic: the same frames give the same bytes, whatever the number of threads.
    threads: of the parts that OpenCV does not do; None for all cores.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._bands = RowBands(threads)

    @property
    def files(self) -> Mapping[str, str]:
        """None are loaded."""
        return {}

    def prepare(self, frame0: NDArray[Any], frame1: NDArray[Any]) -> PreparedPair:
        """The pair with its flow; images with a side under 16 pixels, too small to match, are blended."""
        if min(frame0.shape[:2]) < SMALLEST_SIDE:
            return BlendedPair(frame0, frame1)
        return FlowPair(frame0, frame1, self._bands)


class FlowPair:
    """Two frames of one scene with the optical flow between them."""

    def __init__(self, frame0: NDArray[Any], frame1: NDArray[Any], bands: RowBands) -> None:
        self._bands = bands
        picture0, picture1 = matching_pair(frame0, frame1)
        at_rest = _same_texture(picture0, picture1)
        forward = _without_jitter(dense_flow(picture0, picture1), at_rest)
        backward = _without_jitter(dense_flow(picture1, picture0), at_rest)
        # DIS itself matches at half resolution: every second vector of a large image carries all it found.
        self._step = step = 2 if min(frame0.shape[:2]) >= _LARGE else 1
        self._trust0 = consistency(forward, backward, step)
        self._trust1 = consistency(backward, forward, step)
        self._forward = np.ascontiguousarray(forward[::step, ::step])
        self._backward = np.ascontiguousarray(backward[::step, ::step])
        self._image0 = np.ascontiguousarray(np.atleast_3d(frame0).astype(np.float32))
        self._image1 = np.ascontiguousarray(np.atleast_3d(frame1).astype(np.float32))
        self._shape = frame0.shape

    def pictures(self, fractions: Sequence[float]) -> Iterator[NDArray[np.float32]]:
        """The pictures at these fractions (0 to 1) of the way, float32 in the frames' units, one by one."""
        return map(self._picture, fractions)

    def _picture(self, fraction: float) -> NDArray[np.float32]:
        step, bands = self._step, self._bands
        field = project(self._forward, self._backward, self._trust0, self._trust1, fraction, step, bands)
        return blend_along(self._image0, self._image1, field, fraction, step, bands).reshape(self._shape)

    def displacement_px(self) -> float:
        """The 99.5th percentile of the flow's length, in pixels, over what both directions agree on.

        Where they agree on less than a tenth of the image, over all of it. 0 where nothing moves.
        """
        return max(_extent(self._forward, self._trust0), _extent(self._backward, self._trust1))


def _extent(flow: NDArray[np.float32], trust: NDArray[np.float32]) -> float:
    lengths, trusted = cv2.magnitude(flow[..., 0], flow[..., 1]), trust > 0.5
    decisive = lengths[trusted] if trusted.mean() > _ENOUGH_TRUSTED else lengths
    return float(np.percentile(decisive, _MOTION_PERCENTILE))


def _same_texture(picture0: NDArray[np.uint8], picture1: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where both pictures show the same texture at the same place: it rests, whatever moves nearby."""
    change = cv2.dilate(cv2.absdiff(picture0, picture1), _SAME_NEIGHBOURHOOD)
    relief = cv2.dilate(picture0, _SAME_NEIGHBOURHOOD) - cv2.erode(picture0, _SAME_NEIGHBOURHOOD)
    return (change == 0) & (relief >= _TEXTURE)


def _without_jitter(flow: NDArray[np.float32], at_rest: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The flow with exactly zero where the scene rests, so that resting parts are blended, not resampled."""
    length = cv2.magnitude(flow[..., 0], flow[..., 1])
    keep = np.clip((length - _AT_REST_PX) / (_MOVING_PX - _AT_REST_PX), 0, 1)
    keep[at_rest] = 0
    return np.ascontiguousarray(flow * keep[..., None])
