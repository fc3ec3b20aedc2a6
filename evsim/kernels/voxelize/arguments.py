"""What `voxelize` is told besides the events: where they belong in time and in the output."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError

NO_DURATION = "a window of no duration has no bin coordinate; give a positive one"


class Placement(NamedTuple):
    """The bin coordinate of time t in window k: tau = steps (t - start[k]) / duration[k] + offset.

    interpolation: "linear" shares an event between bins floor(tau) and floor(tau) + 1, by the distance to
    each; "nearest" gives it to bin floor(tau). edge: what falls on bins outside 0..bins-1 is left out
    ("drop"), or floor(tau) and its right neighbour are moved to the next bin inside ("clamp").
    """

    start: NDArray[np.float64]
    duration: NDArray[np.float64]
    steps: float
    offset: float = 0.0
    interpolation: Literal["linear", "nearest"] = "linear"
    edge: Literal["drop", "clamp"] = "drop"


class PlaneLayout(NamedTuple):
    """The plane of the output for window k, bin b: k * window + b * bin + (on or off).

    on == off: one plane for both polarities, to which OFF events add negatively.
    """

    window: int
    bin: int
    on: int
    off: int


def named_planes(windows: int, bins: int, layout: PlaneLayout) -> NDArray[np.int64]:
    """The planes of the output that belong to these windows, each once."""
    windows_, bins_, sides = np.ogrid[:windows, :bins, :2]
    return np.unique(windows_ * layout.window + bins_ * layout.bin + np.where(sides, layout.off, layout.on))


def require_events(
    t: NDArray[Any], x: NDArray[Any], y: NDArray[Any], ranges: NDArray[np.int64], size: tuple[int, int]
) -> None:
    """Raises InputError if events of any window are out of order or outside the sensor of (width, height).

    Float coordinates may lie up to a pixel beside the sensor, where they still share its outer pixels.
    """
    if not len(ranges):
        return
    used = slice(int(ranges.min()), int(ranges.max()))
    t, x, y = t[used], x[used], y[used]
    ordered = t[1:] >= t[:-1]
    if not ordered.all():
        row = int(np.argmin(ordered)) + 1 + used.start
        raise InputError(
            f"the events are not in order of time: event {row} is at {t[row - used.start]}; sort them"
        )
    beside = -1.0 if x.dtype.kind == "f" else -0.5
    inside = (x > beside) & (x < size[0]) & (y > beside) & (y < size[1])
    if not inside.all():
        row = int(np.argmin(inside))
        raise InputError(
            f"{int((~inside).sum())} of {len(x)} events lie outside the sensor of {size[0]}x{size[1]}: event "
            f"{row + used.start} is at x = {x[row]}, y = {y[row]}"
        )
