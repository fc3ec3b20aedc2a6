"""Images of events: sums, counts, each pixel's last polarity between frames, and how long ago it was."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.kernels.voxelize import Placement, PlaneLayout, voxelize
from evsim.represent.arrays import numpy_events, output, positions, same_kind
from evsim.represent.pixels import flat_index, require_pixels, require_whole

ONE_BIN = Placement(np.zeros(1), np.ones(1), 0.0, 0.0, "nearest", "clamp")
"""The placement that puts every event of one window into bin 0."""


def event_frame(
    events: Events,
    *,
    kind: Literal["signed", "counts"] = "signed",
    out: Any = None,
    backend: str | None = None,
) -> Any:
    """int32 image of events: "signed" (H, W) ON minus OFF, or "counts" (2, H, W) ON and then OFF.

    numpy columns give an array, torch columns a tensor on their device. out: written and returned.
    backend: see `evsim.kernels.voxelize`. No event gives zeros. Raises InputError for events outside the
    sensor and for sub-pixel coordinates.
    """
    return event_frames(events, None, kind=kind, out=None if out is None else out[None], backend=backend)[0]


def event_frames(
    events: Events,
    windows: ArrayLike | None,
    *,
    kind: Literal["signed", "counts"] = "signed",
    out: Any = None,
    backend: str | None = None,
) -> Any:
    """int32 (K, H, W) or (K, 2, H, W): the `event_frame` of each of K windows of one stream, in one call.

    windows: (K, 2) microseconds; window [a, b) holds the events with a <= t < b and may overlap others;
    None: one window of all events.
    """
    if kind not in ("signed", "counts"):
        raise InputError(f"event frame of kind {kind!r}, expected signed or counts")
    require_whole(events)
    ranges = np.array([[0, len(events.t)]]) if windows is None else positions(events.t, windows)
    if ranges.ndim != 2 or ranges.shape[1] != 2 or (ranges[:, 0] > ranges[:, 1]).any():
        raise InputError(f"windows have shape {ranges.shape}, expected (K, 2) rows of start < end")
    size, count = (events.height, events.width), len(ranges)
    shape = (count, *size) if kind == "signed" else (count, 2, *size)
    frames = output(out, shape, np.int32, events.t)
    voxelize(
        events.t,
        events.x,
        events.y,
        events.p,
        bins=1,
        ranges=ranges,
        placement=ONE_BIN._replace(start=np.zeros(count), duration=np.ones(count)),
        layout=PlaneLayout(1, 1, 0, 0) if kind == "signed" else PlaneLayout(2, 1, 0, 1),
        out=frames.reshape(-1, *size),
        backend=backend,
    )
    return frames


def polarity_frames(events: Events, edges_us: ArrayLike) -> Any:
    """int8 (T, H, W): polarity +1 or -1 of each pixel's last event in each interval, 0 without event.

    edges_us: T + 1 increasing microseconds; interval i holds edges[i] < t <= edges[i + 1], the frame
    intervals of a simulation. Of events at one time and pixel the last in the stream counts. Events outside
    all intervals do not appear. torch columns give a tensor on their device (computed on the CPU).
    Raises InputError for edges that do not increase and for events outside the sensor.
    """
    edges = increasing_times(edges_us, at_least=2)
    like, events = events.t, require_pixels(numpy_events(events))
    frames = np.zeros((len(edges) - 1, events.height * events.width), np.int8)
    borders = np.searchsorted(events.t, edges, "right")
    pixel = flat_index(events)
    signs = np.where(events.p > 0, 1, -1).astype(np.int8)
    for frame, start, stop in zip(frames, borders, borders[1:]):
        # Of repeated indices numpy keeps the last assignment, which is the last event.
        frame[pixel[start:stop]] = signs[start:stop]
    return same_kind(frames.reshape(-1, events.height, events.width), like)


def time_surface(
    events: Events,
    times_us: ArrayLike,
    *,
    time_constant_us: float,
    kind: Literal["split", "merged", "signed"] = "split",
    decay: Literal["exponential", "linear"] = "exponential",
) -> Any:
    """float32 time surfaces at T times: how recent each pixel's last event is, 1 just now, 0 never.

    With d = (time - t of the pixel's last event at or before it) / time_constant_us the value is exp(-d)
    ("exponential", Lagorce et al. 2017, without their neighbourhood) or max(0, 1 - d) ("linear").
    kind: "split" (T, 2, H, W) the last ON and the last OFF event apart; "merged" (T, H, W) the last of
    either; "signed" (T, H, W) that times its polarity +1 or -1. times_us: increasing microseconds. torch
    columns give a tensor on their device (computed on the CPU). Raises InputError for times out of order, a
    time constant that is not positive and events outside the sensor.
    """
    if kind not in ("split", "merged", "signed"):
        raise InputError(f"time surface of kind {kind!r}, expected split, merged or signed")
    if decay not in ("exponential", "linear"):
        raise InputError(f"decay {decay!r}, expected exponential or linear")
    if not time_constant_us > 0:
        raise InputError(f"time constant of {time_constant_us} us, expected a positive one")
    times = increasing_times(times_us, at_least=1)
    like, events = events.t, require_pixels(numpy_events(events))
    planes = 2 if kind == "split" else 1
    cell = flat_index(events)
    if kind == "split":
        cell = cell + (events.p == 0) * (events.height * events.width)
    last = np.full(planes * events.height * events.width, -1, np.int64)
    surfaces = np.zeros((len(times), last.size), np.float32)
    start = 0
    for surface, time, stop in zip(surfaces, times, np.searchsorted(events.t, times, "right")):
        last[cell[start:stop]] = np.arange(start, stop)
        seen = last >= 0
        age = (time - events.t[last[seen]]) / time_constant_us
        value = np.exp(-age) if decay == "exponential" else np.maximum(0.0, 1.0 - age)
        surface[seen] = np.where(events.p[last[seen]] > 0, value, -value) if kind == "signed" else value
        start = stop
    shape = (2, events.height, events.width) if planes == 2 else (events.height, events.width)
    return same_kind(surfaces.reshape(len(times), *shape), like)


def increasing_times(times_us: ArrayLike, *, at_least: int) -> NDArray[Any]:
    """Times as a one-dimensional array. Raises InputError if they are too few or do not increase."""
    times = np.asarray(times_us)
    if times.ndim != 1 or len(times) < at_least or not np.all(np.diff(times) > 0):
        raise InputError(f"times {times.tolist()!r:.60}, expected at least {at_least} in increasing order")
    return times
