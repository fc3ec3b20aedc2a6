"""`evinr_loss` in Triton, for CUDA tensors; with TRITON_INTERPRET=1 also for those of the CPU, slowly.

The mean of each frame is one reduction; one kernel then reads the video once for the sums and the gradient. A
program has a block of numbers of one frame; its sums are added up outside, in a fixed order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from evsim.kernels.evinr_loss.arguments import LossWeights, counts

BLOCK = 1024
"""Numbers per program."""


def evinr_loss(video: Tensor, changes: Tensor, weights: LossWeights, gradient: Tensor) -> Tensor:
    """The terms (6,), the total first; the gradient by the video (F, H, W, C) is written to `gradient`."""
    frames, height, width, channels = video.shape
    size = height * width * channels
    row_count, column_count, difference_count = counts((frames, height, width, channels))
    means = video.mean((1, 2, 3))
    push = (weights.constant * 2 / ((frames - 1) * size)) * (means - means.mean())
    blocks = triton.cdiv(size, BLOCK)
    sums = torch.empty((frames, blocks, 4), dtype=video.dtype, device=video.device)
    _sum_and_slope[(blocks, frames)](
        video.contiguous(), changes.contiguous(), gradient, push, sums,
        frames, size, width * channels, channels,
        2 / difference_count, weights.spatial / difference_count,
        weights.spatial / row_count, weights.spatial / column_count,
        BLOCK=BLOCK,
    )  # fmt: skip
    square, absolute, down, along = sums.sum((0, 1)).unbind()
    temporal, differences = square / difference_count, absolute / difference_count
    rows, columns = down / row_count, along / column_count
    variance = means.var()
    total = temporal + weights.spatial * (rows + columns + differences) + weights.constant * variance
    return torch.stack([total, temporal, rows, columns, differences, variance])


@triton.jit
def _sign(value):  # type: ignore[no-untyped-def]
    return tl.where(value > 0, 1.0, tl.where(value < 0, -1.0, 0.0))


@triton.jit
def _sum_and_slope(  # type: ignore[no-untyped-def]
    video_ptr, change_ptr, gradient_ptr, push_ptr, sums_ptr,
    frames, size, row, channels, error_step, time_step, row_step, column_step,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """A block of one frame. A neighbour that does not exist is the number itself: the difference is 0."""
    frame = tl.program_id(1)
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mine = cell < size
    number = tl.zeros((BLOCK,), tl.int32) + frame
    has_later = mine & (number < frames - 1)
    has_earlier = mine & (number > 0)
    column = cell % row
    here_ptr = video_ptr + frame.to(tl.int64) * size + cell
    here = tl.load(here_ptr, mask=mine, other=0.0)
    later = tl.load(here_ptr + size, mask=has_later, other=0.0)
    earlier = tl.load(here_ptr - size, mask=has_earlier, other=0.0)
    change = change_ptr + frame.to(tl.int64) * size + cell
    below = tl.load(here_ptr + row, mask=mine & (cell < size - row), other=0.0)
    above = tl.load(here_ptr - row, mask=mine & (cell >= row), other=0.0)
    right = tl.load(here_ptr + channels, mask=mine & (column < row - channels), other=0.0)
    left = tl.load(here_ptr - channels, mask=mine & (column >= channels), other=0.0)

    onward = tl.where(has_later, later - here, 0.0)
    error = onward - tl.load(change, mask=has_later, other=0.0)
    wanted = error_step * error + time_step * _sign(onward)
    back = tl.where(has_earlier, here - earlier, 0.0)
    back_error = back - tl.load(change - size, mask=has_earlier, other=0.0)
    to_below = tl.where(mine & (cell < size - row), below - here, 0.0)
    to_above = tl.where(mine & (cell >= row), here - above, 0.0)
    to_right = tl.where(mine & (column < row - channels), right - here, 0.0)
    to_left = tl.where(mine & (column >= channels), here - left, 0.0)
    slope = tl.load(push_ptr + frame) - wanted + error_step * back_error + time_step * _sign(back)
    slope += row_step * (_sign(to_above) - _sign(to_below))
    slope += column_step * (_sign(to_left) - _sign(to_right))
    tl.store(gradient_ptr + frame.to(tl.int64) * size + cell, slope, mask=mine)
    sums = sums_ptr + (frame * tl.num_programs(0) + tl.program_id(0)) * 4
    tl.store(sums, tl.sum(error * error, 0))
    tl.store(sums + 1, tl.sum(tl.abs(onward), 0))
    tl.store(sums + 2, tl.sum(tl.abs(to_below), 0))
    tl.store(sums + 3, tl.sum(tl.abs(to_right), 0))
