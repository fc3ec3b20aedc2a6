"""`voxelize` in Triton, for CUDA tensors; with TRITON_INTERPRET=1 also for those of the CPU, slowly.

By default every event is one lane that adds with atomics, so that sums differ in the last bits from run to
run. The deterministic form sorts the events by pixel first; one lane then walks through all events of a pixel
in order of time and adds them to the grid one by one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from evsim.errors import BackendError, InputError
from evsim.kernels.voxelize.arguments import Placement, PlaneLayout, named_planes, require_events

BLOCK = 1024
"""Events per program of the atomic form."""
LANES = 128
"""Pixels per program of the deterministic form: one for each thread of four warps, none twice."""
EXACT = {"enable_fp_fusion": False}
"""Options of both kernels: multiply and add round apart, as they do on a CPU."""


class Contributions(NamedTuple):
    """Events in order of the pixels they add to, for the deterministic form."""

    event: Tensor
    """int64 (M,): index of the event."""
    weight: Tensor
    """float64 (M,): its share of the pixel."""
    pixel: Tensor
    """int64 (R,): (window, row, column) of each run of equal pixels as one number."""
    begin: Tensor
    """int64 (R + 1,): where the runs begin and the last one ends."""


def voxelize(
    t: Any,
    x: Any,
    y: Any,
    p: Any,
    *,
    bins: int,
    ranges: NDArray[np.int64],
    placement: Placement,
    layout: PlaneLayout,
    out: Any,
    accumulate: bool = False,
    deterministic: bool = False,
    **_: Any,
) -> None:
    """Write the events to `out` (planes, H, W) in place; numpy arrays travel to the GPU and back.

    Raises BackendError without a GPU, InputError for unsorted or outside events.
    """
    device = _device(t)
    columns = tuple(_tensor(column, device).contiguous() for column in (t, x, y, p))
    grid = _tensor(out, device)
    if not accumulate:
        planes = named_planes(len(ranges), bins, layout)
        if len(planes) == len(grid):
            grid.zero_()
        else:
            grid[torch.from_numpy(planes).to(device)] = 0
    counts = ranges[:, 1] - ranges[:, 0]
    longest = int(counts.max()) if len(counts) else 0
    if longest:
        plain, options = _arguments(bins, placement, layout, grid)
        limits = torch.from_numpy(np.ascontiguousarray(ranges)).to(device)
        # The constants of the rule travel with the times: plain floats would become single precision.
        constants = np.empty((len(ranges), 4))
        constants[:, 0], constants[:, 1] = placement.start, placement.duration
        constants[:, 2:] = placement.steps, placement.offset
        times = torch.from_numpy(constants).to(device)
        wrong = torch.zeros(1, dtype=torch.int32, device=device)
        shape = (triton.cdiv(longest, BLOCK), len(ranges))
        _scatter[shape](
            *columns, limits, times, grid, wrong, *plain, **options, ADD=not deterministic, BLOCK=BLOCK
        )
        if int(wrong):
            t, x, y = (column.cpu().numpy() for column in columns[:3])
            require_events(t, x, y, ranges, (grid.shape[2], grid.shape[1]))
            raise InputError("the times of the events are not numbers")
        if deterministic:
            runs = _runs(columns[1], columns[2], ranges, (grid.shape[1], grid.shape[2]))
            _walk[(triton.cdiv(len(runs.pixel), LANES),)](
                columns[0], columns[3], *runs, len(runs.pixel), times, grid, *plain, **options, LANES=LANES
            )
    if isinstance(out, np.ndarray):
        if device.type != "cpu":
            out[...] = grid.cpu().numpy()
    elif grid is not out:
        out.copy_(grid)


def _device(t: Any) -> torch.device:
    if isinstance(t, Tensor) and t.is_cuda:
        return t.device
    if isinstance(_scatter, InterpretedFunction):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BackendError(
            "backend 'gpu' of voxelize cannot run here: torch finds no CUDA device; leave the backend to the "
            "device of the events, or set TRITON_INTERPRET=1 to try the kernel slowly on the CPU"
        )
    return torch.device("cuda")


def _tensor(array: Any, device: torch.device) -> Tensor:
    return (array if isinstance(array, Tensor) else torch.from_numpy(array)).to(device)


def _arguments(
    bins: int, placement: Placement, layout: PlaneLayout, grid: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What both kernels are told about the rule and the output."""
    plain = (
        bins, grid.shape[1], grid.shape[2],
        layout.window, layout.bin, layout.on, layout.off,
    )  # fmt: skip
    return plain, {
        "LINEAR": placement.interpolation == "linear",
        "CLAMP": placement.edge == "clamp",
        "SIGNED": layout.on == layout.off,
        **EXACT,
    }


