"""The hot loops of flow interpolation: consistency of two flows, projecting them to a time, sampling along.

All are compiled, run over bands of rows, and give the same bytes for any number of threads.
"""

from __future__ import annotations

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from evsim.kernels.threads.bands import RowBands

Array = NDArray[np.float32]

_SLACK_PX2 = np.float32(0.5)
_SLACK_SHARE = np.float32(0.02)
"""Squared disagreement of two flows that still is agreement: so much, plus a share of their squares."""

_LEAST_TRUST = np.float32(1e-3)
_AROUND = (9, 9)


@njit(cache=True, error_model="numpy")
def consistency(forward: Array, backward: Array, step: int) -> Array:
    """Trust (h, w) in 0..1 in every step-th flow vector: exp(-|F(p) + B(p + F(p))|^2 / slack).

    forward, backward: (H, W, 2), pixels. 0 where p + F(p) lies outside.
    """
    height, width = forward.shape[:2]
    rows, columns = (height + step - 1) // step, (width + step - 1) // step
    trust = np.zeros((rows, columns), np.float32)
    for row in range(rows):
        for column in range(columns):
            y, x = row * step, column * step
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
            trust[row, column] = np.exp(-error / (_SLACK_PX2 + _SLACK_SHARE * square))
    return trust


def project(
    forward: Array,
    backward: Array,
    trust0: Array,
    trust1: Array,
    fraction: float,
    step: int,
    bands: RowBands,
) -> Array:
    """The motion and visibility at a time on a grid of every step-th pixel: (h, w, 4) u, v, seen0, seen1.

    forward, backward: (h, w, 2) flow at the grid's points, in pixels; trust0, trust1: (h, w).
    u, v: velocity from frame 0 to frame 1, pixels per interval. seen0, seen1: 0..1, whether frame 0 and
    frame 1 see what is there; both are 1 where the flows agree.
    """
    height, width = shape = trust0.shape
    time0, time1 = np.float32(fraction / step), np.float32((1 - fraction) / step)
    reach0 = int(np.ceil(np.abs(forward[..., 1]).max() * time0)) + 1
    reach1 = int(np.ceil(np.abs(backward[..., 1]).max() * time1)) + 1
    # Sums of (weight u, weight v, weight, count of frame 0, count of frame 1) of what arrives.
    arrived = np.zeros((height, width, 5), np.float32)
    # Each band owns its target rows and meets the source points in the same order as any other split.
    bands.run(_splat, shape, arrived, forward, trust0, time0, np.float32(1), 3, reach0)
    bands.run(_splat, shape, arrived, backward, trust1, time1, np.float32(-1), 4, reach1)
    around = np.asarray(cv2.blur(arrived, _AROUND, borderType=cv2.BORDER_REPLICATE), np.float32)
    field = np.empty((height, width, 4), np.float32)
    bands.run(_complete, shape, field, arrived, around, forward, backward, np.float32(fraction))
    return field


