"""The hot loops of flow interpolation: consistency of two flows, projecting them to a time, sampling along.

All are compiled, run over row blocks in parallel, and give the same bytes for any number of threads.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Array = NDArray[np.float32]

_SLACK_PX2 = np.float32(0.5)
_SLACK_SHARE = np.float32(0.02)
"""Squared disagreement of two flows that is still called agreement: so much, plus a share of their squares."""

_LEAST_TRUST = np.float32(1e-3)


@njit(cache=True, parallel=True)
def consistency(forward: Array, backward: Array) -> Array:
    """Trust (H, W) in 0..1 in a flow: exp(-|F(p) + B(p + F(p))|^2 / slack); 0 where p + F(p) is outside.

    forward, backward: (H, W, 2), pixels.
    """
    height, width = forward.shape[:2]
    trust = np.zeros((height, width), np.float32)
    for y in prange(height):
        for x in range(width):
            u, v = forward[y, x, 0], forward[y, x, 1]
            tx, ty = np.float32(x) + u, np.float32(y) + v
            if tx < 0 or ty < 0 or tx > width - 1 or ty > height - 1:
                continue
            x0, y0 = min(int(tx), width - 2), min(int(ty), height - 2)
            fx, fy = tx - np.float32(x0), ty - np.float32(y0)
            error = np.float32(0)
            square = u * u + v * v
            for c in range(2):
                top = backward[y0, x0, c] + fx * (backward[y0, x0 + 1, c] - backward[y0, x0, c])
                low = backward[y0 + 1, x0, c] + fx * (backward[y0 + 1, x0 + 1, c] - backward[y0 + 1, x0, c])
                back = top + fy * (low - top)
                difference = forward[y, x, c] + back
                error += difference * difference
                square += back * back
            trust[y, x] = np.exp(-error / (_SLACK_PX2 + _SLACK_SHARE * square))
    return trust


def project(forward: Array, backward: Array, trust0: Array, trust1: Array, fraction: float) -> Array:
    """What arrives at each pixel at time `fraction`: (H, W, 5) sums of weight*u, weight*v, weight, mass0, mass1.

    u, v: velocity in pixels per interval, from frame 0 to frame 1. mass0, mass1: how many pixels of frame 0
    and of frame 1 arrive, whatever their trust.
    """
    bands = numba.get_num_threads()
    return _project(forward, backward, trust0, trust1, np.float32(fraction), bands)


@njit(cache=True, parallel=True)
def _project(
    forward: Array, backward: Array, trust0: Array, trust1: Array, fraction: np.float32, bands: int
) -> Array:
    height, width = trust0.shape
    carried = np.zeros((height, width, 5), np.float32)
    rest = np.float32(1) - fraction
    reach0 = int(np.ceil(np.abs(forward[..., 1]).max() * fraction)) + 1
    reach1 = int(np.ceil(np.abs(backward[..., 1]).max() * rest)) + 1
    for band in prange(bands):
        # Each band owns its target rows and meets the source pixels in the same order as any other split.
        top, end = height * band // bands, height * (band + 1) // bands
        _splat(carried, forward, trust0, fraction, np.float32(1), 3, top, end, reach0)
        _splat(carried, backward, trust1, rest, np.float32(-1), 4, top, end, reach1)
    return carried


@njit(cache=True)
def _splat(
    carried: Array,
    flow: Array,
    trust: Array,
    time: np.float32,
    sign: np.float32,
    mass: int,
    top: int,
    end: int,
    reach: int,
) -> None:
    height, width = trust.shape
    for y in range(max(0, top - reach), min(height, end + reach)):
        for x in range(width):
            u, v = flow[y, x, 0], flow[y, x, 1]
            tx, ty = np.float32(x) + time * u, np.float32(y) + time * v
            x0, y0 = int(np.floor(tx)), int(np.floor(ty))
            if y0 + 1 < top or y0 >= end or x0 + 1 < 0 or x0 >= width:
                continue
            fx, fy = tx - np.float32(x0), ty - np.float32(y0)
            weight = trust[y, x] + _LEAST_TRUST
            for j in range(2):
                row = y0 + j
                if row < top or row >= end:
                    continue
                share_y = fy if j else np.float32(1) - fy
                for i in range(2):
                    column = x0 + i
                    share = share_y * (fx if i else np.float32(1) - fx)
                    if column < 0 or column >= width or share <= 0:
                        continue
                    target = carried[row, column]
                    target[0] += share * weight * sign * u
                    target[1] += share * weight * sign * v
                    target[2] += share * weight
                    target[mass] += share


@njit(cache=True, inline="always")
def _sample(image: Array, x: np.float32, y: np.float32, channel: int) -> np.float32:
    height, width = image.shape[:2]
    x = min(max(x, np.float32(0)), np.float32(width - 1))
    y = min(max(y, np.float32(0)), np.float32(height - 1))
    x0, y0 = min(int(x), width - 2), min(int(y), height - 2)
    fx, fy = x - np.float32(x0), y - np.float32(y0)
    top = image[y0, x0, channel] + fx * (image[y0, x0 + 1, channel] - image[y0, x0, channel])
    low = image[y0 + 1, x0, channel] + fx * (image[y0 + 1, x0 + 1, channel] - image[y0 + 1, x0, channel])
    return top + fy * (low - top)


@njit(cache=True, inline="always")
def _is_outside(x: np.float32, y: np.float32, width: int, height: int) -> bool:
    return x < -0.5 or y < -0.5 or x > width - 0.5 or y > height - 0.5


def blend_along(
    image0: Array, image1: Array, forward: Array, backward: Array, carried: Array, fraction: float
) -> Array:
    """The picture at time `fraction`: both images sampled along the carried velocity and mixed.

    image0, image1: (H, W, C). carried: from `project`. Where nothing arrives, the velocity is the mean of
    both flows at the place. Where the velocity is zero and both frames see the place, the result is exactly
    image0 + fraction * (image1 - image0).
    """
    return _blend_along(image0, image1, forward, backward, carried, np.float32(fraction))


@njit(cache=True, parallel=True)
def _blend_along(
    image0: Array, image1: Array, forward: Array, backward: Array, carried: Array, fraction: np.float32
) -> Array:
    height, width, channels = image0.shape
    one = np.float32(1)
    rest = one - fraction
    result = np.empty((height, width, channels), np.float32)
    for y in prange(height):
        for x in range(width):
            weight = carried[y, x, 2]
            if weight > np.float32(0.1) * _LEAST_TRUST:
                u, v = carried[y, x, 0] / weight, carried[y, x, 1] / weight
            else:
                u = rest * forward[y, x, 0] - fraction * backward[y, x, 0]
                v = rest * forward[y, x, 1] - fraction * backward[y, x, 1]
            mass0, mass1 = min(one, 4 * carried[y, x, 3]), min(one, 4 * carried[y, x, 4])
            trust = min(one, weight)
            most = max(mass0, mass1, np.float32(1e-3))
            seen0 = trust + (one - trust) * mass0 / most
            seen1 = trust + (one - trust) * mass1 / most
            x0, y0 = np.float32(x) - fraction * u, np.float32(y) - fraction * v
            x1, y1 = np.float32(x) + rest * u, np.float32(y) + rest * v
            outside0, outside1 = _is_outside(x0, y0, width, height), _is_outside(x1, y1, width, height)
            if outside0 and not outside1:
                seen0 = np.float32(0)
            elif outside1 and not outside0:
                seen1 = np.float32(0)
            mix = fraction
            if seen0 != seen1:
                mix = fraction * seen1 / (rest * seen0 + fraction * seen1)
            for c in range(channels):
                a, b = _sample(image0, x0, y0, c), _sample(image1, x1, y1, c)
                result[y, x, c] = a + mix * (b - a)
    return result