def _runs(x: Tensor, y: Tensor, ranges: NDArray[np.int64], size: tuple[int, int]) -> Contributions:
    """The events of all windows, once for each pixel they add to, sorted by window and pixel."""
    device = x.device
    first = torch.from_numpy(ranges[:, 0].copy()).to(device)
    counts = torch.from_numpy(ranges[:, 1] - ranges[:, 0]).to(device)
    window = torch.repeat_interleave(torch.arange(len(ranges), device=device), counts)
    event = torch.arange(len(window), device=device) + (first - (counts.cumsum(0) - counts))[window]
    weight = torch.ones(len(window), dtype=torch.float64, device=device)
    if x.is_floating_point():
        column, row = x.double()[event], y.double()[event]
        left, top = column.floor(), row.floor()
        columns, rows = torch.cat([left, left + 1] * 2), torch.cat([top, top, top + 1, top + 1])
        weight = (1 - (rows - row.repeat(4)).abs()) * (1 - (columns - column.repeat(4)).abs())
        inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
        event, window, weight = event.repeat(4)[inside], window.repeat(4)[inside], weight[inside]
        columns, rows = columns[inside].long(), rows[inside].long()
    else:
        columns, rows = x.long()[event], y.long()[event]
    key, order = torch.sort((window * size[0] + rows) * size[1] + columns, stable=True)
    if x.is_floating_point():
        # The corners were listed one after the other: bring the events of a pixel back in order of time.
        again = torch.sort(event[order], stable=True).indices
        order = order[again][torch.sort(key[again], stable=True).indices]
    pixel, lengths = torch.unique_consecutive(key, return_counts=True)
    begin = torch.cat([torch.zeros(1, dtype=torch.int64, device=device), lengths.cumsum(0)])
    return Contributions(event[order].contiguous(), weight[order].contiguous(), pixel, begin)


@triton.jit
def _shares(time, start, duration, steps, offset, bins, LINEAR: tl.constexpr, CLAMP: tl.constexpr):  # type: ignore[no-untyped-def]
    """Left bin, right bin and the shares of both; a bin beside 0..bins-1 is -1."""
    tau = steps * (time.to(tl.float64) - start) / duration + offset
    low = tl.floor(tau)
    low = tl.minimum(
        tl.maximum(low, -2.0), bins * 1.0
    )  # far away is left out as well; keeps the cast defined
    right = tau - low
    b = low.to(tl.int32)
    if LINEAR:
        if CLAMP:
            before = b < 0
            last = b >= bins - 1
            share = tl.where(before, tl.minimum(1.0, -tau), tl.where(last, 0.0, right))
            a = tl.minimum(tl.maximum(b, 0), bins - 1)
            c = tl.minimum(a + 1, bins - 1)
            return a, c, 1.0 - share, share
        a = tl.where((b >= 0) & (b < bins), b, -1)
        c = tl.where((b + 1 >= 0) & (b + 1 < bins), b + 1, -1)
        return a, c, 1.0 - right, right
    if CLAMP:
        b = tl.minimum(tl.maximum(b, 0), bins - 1)
    a = tl.where((b >= 0) & (b < bins), b, -1)
    return a, tl.full(a.shape, -1, tl.int32), 0.0 * right + 1.0, 0.0 * right


