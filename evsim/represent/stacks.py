"""Stacks of event images: EvINR's frames of equal event count, and RVT's histogram in bytes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from evsim.errors import InputError
from evsim.events import Events
from evsim.kernels.voxelize import Placement, PlaneLayout, voxelize
from evsim.represent.arrays import numpy_events, positions, same_kind
from evsim.represent.pixels import require_whole
from evsim.represent.voxels import voxel_grid


class EvinrStack(NamedTuple):
    """Event frames of equal event count, and when they are."""

    frames: Any
    """float32 (T, H, W, 1), or (T, H, W, 3) RGB of a colour sensor: change of log intensity in each chunk."""
    stamps: Any
    """float32 (T, 1): middle between the first and last event of each chunk, the window being -1..1."""
    borders: Any
    """float32 (T + 1, 1): midway between a chunk's last event and the next one's first; ends -1 and 1."""


def evinr_stack(
    events: Events,
    count: int,
    *,
    contrast_threshold: float = 1.0,
    window: tuple[float, float] | None = None,
    color: bool = False,
    landscape: bool = False,
    backend: str | None = None,
) -> EvinrStack:
    """Events stacked into `count` frames of (nearly) equal event count (Wang et al. 2024, "EvINR").

    The events of the window are cut into chunks of which the first N mod T hold one event more; frame i is
    contrast_threshold times the sum of polarities +1 and -1 of chunk i. window: (t0, t1) of which the events
    with t0 < t < t1 are taken (published: so the first event is dropped when t0 is its time); None: all, from
    the first to the last. color: the sensor has an RGGB mosaic; red, the mean of the greens and blue are
    enlarged to the sensor's size by repetition. landscape: swap x and y of a sensor higher than wide, as
    published. numpy columns give arrays, torch columns tensors on their device. Raises InputError for fewer
    events than frames, odd sides of a colour sensor, sub-pixel coordinates and events outside the sensor.
    """
    require_whole(events)
    if landscape and events.height > events.width:
        events = Events(events.t, events.y, events.x, events.p, events.height, events.width, events.t_origin)
    height, width = events.height, events.width
    if color and (height % 2 or width % 2):
        raise InputError(f"a colour mosaic of {width}x{height} pixels, expected even sides")
    first, last = 0, len(events.t)
    if window is not None:
        first = int(positions(events.t, [window[0]], right=True)[0])
        last = int(positions(events.t, [window[1]])[0])
    if count < 1 or last - first < count:
        raise InputError(
            f"{max(0, last - first)} events for {count} frames, expected one or more for each; take a longer "
            "stretch or fewer frames (--train-resolution, half of them where the fit ends with twice as many)"
        )
    sizes = np.full(count, (last - first) // count)
    sizes[: (last - first) % count] += 1
    edges = first + np.concatenate([[0], np.cumsum(sizes)])
    sums = np.empty((count, height, width), np.float32)
    own = numpy_events(events)
    voxelize(
        own.t,
        own.x,
        own.y,
        own.p,
        bins=1,
        ranges=np.stack([edges[:-1], edges[1:]], 1),
        placement=Placement(np.zeros(count), np.ones(count), 0.0, 0.0, "nearest", "clamp"),
        layout=PlaneLayout(1, 1, 0, 0),
        out=sums,
        backend=backend,
    )
    start, end = window if window is not None else (own.t[first], own.t[last - 1])
    scale = 2.0 / (end - start) if end > start else 0.0
    begins, ends = ((own.t[index] - start) * scale - 1.0 for index in (edges[:-1], edges[1:] - 1))
    stamps = (begins + ends) / 2
    borders = np.concatenate([[-1.0], (ends[:-1] + begins[1:]) / 2, [1.0]])
    frames = (_demosaic(sums) if color else sums[..., None]) * np.float32(contrast_threshold)
    return EvinrStack(
        *(
            same_kind(array.astype(np.float32), events.t)
            for array in (frames, stamps[:, None], borders[:, None])
        )
    )


def _demosaic(sums: np.ndarray) -> np.ndarray:
    """(T, H, W, 3): the planes of an RGGB mosaic, each at half size and enlarged by repetition."""
    green = (sums[:, 1::2, 0::2] + sums[:, 0::2, 1::2]) / 2
    half = np.stack([sums[:, 0::2, 0::2], green, sums[:, 1::2, 1::2]], -1)
    return half.repeat(2, 1).repeat(2, 2)


def stacked_histogram(
    events: Events,
    bins: int,
    *,
    cutoff: int = 255,
    window: tuple[float, float] | None = None,
    backend: str | None = None,
) -> Any:
    """uint8 (2 * bins, H, W) event counts, OFF bins and then ON bins (Gehrig and Scaramuzza 2023, "RVT").

    Bins as in rule "stacked_histogram" of `voxel_grid`; counts above `cutoff` become `cutoff` (the published
    fast mode wraps instead). Raises InputError as `voxel_grid` does, and for a cut-off outside 1..255.
    """
    if not 1 <= cutoff <= 255:
        raise InputError(f"cut-off of {cutoff}, expected 1..255")
    grid = voxel_grid(events, bins, rule="stacked_histogram", window=window, backend=backend)
    clipped = grid.clip(0, cutoff)
    return clipped.astype(np.uint8) if isinstance(clipped, np.ndarray) else clipped.byte()
