"""The compiled loops of `voxelize` on a CPU.

Events come in order of time, so a window is cut once at the borders of its bins; between two borders only two
planes are written, and neither a floor nor a branch is needed. Blocks of events go through loops that are
vectorised (order, bounds, weights, pixel index) and then through one that adds to the planes. Where an
interval holds an event or more a pixel, both planes are kept side by side in memory while it lasts, so that
an event costs one access and not two.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from evsim.kernels.compiled import LOOP
from evsim.kernels.voxelize.intervals import bin_of, next_border

BLOCK = 2048
"""Events per block: index and two weights of each fit the first-level cache beside the planes' lines."""

OUTSIDE, UNSORTED, NO_TIME = 1, 2, 3
"""What is wrong with a window, in place of the 0 of success."""

_LONGEST = 2**31
_FAST = {"contract", "nsz", "arcp"}


@numba.njit(**LOOP)
def windows(
    t: NDArray[Any],
    x: NDArray[Any],
    y: NDArray[Any],
    p: NDArray[Any],
    ranges: NDArray[np.int64],
    starts: NDArray[np.float64],
    durations: NDArray[np.float64],
    begin: int,
    end: int,
    rule: Any,
    shape: Any,
    layout: Any,
    accumulate: bool,
    subpixel: Any,
    index: NDArray[np.uint32],
    weights: NDArray[Any],
    pairs: NDArray[Any],
    out: NDArray[Any],
) -> int:
    """Windows begin..end, each with planes of its own; returns 0 or what is wrong with one. See `window`."""
    for k in range(begin, end):
        status = window(
            t, x, y, p, ranges[k, 0], ranges[k, 1], starts[k], durations[k], rule, shape, layout, k,
            0, shape[0], accumulate, subpixel, index, weights, pairs, out,
        )  # fmt: skip
        if status:
            return status
    return 0