@triton.jit
def _scatter(  # type: ignore[no-untyped-def]
    t_ptr, x_ptr, y_ptr, p_ptr, limit_ptr, time_ptr, out_ptr, wrong_ptr,
    bins, height, width, window_step, bin_step, on_plane, off_plane,
    LINEAR: tl.constexpr, CLAMP: tl.constexpr, SIGNED: tl.constexpr, ADD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A block of events of one window; without ADD they are only checked."""
    window = tl.program_id(1).to(tl.int64)
    first = tl.load(limit_ptr + 2 * window)
    last = tl.load(limit_ptr + 2 * window + 1)
    start = tl.load(time_ptr + 4 * window)
    duration = tl.load(time_ptr + 4 * window + 1)
    steps = tl.load(time_ptr + 4 * window + 2)
    offset = tl.load(time_ptr + 4 * window + 3)
    event = first + tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = event < last
    time = tl.load(t_ptr + event, mask=mask, other=0)
    x = tl.load(x_ptr + event, mask=mask, other=0)
    y = tl.load(y_ptr + event, mask=mask, other=0)
    on = tl.load(p_ptr + event, mask=mask, other=0).to(tl.int32) > 0
    earlier = tl.load(t_ptr + event - 1, mask=mask & (event > first), other=0)
    ordered = (event <= first) | (earlier <= time)
    subpixel: tl.constexpr = x.dtype.is_floating()
    if subpixel:
        inside = (x > -1) & (x < width) & (y > -1) & (y < height)
    else:
        x = x.to(tl.int64)
        y = y.to(tl.int64)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    bad = tl.sum((mask & ~(inside & ordered)).to(tl.int32), 0)
    if bad > 0:
        tl.atomic_add(wrong_ptr, bad)
    if ADD:
        mask = mask & inside
        a, c, left, right = _shares(time, start, duration, steps, offset, bins, LINEAR, CLAMP)
        if SIGNED:
            left = tl.where(on, left, -left)
            right = tl.where(on, right, -right)
        plane = window * window_step + tl.where(on, on_plane, off_plane)
        kind = out_ptr.dtype.element_ty
        if subpixel:
            x = tl.where(inside, x, 0).to(tl.float64)
            y = tl.where(inside, y, 0).to(tl.float64)
            column = tl.floor(x)
            row = tl.floor(y)
            along = x - column
            down = y - row
            for corner in tl.static_range(4):
                i = column.to(tl.int64) + corner % 2
                v = row.to(tl.int64) + corner // 2
                share = (along if corner % 2 else 1.0 - along) * (down if corner // 2 else 1.0 - down)
                ok = mask & (i >= 0) & (i < width) & (v >= 0) & (v < height)
                cell = v * width + i
                to_a = out_ptr + (plane + a * bin_step) * height * width + cell
                to_c = out_ptr + (plane + c * bin_step) * height * width + cell
                tl.atomic_add(to_a, (left * share).to(kind), mask=ok & (a >= 0))
                if LINEAR:
                    tl.atomic_add(to_c, (right * share).to(kind), mask=ok & (c >= 0))
        else:
            cell = y * width + x
            to_a = out_ptr + (plane + a * bin_step) * height * width + cell
            to_c = out_ptr + (plane + c * bin_step) * height * width + cell
            tl.atomic_add(to_a, left.to(kind), mask=mask & (a >= 0))
            if LINEAR:
                tl.atomic_add(to_c, right.to(kind), mask=mask & (c >= 0))


@triton.jit
def _walk(  # type: ignore[no-untyped-def]
    t_ptr, p_ptr, event_ptr, weight_ptr, pixel_ptr, begin_ptr, runs, time_ptr, out_ptr,
    bins, height, width, window_step, bin_step, on_plane, off_plane,
    LINEAR: tl.constexpr, CLAMP: tl.constexpr, SIGNED: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Each lane adds the events of one pixel of one window, in their order."""
    run = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    mine = run < runs
    pixel = tl.load(pixel_ptr + run, mask=mine, other=0)
    begin = tl.load(begin_ptr + run, mask=mine, other=0)
    count = tl.load(begin_ptr + run + 1, mask=mine, other=0) - begin
    area = tl.cast(height, tl.int64) * width
    window = pixel // area
    cell = pixel % area
    start = tl.load(time_ptr + 4 * window, mask=mine, other=0.0)
    duration = tl.load(time_ptr + 4 * window + 1, mask=mine, other=1.0)
    steps = tl.load(time_ptr + 4 * window + 2, mask=mine, other=0.0)
    offset = tl.load(time_ptr + 4 * window + 3, mask=mine, other=0.0)
    kind = out_ptr.dtype.element_ty
    for k in range(tl.max(count, 0)):
        mask = mine & (k < count)
        event = tl.load(event_ptr + begin + k, mask=mask, other=0)
        weight = tl.load(weight_ptr + begin + k, mask=mask, other=0.0)
        time = tl.load(t_ptr + event, mask=mask, other=0)
        on = tl.load(p_ptr + event, mask=mask, other=0).to(tl.int32) > 0
        a, c, left, right = _shares(time, start, duration, steps, offset, bins, LINEAR, CLAMP)
        if SIGNED:
            weight = tl.where(on, weight, -weight)
        plane = window * window_step + tl.where(on, on_plane, off_plane)
        to_a = out_ptr + (plane + a * bin_step) * area + cell
        sum_a = tl.load(to_a, mask=mask & (a >= 0), other=0) + (left * weight).to(kind)
        tl.store(to_a, sum_a, mask=mask & (a >= 0))
        if LINEAR:
            to_c = out_ptr + (plane + c * bin_step) * area + cell
            sum_c = tl.load(to_c, mask=mask & (c >= 0), other=0) + (right * weight).to(kind)
            tl.store(to_c, sum_c, mask=mask & (c >= 0))
