"""The convex problem of a window of events, and the splitting that solves it.

Of a video V (T, H, W) of log intensity and the events' levels S, with d = V - S, minimise

    mean h(|grad V|) + fidelity mean (d - mean_t d)^2 + smoothness mean (d_{k+1} - d_k)^2

where h is Huber's function (quadratic below `softening`, linear above) of the spatial gradient: total
variation that does not make stairs. The temporal mean of d is the image that events cannot see; its total
variation chooses it. All terms are diagonal under cosine transforms but h, which is split off (ADMM): an
iteration is one transform there and back, and one pass over the gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from evsim.kernels.compiled import LOOP
from evsim.models.log_video.initial_image import second_difference

COUPLING = 8.0
"""Weight of the split; any value has the same solution, this one is near it after 20 iterations."""
RELAXATION = 1.6


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Of the terms, for log intensity in units of a contrast threshold of 0.25."""

    fidelity: float
    smoothness: float
    softening: float


def solve(levels: NDArray[np.float32], weights: Weights, iterations: int) -> NDArray[np.float32]:
    """float32 (T, H, W) of mean 0: the video that minimises the energy for `levels` (T, H, W)."""
    count, height, width = levels.shape
    temporal = 2.0 * (weights.fidelity + weights.smoothness * second_difference(count))
    temporal[0] = 0.0
    spatial = COUPLING * (second_difference(height)[:, None] + second_difference(width))
    divisor = temporal[:, None, None] + spatial
    # The energy does not see the level of the whole video; it is 0.
    divisor[0, 0, 0] = 1.0
    wanted = temporal[:, None, None] * fft.dctn(levels, norm="ortho")
    video = levels - levels.mean(0)
    # The split gradients minus their multipliers and the multipliers themselves, rows and columns.
    split = np.zeros((2, *levels.shape), np.float32)
    multiplier = np.zeros((2, *levels.shape), np.float32)
    divergence = np.empty_like(levels)
    _first_split(video, split)
    for _ in range(iterations):
        _divergence(split, multiplier, divergence)
        spectrum = fft.dctn(divergence, norm="ortho", overwrite_x=True)
        spectrum *= -COUPLING
        spectrum += wanted
        spectrum /= divisor
        video = fft.idctn(spectrum, norm="ortho", overwrite_x=True)
        _shrink(video, split, multiplier, 1.0 / COUPLING, weights.softening)
    return np.asarray(video, np.float32)


def energy(video: NDArray[np.float32], levels: NDArray[np.float32], weights: Weights) -> float:
    """What `solve` minimises."""
    rows, columns = np.zeros_like(video), np.zeros_like(video)
    rows[:, :-1], columns[:, :, :-1] = np.diff(video, axis=1), np.diff(video, axis=2)
    length = np.hypot(rows, columns)
    small = length <= weights.softening
    bent = np.where(small, length**2 / (2 * weights.softening), length - weights.softening / 2)
    apart = video - levels
    residual = apart - apart.mean(0)
    # Both quadratic terms are means over all T frames, as the transform has them.
    change = np.diff(residual, axis=0) ** 2
    return float(
        bent.mean()
        + weights.fidelity * np.mean(residual**2)
        + weights.smoothness * change.sum() / residual.size
    )


@numba.njit(**LOOP)
def _first_split(
    video: NDArray[np.float32], split: NDArray[np.float32]
) -> None:  # pragma: no cover - compiled
    count, height, width = video.shape
    for k in range(count):
        for y in range(height):
            for x in range(width):
                if y + 1 < height:
                    split[0, k, y, x] = video[k, y + 1, x] - video[k, y, x]
                if x + 1 < width:
                    split[1, k, y, x] = video[k, y, x + 1] - video[k, y, x]


@numba.njit(**LOOP)
def _divergence(
    split: NDArray[np.float32], multiplier: NDArray[np.float32], out: NDArray[np.float32]
) -> None:  # pragma: no cover - compiled
    """Divergence of (split - multiplier), minus the adjoint of the gradient."""
    count, height, width = out.shape
    for k in range(count):
        for y in range(height):
            for x in range(width):
                value = np.float32(0.0)
                if y + 1 < height:
                    value += split[0, k, y, x] - multiplier[0, k, y, x]
                if y > 0:
                    value -= split[0, k, y - 1, x] - multiplier[0, k, y - 1, x]
                if x + 1 < width:
                    value += split[1, k, y, x] - multiplier[1, k, y, x]
                if x > 0:
                    value -= split[1, k, y, x - 1] - multiplier[1, k, y, x - 1]
                out[k, y, x] = value


@numba.njit(**LOOP)
def _shrink(
    video: NDArray[np.float32],
    split: NDArray[np.float32],
    multiplier: NDArray[np.float32],
    step: float,
    softening: float,
) -> None:  # pragma: no cover - compiled
    """Relaxed gradients to the proximal map of Huber's function, and the multipliers' update."""
    count, height, width = video.shape
    relax, keep = np.float32(RELAXATION), np.float32(1.0 - RELAXATION)
    inner = np.float32(softening / (softening + step))
    edge, length_step = np.float32(softening + step), np.float32(step)
    for k in range(count):
        for y in range(height):
            for x in range(width):
                row = np.float32(0.0) if y + 1 >= height else video[k, y + 1, x] - video[k, y, x]
                column = np.float32(0.0) if x + 1 >= width else video[k, y, x + 1] - video[k, y, x]
                row = relax * row + keep * split[0, k, y, x] + multiplier[0, k, y, x]
                column = relax * column + keep * split[1, k, y, x] + multiplier[1, k, y, x]
                length = np.sqrt(row * row + column * column)
                share = inner if length <= edge else np.float32(1.0) - length_step / length
                split[0, k, y, x] = row * share
                split[1, k, y, x] = column * share
                multiplier[0, k, y, x] = row - row * share
                multiplier[1, k, y, x] = column - column * share
