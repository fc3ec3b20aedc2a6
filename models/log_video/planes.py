"""Colour planes of half a sensor's size, brought to its size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def enlarge_plane(plane: NDArray[np.float32], row: float, column: float) -> NDArray[np.float32]:
    """float32 (T, 2 H, 2 W) of (T, H, W): linear between its pixels, which are at (2 i + row, 2 j + column)
    of the result, held beyond them.
    """
    for axis, first in ((1, row), (2, column)):
        count = plane.shape[axis]
        position = np.clip((np.arange(2 * count) - first) / 2, 0, count - 1)
        before = np.minimum(position.astype(np.int64), max(count - 2, 0))
        after = np.minimum(before + 1, count - 1)
        shape = [1, 1, 1]
        shape[axis] = 2 * count
        share = (position - before).astype(np.float32).reshape(shape)
        plane = (1 - share) * plane.take(before, axis) + share * plane.take(after, axis)
    return plane