@njit(cache=True, nogil=True)
def _splat(
    arrived: Array,
    flow: Array,
    trust: Array,
    time: np.float32,
    sign: np.float32,
    count: int,
    reach: int,
    top: int,
    end: int,
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
                    target = arrived[row, column]
                    target[0] += share * weight * sign * u
                    target[1] += share * weight * sign * v
                    target[2] += share * weight
                    target[count] += share


@njit(cache=True, nogil=True, error_model="numpy")
def _complete(
    field: Array,
    arrived: Array,
    around: Array,
    forward: Array,
    backward: Array,
    fraction: np.float32,
    top: int,
    end: int,
) -> None:
    """Velocity and visibility everywhere: where little trust arrives, the neighbourhood speaks."""
    width = arrived.shape[1]
    one, rest = np.float32(1), np.float32(1) - fraction
    for y in range(top, end):
        for x in range(width):
            here, near = arrived[y, x], around[y, x]
            # Trust that stands alone among mistrust is chance.
            trust = min(one, here[2]) * min(one, near[2])
            if trust == one:
                field[y, x, 0], field[y, x, 1] = here[0] / here[2], here[1] / here[2]
                field[y, x, 2], field[y, x, 3] = one, one
                continue
            weight = trust * here[2] + (one - trust) * near[2]
            if weight > _LEAST_TRUST:
                field[y, x, 0] = (trust * here[0] + (one - trust) * near[0]) / weight
                field[y, x, 1] = (trust * here[1] + (one - trust) * near[1]) / weight
            else:
                field[y, x, 0] = rest * forward[y, x, 0] - fraction * backward[y, x, 0]
                field[y, x, 1] = rest * forward[y, x, 1] - fraction * backward[y, x, 1]
            count0, count1 = min(one, 4 * here[3]), min(one, 4 * here[4])
            most = max(count0, count1, np.float32(1e-3))
            field[y, x, 2] = trust + (one - trust) * count0 / most
            field[y, x, 3] = trust + (one - trust) * count1 / most


@njit(cache=True, inline="always")
def _corner(position: np.float32, length: int) -> tuple[int, np.float32]:
    """The lower of the two neighbours of a position, clamped to the image, and the share of the upper."""
    position = min(max(position, np.float32(0)), np.float32(length - 1))
    low = min(int(position), length - 2)
    return low, position - np.float32(low)


@njit(cache=True, inline="always")
def _mixed(image: Array, x: int, y: int, fx: np.float32, fy: np.float32, channel: int) -> np.float32:
    top = image[y, x, channel] + fx * (image[y, x + 1, channel] - image[y, x, channel])
    low = image[y + 1, x, channel] + fx * (image[y + 1, x + 1, channel] - image[y + 1, x, channel])
    return top + fy * (low - top)


@njit(cache=True, inline="always")
def _is_outside(x: np.float32, y: np.float32, width: int, height: int) -> bool:
    half = np.float32(0.5)
    return bool(x < -half or y < -half or x > np.float32(width) - half or y > np.float32(height) - half)


def blend_along(
    image0: Array, image1: Array, field: Array, fraction: float, step: int, bands: RowBands
) -> Array:
    """The picture (H, W, C) at time `fraction`: both images sampled along the velocity and mixed.

    image0, image1: (H, W, C). field: from `project`. Where the velocity is zero and both frames see the
    place, the result is exactly image0 + fraction * (image1 - image0).
    """
    result = np.empty(image0.shape, np.float32)
    bands.run(_blend_along, image0.shape[:2], result, image0, image1, field, np.float32(fraction), step)
    return result


@njit(cache=True, nogil=True, error_model="numpy")
def _blend_along(
    result: Array,
    image0: Array,
    image1: Array,
    field: Array,
    fraction: np.float32,
    step: int,
    first: int,
    last: int,
) -> None:
    height, width, channels = image0.shape
    rows, columns = field.shape[:2]
    one = np.float32(1)
    rest, scale = one - fraction, one / np.float32(step)
    for y in range(first, last):
        row, fy = _corner(np.float32(y) * scale, rows)
        for x in range(width):
            column, fx = _corner(np.float32(x) * scale, columns)
            u = _mixed(field, column, row, fx, fy, 0)
            v = _mixed(field, column, row, fx, fy, 1)
            seen0 = _mixed(field, column, row, fx, fy, 2)
            seen1 = _mixed(field, column, row, fx, fy, 3)
            if u == 0 and v == 0 and seen0 == seen1:
                for c in range(channels):
                    a = image0[y, x, c]
                    result[y, x, c] = a + fraction * (image1[y, x, c] - a)
                continue
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
            left0, fx0 = _corner(x0, width)
            top0, fy0 = _corner(y0, height)
            left1, fx1 = _corner(x1, width)
            top1, fy1 = _corner(y1, height)
            for c in range(channels):
                a = _mixed(image0, left0, top0, fx0, fy0, c)
                b = _mixed(image1, left1, top1, fx1, fy1, c)
                result[y, x, c] = a + mix * (b - a)
