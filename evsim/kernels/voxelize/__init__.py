"""Events to bins of time, each event shared linearly between the two bins it lies between."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.kernels.backend import load_backend

BACKENDS = {"cpu": "evsim.kernels.voxelize.cpu", "reference": "evsim.kernels.voxelize.reference"}


def voxelize(
    t: NDArray[Any],
    x: NDArray[Any],
    y: NDArray[Any],
    p: NDArray[Any],
    *,
    bins: int,
    height: int,
    width: int,
    start: float,
    scale: float,
    offset: float = 0.0,
    split: bool = False,
    backend: str | None = None,
    out: NDArray[np.floating] | None = None,
) -> NDArray[np.floating]:
    """Voxel grid of bins x height x width: out[b, y, x] += sign max(0, 1 - abs(tau - b)).

    t: times, any number type; the bin coordinate is tau = (t - start) * scale + offset, and what falls on
    bins outside 0..bins-1 is left out. x, y: integer pixels inside the grid (not checked here). p > 0 is ON.
    split: ON events add 1 to the first `bins` channels and OFF events add 1 to the next; otherwise
    ON adds 1 and OFF subtracts 1. out: zeroed or partial array to add to, float32 by default; its dtype is
    that of the sum. backend: "cpu" or "reference", else EVSIM_BACKEND, else cpu. Raises BackendError.
    """
    channels = 2 * bins if split else bins
    grid = np.zeros((channels, height, width), np.float32) if out is None else out
    if grid.shape != (channels, height, width):
        raise ValueError(f"out has shape {grid.shape}, expected {(channels, height, width)}")
    implementation = load_backend("voxelize", BACKENDS, backend, "cpu")
    implementation(t, x, y, p, bins, start, scale, offset, split, grid)
    return grid
