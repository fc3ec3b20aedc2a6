"""EGER, the exposure-guided event representation of GEM: events before, inside and after a target."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evsim.errors import InputError
from evsim.events import Events
from evsim.kernels.voxelize import Placement, PlaneLayout, voxelize
from evsim.represent.arrays import is_tensor, output, positions
from evsim.represent.pixels import require_whole

SEGMENTS = 3
"""Before, inside and after the target."""


def eger(
    events: Events,
    target: float | tuple[float, float],
    exposure: tuple[float, float],
    *,
    bins: int = 16,
    roi: tuple[int, int, int, int] | None = None,
    out: Any = None,
    backend: str | None = None,
) -> Any:
    """float32 (6 * bins, h, w) counts of the events of an exposure, by time, target segment and polarity.

    Of the events with s <= t < e inside the region, one at t adds 1 to channel 6 n + 2 g + q: time bin
    n = floor((t - s) bins / (e - s)), which spans the whole exposure; segment g = 0 for t < a, 1 for
    a <= t < b, 2 for t >= b; q = 1 for ON, 0 for OFF (Zhang et al. 2023, "Generalizing Event-Based Motion
    Deblurring in Real-World Scenarios").

    target: (a, b), or one instant a = b, whose segment 1 is empty; it may lie outside the exposure.
    exposure: (s, e), in the unit of the times. roi: (top, left, height, width) in pixels of the event
    sensor, the whole sensor when None. out: contiguous float32 of the result's shape and kind, overwritten
    and returned. An exposure without events gives zeros. numpy columns give an array, torch columns a tensor
    on their device. Raises InputError for an exposure of no duration, a target that ends before it begins, a
    region beyond the sensor, and events outside the sensor.
    """
    targets = [(target, target) if np.ndim(target) == 0 else target]
    return egers(
        events,
        targets,
        [exposure],
        bins=bins,
        roi=roi,
        out=None if out is None else out[None],
        backend=backend,
    )[0]


def egers(
    events: Events,
    targets: ArrayLike,
    exposures: ArrayLike,
    *,
    bins: int = 16,
    roi: tuple[int, int, int, int] | None = None,
    out: Any = None,
    backend: str | None = None,
) -> Any:
    """float32 (K, 6 * bins, h, w): `eger` for K pairs of target and exposure.

    targets: (K,) instants or (K, 2) intervals; exposures: (K, 2), or (1, 2) for all.
    """
    wanted = np.asarray(targets, np.float64)
    wanted = np.stack([wanted, wanted], 1) if wanted.ndim == 1 else wanted
    spans = np.broadcast_to(np.asarray(exposures, np.float64), wanted.shape)
    if wanted.ndim != 2 or wanted.shape[1] != 2 or (wanted[:, 0] > wanted[:, 1]).any():
        raise InputError(f"targets {np.asarray(targets).tolist()!r:.60}, expected instants or pairs a <= b")
    if bins < 1 or not (spans[:, 0] < spans[:, 1]).all():
        raise InputError(f"exposures {spans.tolist()!r:.60} and {bins} bins, expected s < e and a bin")
    require_whole(events)
    events = events if roi is None else _crop(events, roi)
    shape = (len(wanted), 2 * SEGMENTS * bins, events.height, events.width)
    grids = output(out, shape, np.float32, events.t)
    borders = positions(
        events.t, np.stack([spans[:, 0], *wanted.clip(spans[:, :1], spans[:, 1:]).T, spans[:, 1]], 1)
    )
    for grid, cut, (start, end) in zip(grids, borders, spans):
        voxelize(
            events.t,
            events.x,
            events.y,
            events.p,
            bins=bins,
            ranges=np.stack([cut[:-1], cut[1:]], 1),
            placement=Placement(
                np.full(SEGMENTS, np.trunc(start)),  # bins count from the whole unit, as published
                np.full(SEGMENTS, (end - start) / bins),
                1.0,
                0.0,
                "nearest",
                "clamp",
            ),
            layout=PlaneLayout(2, 2 * SEGMENTS, 1, 0),
            out=grid,
            backend=backend,
        )
    return grids


def _crop(events: Events, roi: tuple[int, int, int, int]) -> Events:
    """The events inside a region, with coordinates from its corner."""
    top, left, height, width = roi
    if (
        min(top, left) < 0
        or min(height, width) < 1
        or (top + height > events.height or left + width > events.width)
    ):
        raise InputError(
            f"region (top, left, height, width) = {roi}, expected one inside {events.width}x{events.height}"
        )
    x: Any = events.x
    y: Any = events.y
    if is_tensor(x):
        x, y = x.int(), y.int()  # torch cannot compare uint16
    inside = (x >= left) & (x < left + width) & (y >= top) & (y < top + height)
    return Events(
        events.t[inside], x[inside] - left, y[inside] - top, events.p[inside], width, height, events.t_origin
    )