@numba.njit(**LOOP)
def window(
    t: NDArray[Any],
    x: NDArray[Any],
    y: NDArray[Any],
    p: NDArray[Any],
    first: int,
    last: int,
    start: float,
    duration: float,
    rule: Any,
    shape: Any,
    layout: Any,
    number: int,
    clear_from: int,
    clear_to: int,
    accumulate: bool,
    subpixel: Any,
    index: NDArray[np.uint32],
    weights: NDArray[Any],
    pairs: NDArray[Any],
    out: NDArray[Any],
) -> int:
    """Add events first..last to their bins; returns 0 or what is wrong.

    rule: (steps, offset, linear, clamp, times are whole numbers). shape: (bins, width, height). layout: as
    `PlaneLayout`; number: of the window. Bins clear_from..clear_to are set to zero just before they are
    needed, so that they are still in cache. subpixel: True, or None for whole pixels (so that the compiler
    leaves out the other branch). index, weights: room for BLOCK events; weights holds two each. pairs: two
    zeros for each pixel of the planes that one bin has, and left so; or shorter, for none.
    """
    if not duration > 0:
        return NO_TIME
    bins, width, height = shape
    linear, clamp, whole = rule[2], rule[3], rule[4]
    plane = width * height
    low_side = min(layout[2], layout[3])
    on_shift, off_shift = (layout[2] - low_side) * plane, (layout[3] - low_side) * plane
    sides = 1 if on_shift == off_shift else 2
    base = (number * layout[0] + low_side) * plane
    step = layout[1] * plane
    reach = plane + max(on_shift, off_shift)
    left, right = weights[:BLOCK], weights[BLOCK : 2 * BLOCK]
    cleared = bins if accumulate else clear_from
    position, before = first, -2
    while position < last:
        b = bin_of(t[position], start, duration, rule, bins)
        stop = last if b >= bins else next_border(t, position, last, start, duration, rule, bins, b)
        if b < before or bin_of(t[stop - 1], start, duration, rule, bins) != b:
            return UNSORTED
        before = b
        # Bins a and c get (1 - f) and f, with f linear in time; equal bins get all of it.
        f0 = rule[0] * (t[position] - start) / duration + rule[1] - b
        slope = rule[0] / duration
        a, c = b, b + 1
        if not linear:
            a = c = min(max(b, 0), bins - 1) if clamp else b
        elif clamp and b < 0:
            a, c = 0, min(1, bins - 1)
            f0, slope = (1.0 - f0, -slope) if b == -1 else (1.0, 0.0)
        elif clamp and c > bins - 1:
            a = c = bins - 1
        in_a, in_c = 0 <= a < bins, 0 <= c < bins
        paired = subpixel is None and in_a and in_c and a != c and stop - position >= plane * sides
        paired = paired and pairs.shape[0] >= 2 * plane * sides
        while cleared < min(a if paired else c + 1, clear_to):
            _clear(out, base + cleared * step, plane, on_shift, off_shift)
            cleared += 1
        low, high = base + (a if in_a else 0) * step, base + (c if in_c else 0) * step
        target_a, target_c = out[low : low + reach], out[high : high + reach]
        for i in range(position, stop, BLOCK):
            j = min(i + BLOCK, stop)
            if i > first and not t[i - 1] <= t[i]:
                return UNSORTED
            if _out_of_order(t[i:j], whole):
                return UNSORTED
            if subpixel is None:
                if _outside(x[i:j], y[i:j], width, height):
                    return OUTSIDE
            elif _beside(x[i:j], y[i:j], width, height):
                return OUTSIDE
            short = whole and t[stop - 1] - t[position] < _LONGEST
            _weigh(t[i:j], p[i:j], t[position], f0, slope, sides, short, left, right)
            if a == c and in_a:
                _join(left[: j - i], right)
            if sides == 1:
                index[: j - i] = 0
            elif paired:
                _choose(p[i:j], np.uint32(0), np.uint32(plane), index)
            else:
                _choose(p[i:j], np.uint32(on_shift), np.uint32(off_shift), index)
            if subpixel is None:
                _locate(x[i:j], y[i:j], np.uint32(width), index)
                if paired:
                    _add_side_by_side(index[: j - i], left, right, pairs)
                elif in_a and in_c and a != c:
                    _add_pair(index[: j - i], left, right, target_a, target_c)
                elif in_a:
                    _add(index[: j - i], left, target_a)
                elif in_c:
                    _add(index[: j - i], right, target_c)
            else:
                _add_shared(
                    x[i:j],
                    y[i:j],
                    index,
                    left,
                    right,
                    width,
                    height,
                    in_a,
                    in_c and a != c,
                    target_a,
                    target_c,
                )
        if paired:
            for side in range(sides):
                shift = on_shift if side == 0 else off_shift
                _part(
                    pairs[2 * plane * side : 2 * plane * (side + 1)],
                    target_a[shift : shift + plane],
                    target_c[shift : shift + plane],
                    cleared <= a < clear_to,
                    cleared <= c < clear_to,
                )
            cleared = max(cleared, min(c + 1, clear_to))
        position = stop
    while cleared < clear_to:
        _clear(out, base + cleared * step, plane, on_shift, off_shift)
        cleared += 1
    return 0


@numba.njit(**LOOP)
def _clear(out: NDArray[Any], begin: int, plane: int, on_shift: int, off_shift: int) -> None:
    out[begin + on_shift : begin + on_shift + plane] = 0
    if on_shift != off_shift:
        out[begin + off_shift : begin + off_shift + plane] = 0


@numba.njit(**LOOP)
def _out_of_order(t: NDArray[Any], whole: bool) -> bool:
    if whole:  # one negative difference leaves the sign bit; cheaper than a comparison each
        differences = np.int64(0)
        for k in range(1, t.shape[0]):
            differences |= np.int64(t[k]) - np.int64(t[k - 1])
        return differences < 0
    ordered = 0
    for k in range(1, t.shape[0]):
        ordered += t[k - 1] <= t[k]
    return ordered != t.shape[0] - 1


@numba.njit(**LOOP)
def _outside(x: NDArray[Any], y: NDArray[Any], width: int, height: int) -> bool:
    left, right, top, bottom = x[0], x[0], y[0], y[0]
    for k in range(x.shape[0]):
        left, right = min(left, x[k]), max(right, x[k])
    for k in range(y.shape[0]):
        top, bottom = min(top, y[k]), max(bottom, y[k])
    return left < 0 or right >= width or top < 0 or bottom >= height


@numba.njit(**LOOP)
def _beside(x: NDArray[Any], y: NDArray[Any], width: int, height: int) -> bool:
    inside = 0
    for k in range(x.shape[0]):
        inside += (x[k] > -1) & (x[k] < width) & (y[k] > -1) & (y[k] < height)
    return inside != x.shape[0]


