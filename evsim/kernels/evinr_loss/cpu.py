"""`evinr_loss` compiled for the CPU: one pass over the video gives the sums and the gradient.

The pass walks down the rows and, for each, through the frames: what a row needs (the same row of the
frames around, the rows above and below) is then in the first-level cache. A row of pixels and channels is one
run of numbers, in which the neighbour lies `channels` further.

The gradient is rounded as autograd rounds it, contribution by contribution: AdamW divides by the size of a
gradient, so that a rounding error where one is nearly zero would take a fit elsewhere within twenty steps.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from evsim.kernels.compiled import INLINE, LOOP
from evsim.kernels.evinr_loss.arguments import LossWeights, counts
from evsim.kernels.threads.bands import RowBands

_FAST = {"reassoc", "contract", "nsz", "arcp"}
"""Of the sums, which may be added up in any order."""
_TWO = np.float32(2)


def evinr_loss(video: Tensor, changes: Tensor, weights: LossWeights, gradient: Tensor) -> Tensor:
    """The terms (6,), the total first; the gradient by the video (F, H, W, C) is written to `gradient`."""
    frames, height, width, channels = video.shape
    row = width * channels
    arrays = [
        np.ascontiguousarray(tensor.detach().numpy()).reshape(-1, height, row) for tensor in (video, changes)
    ]
    written = gradient.detach().numpy().reshape(frames, height, row)
    means = video.detach().mean((1, 2, 3))
    row_count, column_count, difference_count = counts((frames, height, width, channels))
    kind = arrays[0].dtype.type
    one, spatial = kind(1), kind(weights.spatial)
    steps = np.array(
        [one / difference_count, spatial / difference_count, spatial / row_count, spatial / column_count],
        kind,
    )
    variance, push = _variance(means, weights.constant)
    push /= height * row
    sums = np.zeros((height, 4))
    scratch = np.empty((height, 2, row), kind)
    RowBands(torch.get_num_threads()).run(
        _rows, (height, row * frames), *arrays, written, push.numpy(), steps, channels, scratch, sums
    )
    temporal, differences, rows, columns = sums.sum(0) / (
        difference_count,
        difference_count,
        row_count,
        column_count,
    )
    total = temporal + weights.spatial * (rows + columns + differences) + weights.constant * variance
    terms = [total, temporal, rows, columns, differences, variance]
    return torch.tensor(terms, dtype=video.dtype)


def _variance(means: Tensor, weight: float) -> tuple[float, Tensor]:
    """The variance of the frames' means, and the gradient of its weighted value by them."""
    slope = 2.0 / (len(means) - 1) * torch.tensor(weight, dtype=means.dtype)
    return float(means.var()), slope * (means - means.mean())


@numba.njit(**LOOP)
def _rows(
    video: Any,
    changes: Any,
    gradient: Any,
    push: Any,
    steps: Any,
    channels: int,
    scratch: Any,
    sums: Any,
    top: int,
    end: int,
) -> None:
    """Rows top..end - 1 of the gradient, and the sums of the differences that begin in them.

    A neighbour that does not exist is the pixel itself: the difference 0 counts for nothing.
    """
    frames, height = video.shape[:2]
    for y in range(top, end):
        pull, still = scratch[y, 0], scratch[y, 1]
        pull[:] = 0
        still[:] = 0
        for f in range(frames):
            last = f == frames - 1
            _row(
                video[f, y],
                video[f, y] if last else video[f + 1, y],
                still if last else changes[f, y],
                video[f, max(0, y - 1)],
                video[f, min(height - 1, y + 1)],
                gradient[f, y],
                pull,
                push[f],
                steps,
                channels,
            )
            _add(video[f, y], video[min(frames - 1, f + 1), y], still if last else changes[f, y], sums[y])
            _add_neighbours(video[f, y], video[f, min(height - 1, y + 1)], channels, sums[y])


@numba.njit(**LOOP)
def _row(
    here: Any,
    later: Any,
    change: Any,
    above: Any,
    below: Any,
    gradient: Any,
    pull: Any,
    push: Any,
    steps: Any,
    channels: int,
) -> None:
    """One row of one frame; `pull` is what the difference to the frame before asks of it, then of the next.

    The contributions come in autograd's order, the last first. Several short loops, because one that writes
    and reads more arrays is not vectorised: too many could overlap.
    """
    # Read here once: inside a loop that writes they would be read anew each time.
    error_step, time_step, row_step, column_step = steps[0], steps[1], steps[2], steps[3]
    right, right_gradient = here[channels:], gradient[channels:]
    gradient[:] = push
    for x in range(len(right)):
        gradient[x] -= column_step * _sign(right[x] - here[x])
    for x in range(len(right)):
        right_gradient[x] += column_step * _sign(right[x] - here[x])
    for x in range(len(here)):
        gradient[x] -= row_step * _sign(below[x] - here[x])
    for x in range(len(here)):
        gradient[x] += row_step * _sign(here[x] - above[x])
    for x in range(len(here)):
        difference = later[x] - here[x]
        wanted = error_step * (_TWO * (difference - change[x])) + time_step * _sign(difference)
        gradient[x] = (gradient[x] - wanted) + pull[x]
        pull[x] = wanted


@numba.njit(**LOOP, fastmath=_FAST)
def _add(here: Any, later: Any, change: Any, sums: Any) -> None:
    """Count in the differences between two frames."""
    square = absolute = np.float32(0)
    for x in range(len(here)):
        difference = later[x] - here[x]
        error = difference - change[x]
        square += error * error
        absolute += abs(difference)
    sums[0] += square
    sums[1] += absolute


@numba.njit(**LOOP, fastmath=_FAST)
def _add_neighbours(here: Any, below: Any, channels: int, sums: Any) -> None:
    """Count in the differences to the row below and within the row."""
    down = along = np.float32(0)
    right = here[channels:]
    for x in range(len(here)):
        down += abs(below[x] - here[x])
    for x in range(len(right)):
        along += abs(right[x] - here[x])
    sums[2] += down
    sums[3] += along


@numba.njit(**INLINE)
def _sign(value: Any) -> Any:
    # Integers would make the products double precision.
    return np.float32(1) if value > 0 else (np.float32(-1) if value < 0 else np.float32(0))
