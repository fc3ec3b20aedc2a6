"""Images of events: sums, counts, and the last polarity of each pixel between frames."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.represent.pixels import flat_index, require_pixels


def event_frame(events: Events, *, kind: Literal["signed", "counts"] = "signed") -> NDArray[np.int32]:
    """int32 image of events: "signed" (H, W) ON minus OFF, or "counts" (2, H, W) ON and then OFF.

    Raises InputError for events outside the sensor.
    """
    if kind not in ("signed", "counts"):
        raise InputError(f"event frame of kind {kind!r}, expected signed or counts")
    require_pixels(events)
    size = events.height * events.width
    pixel = flat_index(events)
    on = events.p > 0
    counts = np.stack([np.bincount(pixel[chosen], minlength=size) for chosen in (on, ~on)]).astype(np.int32)
    counts = counts.reshape(2, events.height, events.width)
    return counts if kind == "counts" else counts[0] - counts[1]


def polarity_frames(events: Events, edges_us: ArrayLike) -> NDArray[np.int8]:
    """int8 (T, H, W): polarity +1 or -1 of each pixel's last event in each interval, 0 without event.

    edges_us: T + 1 increasing microseconds; interval i holds edges[i] < t <= edges[i + 1], the frame
    intervals of a simulation. Of events at one time and pixel the last in the stream counts. Events outside
    all intervals do not appear. Raises InputError for edges that do not increase.
    """
    edges = increasing_times(edges_us, at_least=2)
    require_pixels(events)
    frames = np.zeros((len(edges) - 1, events.height * events.width), np.int8)
    borders = np.searchsorted(events.t, edges, "right")
    pixel = flat_index(events)
    signs = np.where(events.p > 0, 1, -1).astype(np.int8)
    for frame, start, stop in zip(frames, borders, borders[1:]):
        # Of repeated indices numpy keeps the last assignment, which is the last event.
        frame[pixel[start:stop]] = signs[start:stop]
    return frames.reshape(-1, events.height, events.width)


def increasing_times(times_us: ArrayLike, *, at_least: int) -> NDArray[Any]:
    """Times as a one-dimensional array. Raises InputError if they are too few or do not increase."""
    times = np.asarray(times_us)
    if times.ndim != 1 or len(times) < at_least or not np.all(np.diff(times) > 0):
        raise InputError(f"times {times.tolist()!r:.60}, expected at least {at_least} in increasing order")
    return times
