"""The definition of `voxelize` in numpy: every event against every bin's hat function."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    """Add the events to `out` in place, in the precision of `out`."""
    tau = (t.astype(np.float64) - start) * scale + offset
    on = p > 0
    for b in range(bins):
        weight = np.maximum(0.0, 1.0 - np.abs(tau - b)).astype(out.dtype)
        if split:
            np.add.at(out[b], (y[on], x[on]), weight[on])
            np.add.at(out[bins + b], (y[~on], x[~on]), weight[~on])
        else:
            np.add.at(out[b], (y, x), np.where(on, weight, -weight))
