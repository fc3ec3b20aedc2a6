"""`voxelize` compiled for the CPU: one pass over the events, two additions each."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True)
def voxelize(
    t: NDArray[Any],
    x: NDArray[np.integer],
    y: NDArray[np.integer],
    p: NDArray[Any],
    bins: int,
    start: float,
    scale: float,
    offset: float,
    split: bool,
    out: NDArray[np.floating],
) -> None:
    """Add the events to `out` in place; the arithmetic of tau is float64, the sum that of `out`."""
    for i in range(t.shape[0]):
        tau = (t[i] - start) * scale + offset
        lower = int(np.floor(tau))
        fraction = tau - lower
        on = p[i] > 0
        sign = 1.0 if on or split else -1.0
        base = bins if split and not on else 0
        if 0 <= lower < bins:
            out[base + lower, y[i], x[i]] += sign * (1.0 - fraction)
        if 0 <= lower + 1 < bins:
            out[base + lower + 1, y[i], x[i]] += sign * fraction
