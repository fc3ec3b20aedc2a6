"""The definition of `voxelize` in numpy: every event against every bin, and every pixel around it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.kernels.voxelize.arguments import Placement, PlaneLayout, named_planes, require_events


def voxelize(
    t: NDArray[Any],
    x: NDArray[Any],
    y: NDArray[Any],
    p: NDArray[Any],
    *,
    bins: int,
    ranges: NDArray[np.int64],
    placement: Placement,
    layout: PlaneLayout,
    out: NDArray[Any],
    accumulate: bool = False,
    **_: Any,
) -> None:
    """Write the events to `out` (planes, H, W) in place, in the precision of `out`."""
    require_events(t, x, y, ranges, (out.shape[2], out.shape[1]))
    if not accumulate:
        out[named_planes(len(ranges), bins, layout)] = 0
    for k, (first, last) in enumerate(ranges):
        window = slice(first, last)
        tau = placement.steps * (t[window] - placement.start[k]) / placement.duration[k] + placement.offset
        on = p[window] > 0
        sign = np.where(on | (layout.on != layout.off), 1.0, -1.0)
        for b in range(bins):
            weight = sign * _share(tau, b, bins, placement)
            planes = np.where(on, layout.on, layout.off) + k * layout.window + b * layout.bin
            for row, column, part in _pixels(x[window], y[window], out.shape[1:]):
                np.add.at(out, (planes, row, column), (weight * part).astype(out.dtype))


def _share(tau: NDArray[np.float64], b: int, bins: int, placement: Placement) -> NDArray[np.float64]:
    """What bin `b` gets of events at the bin coordinates `tau`."""
    floor = np.floor(tau)
    if placement.interpolation == "nearest":
        chosen = np.clip(floor, 0, bins - 1) if placement.edge == "clamp" else floor
        return (chosen == b).astype(np.float64)
    if placement.edge == "drop":
        return np.maximum(0.0, 1.0 - np.abs(tau - b))
    left = np.clip(floor, 0, bins - 1)
    right = np.minimum(left + 1, bins - 1)
    share = np.maximum(0.0, 1.0 - np.abs(left - tau))
    return np.where(left == b, share, 0.0) + np.where(right == b, 1.0 - share, 0.0)


def _pixels(
    x: NDArray[Any], y: NDArray[Any], size: tuple[int, ...]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Rows, columns and weights of the pixels that events at (x, y) are shared among."""
    if x.dtype.kind != "f":
        return [(y.astype(np.int64), x.astype(np.int64), np.ones(len(x)))]
    left, top = np.floor(x.astype(np.float64)), np.floor(y.astype(np.float64))
    corners = []
    for row in (top, top + 1):
        for column in (left, left + 1):
            inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
            weight = np.where(inside, (1 - np.abs(y - row)) * (1 - np.abs(x - column)), 0.0)
            v, i = (np.where(inside, place, 0).astype(np.int64) for place in (row, column))
            corners.append((v, i, weight))
    return corners