@numba.njit(**LOOP, fastmath=_FAST)
def _weigh(
    t: NDArray[Any],
    p: NDArray[Any],
    t0: Any,
    f0: float,
    slope: float,
    sides: int,
    short: bool,
    left: NDArray[Any],
    right: NDArray[Any],
) -> None:
    """left, right: (1 - f) and f with the sign of the event; signs only where both polarities share a plane.

    short: whole times of less than 2^31 in all, which processors convert many at once.
    """
    # Through memory to the precision of `out`.
    left[0], right[0] = 1, -1 if sides == 1 else 1
    one, off_sign = left[0], right[0]
    left[0], right[0] = f0, slope
    begin, rise = left[0], right[0]
    if short:
        for k in range(t.shape[0]):
            right[k] = np.int32(t[k] - t0)
            sign = one if p[k] > 0 else off_sign
            share = (right[k] * rise + begin) * sign
            left[k] = sign - share
            right[k] = share
    else:
        for k in range(t.shape[0]):
            right[k] = t[k] - t0
            sign = one if p[k] > 0 else off_sign
            share = (right[k] * rise + begin) * sign
            left[k] = sign - share
            right[k] = share


@numba.njit(**LOOP)
def _join(left: NDArray[Any], right: NDArray[Any]) -> None:
    for k in range(left.shape[0]):
        left[k] += right[k]


@numba.njit(**LOOP)
def _choose(p: NDArray[Any], on_shift: Any, off_shift: Any, index: NDArray[np.uint32]) -> None:
    for k in range(p.shape[0]):
        index[k] = on_shift if p[k] > 0 else off_shift


@numba.njit(**LOOP)
def _locate(x: NDArray[Any], y: NDArray[Any], width: Any, index: NDArray[np.uint32]) -> None:
    for k in range(x.shape[0]):
        index[k] += np.uint32(y[k]) * width + np.uint32(x[k])


@numba.njit(**LOOP)
def _add(index: NDArray[np.uint32], weight: NDArray[Any], target: NDArray[Any]) -> None:
    for k in range(index.shape[0]):
        target[index[k]] += weight[k]


@numba.njit(**LOOP)
def _add_pair(
    index: NDArray[np.uint32],
    left: NDArray[Any],
    right: NDArray[Any],
    target_a: NDArray[Any],
    target_c: NDArray[Any],
) -> None:
    for k in range(index.shape[0]):
        target_a[index[k]] += left[k]
        target_c[index[k]] += right[k]


@numba.njit(**LOOP)
def _add_side_by_side(
    index: NDArray[np.uint32], left: NDArray[Any], right: NDArray[Any], pairs: NDArray[Any]
) -> None:
    for k in range(index.shape[0]):
        i = 2 * np.int64(index[k])
        # Both are read before either is written, so that the compiler may treat them as one.
        a, c = pairs[i] + left[k], pairs[i + 1] + right[k]
        pairs[i], pairs[i + 1] = a, c


@numba.njit(**LOOP)
def _part(
    pairs: NDArray[Any], target_a: NDArray[Any], target_c: NDArray[Any], fresh_a: bool, fresh_c: bool
) -> None:
    """Bring the sums of an interval to their planes, of which a fresh one still holds nonsense."""
    if fresh_a:
        target_a[:] = 0
    if fresh_c:
        for k in range(target_a.shape[0]):
            target_a[k] += pairs[2 * k]
            target_c[k] = pairs[2 * k + 1]
    else:
        for k in range(target_a.shape[0]):
            target_a[k] += pairs[2 * k]
            target_c[k] += pairs[2 * k + 1]
    pairs[:] = 0


@numba.njit(**LOOP)
def _add_shared(
    x: NDArray[Any],
    y: NDArray[Any],
    index: NDArray[np.uint32],
    left: NDArray[Any],
    right: NDArray[Any],
    width: int,
    height: int,
    in_a: bool,
    in_c: bool,
    target_a: NDArray[Any],
    target_c: NDArray[Any],
) -> None:
    """Share each event among the four pixels around it; what falls beside the sensor is left out."""
    for k in range(x.shape[0]):
        column, row = int(np.floor(x[k])), int(np.floor(y[k]))
        along, down = x[k] - column, y[k] - row
        for j in range(4):
            i, v = column + j % 2, row + j // 2
            if 0 <= i < width and 0 <= v < height:
                weight = (along if j % 2 else 1 - along) * (down if j // 2 else 1 - down)
                cell = index[k] + np.uint32(v * width + i)
                if in_a:
                    target_a[cell] += weight * left[k]
                if in_c:
                    target_c[cell] += weight * right[k]
