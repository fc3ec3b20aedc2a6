"""Voxel grids brought to a common scale, as published networks expect them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from evsim.registry import Registry
from evsim.represent.arrays import is_tensor

NORMALIZATIONS: Registry[Callable[[Any], Any]] = Registry("normalization")
"""Name -> function of one voxel grid of any shape; the result is of the same kind and dtype."""


def normalize(grid: Any, name: str, *, out: Any = None) -> Any:
    """One voxel grid (all its bins together) normalised by a named rule.

    With v the entries that are not 0, n their number, m and s their mean and standard deviation, every entry
    that is not 0 becomes

    - "nonzero": (v - m) / s, s with divisor n (E2VID, NER-Net); v - m where s is 0 (published: NaN)
    - "evreal": (v - m) / max(s, 1e-6), s with divisor n (EVREAL)
    - "dsec": (v - m) / s, s with divisor n - 1; v - m where s is 0 or n is 1 (DSEC)

    and "robust" clips all entries to the order statistics 0 % and 95 %, hi = value 1 + round(0.95 (N - 1))
    of the N entries, and gives (v - min) / (max + 1e-6) over all entries; a grid of zeros stays as it is
    (E2VID+). "none" changes nothing. out: where to write, may be `grid`. Raises InputError for other names.
    """
    result = NORMALIZATIONS[name](grid)
    if out is None:
        return result
    out[...] = result
    return out


@NORMALIZATIONS.register("none")
def _none(grid: Any) -> Any:
    return grid


@NORMALIZATIONS.register("nonzero")
def _nonzero(grid: Any) -> Any:
    return _standardize(grid, 0, 0.0)


@NORMALIZATIONS.register("evreal")
def _evreal(grid: Any) -> Any:
    return _standardize(grid, 0, 1e-6)


@NORMALIZATIONS.register("dsec")
def _dsec(grid: Any) -> Any:
    return _standardize(grid, 1, 0.0)


@NORMALIZATIONS.register("robust")
def _robust(grid: Any) -> Any:
    size = int(np.prod(grid.shape))
    if not size:
        return grid
    rank = round(0.95 * (size - 1))
    flat = grid.reshape(-1)
    high = float(flat.kthvalue(rank + 1).values) if is_tensor(grid) else float(np.partition(flat, rank)[rank])
    low = float(grid.min())
    if low == 0 and high == 0:
        return grid
    clipped = grid.clip(low, high)
    return (clipped - clipped.min()) / (clipped.max() + 1e-6)


def _standardize(grid: Any, missing: int, floor: float) -> Any:
    """Zero mean and unit deviation of the entries that are not 0; sums in float64."""
    library = sys.modules["torch"] if is_tensor(grid) else np
    mask = grid != 0
    values = grid[mask]
    count = len(values)
    if not count:
        return grid
    mean = float(library.sum(values, dtype=library.float64)) / count
    spread = float(library.sum((values - mean) ** 2, dtype=library.float64))
    deviation = max((spread / max(1, count - missing)) ** 0.5, floor)
    result = library.zeros_like(grid)
    result[mask] = (values - mean) / (deviation if deviation > 0 else 1.0)
    return result
