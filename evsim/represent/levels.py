"""The log intensity that events add up to, at any times: what they say of every pixel but one unknown image.

Events fix the log intensity V(x, t) of every pixel up to one image: V = L0(x) + S(x, t), where S are the
events' levels, which `event_levels` gives.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.kernels.compiled import LOOP


class Thresholds(NamedTuple):
    """Change of log intensity that an ON and an OFF event stand for, both positive."""

    on: float
    off: float


class EventLevels:
    """The log intensity that the events of a stretch give every pixel, 0 before its first event.

    An ideal pixel is at a known level at each of its events and less than a threshold away from it between
    two; levels are connected linearly between a pixel's events and held after its last one. Raises InputError
    for events that are out of order or outside the sensor, and for sub-pixel coordinates.
    """

    def __init__(self, events: Events, thresholds: Thresholds) -> None:
        events.validate()
        if events.x.dtype.kind == "f" or events.y.dtype.kind == "f":
            raise InputError("levels of single pixels need whole coordinates; round the events first")
        self.height, self.width = events.height, events.width
        pixel = events.y.astype(np.int64) * events.width + events.x
        order = np.argsort(pixel, kind="stable")
        self._borders = np.searchsorted(pixel[order], np.arange(self.height * self.width + 1))
        self._t = events.t[order].astype(np.float64)
        self._step = np.where(events.p[order] > 0, thresholds.on, -thresholds.off)

    def at(self, times_us: ArrayLike) -> NDArray[np.float32]:
        """float32 (T, H, W) at increasing times on the clock of events.t. Raises InputError."""
        times = np.ascontiguousarray(times_us, np.float64)
        if times.ndim != 1 or np.any(np.diff(times) <= 0):
            raise InputError("times of levels are not increasing, expected (T,) microseconds")
        levels = np.zeros((len(times), self.height * self.width), np.float32)
        _connect(self._t, self._step, self._borders, times, levels)
        return levels.reshape(len(times), self.height, self.width)


def event_levels(events: Events, times_us: ArrayLike, thresholds: Thresholds) -> NDArray[np.float32]:
    """float32 (T, H, W): see `EventLevels`."""
    return EventLevels(events, thresholds).at(times_us)


@numba.njit(**LOOP)
def _connect(
    t: NDArray[np.float64],
    step: NDArray[np.float64],
    borders: NDArray[np.int64],
    times: NDArray[np.float64],
    levels: NDArray[np.float32],
) -> None:  # pragma: no cover - compiled
    """Levels of each pixel's events (grouped by pixel) at increasing times; `levels` holds zeros."""
    for pixel in range(len(borders) - 1):
        start, stop = borders[pixel], borders[pixel + 1]
        if start == stop:
            continue
        level, event = 0.0, start - 1
        for k in range(len(times)):
            while event + 1 < stop and t[event + 1] <= times[k]:
                event += 1
                level += step[event]
            if event < start:
                continue
            levels[k, pixel] = level
            coming = event + 1
            while coming < stop and t[coming] == t[event + 1]:
                share = (times[k] - t[event]) / (t[coming] - t[event])
                levels[k, pixel] += step[coming] * share
                coming += 1
