"""Voxel grids: events in bins of time, by the conventions that published networks were trained with."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.kernels.voxelize import voxelize
from evsim.registry import Registry
from evsim.represent.pixels import require_pixels

Polarity = Literal["signed", "split"]


class BinCoordinates(NamedTuple):
    """How a rule places events among the bins: tau = (t - start) * scale + offset."""

    t: NDArray[Any]
    start: float
    scale: float
    offset: float


VOXEL_RULES: Registry[Any] = Registry("voxel grid rule")
"""Name -> function (times, bins, (t_first, t_last)) -> BinCoordinates."""


@VOXEL_RULES.register("e2vid")
def e2vid(t: NDArray[np.int64], bins: int, span: tuple[int, int]) -> BinCoordinates:
    """tau runs from 0 at the first time to bins - 1 at the last (Rebecq et al. 2019, "Events-to-Video").

    Where both times are equal the events are spread over the bins in their order.
    """
    first, last = span
    if last > first:
        return BinCoordinates(t, float(first), (bins - 1) / (last - first), 0.0)
    order = np.arange(len(t))
    return BinCoordinates(order, 0.0, (bins - 1) / max(1, len(t) - 1), 0.0)


def voxel_grid(
    events: Events,
    bins: int,
    *,
    rule: str = "e2vid",
    polarity: Polarity = "signed",
    window: tuple[int, int] | None = None,
    minimum_events: int = 1,
    backend: str | None = None,
) -> NDArray[np.float32]:
    """float32 (bins, H, W) voxel grid, each event shared linearly between two neighbouring bins.

    rule: a name in `VOXEL_RULES`. polarity: "signed" adds +1 and -1; "split" gives (2 * bins, H, W), the
    ON events' bins and then the OFF events', both positive. window: microseconds (first, last) that the
    bins span, the first and last event when None. minimum_events: fewer give zeros (networks of the E2VID+
    family are trained with 3). backend: see `evsim.kernels.voxelize`. Raises InputError for events outside
    window or sensor.
    """
    if bins < 1:
        raise InputError(f"a voxel grid of {bins} bins; expected at least 1")
    if polarity not in ("signed", "split"):
        raise InputError(f"polarity {polarity!r}, expected signed or split")
    place = VOXEL_RULES[rule]
    require_pixels(events)
    out = np.zeros((2 * bins if polarity == "split" else bins, events.height, events.width), np.float32)
    if len(events) < max(1, minimum_events):
        return out
    coordinates: BinCoordinates = place(events.t, bins, _span(events, window))
    return voxelize(
        coordinates.t,
        events.x,
        events.y,
        events.p,
        bins=bins,
        height=events.height,
        width=events.width,
        start=coordinates.start,
        scale=coordinates.scale,
        offset=coordinates.offset,
        split=polarity == "split",
        backend=backend,
        out=out,
    )


def _span(events: Events, window: tuple[int, int] | None) -> tuple[int, int]:
    first, last = int(events.t[0]), int(events.t[-1])
    if window is None:
        return first, last
    if window[0] >= window[1] or first < window[0] or last > window[1]:
        raise InputError(
            f"events from {first} to {last} us do not lie in the window {window[0]}..{window[1]} us; "
            "pass events.between(*window)"
        )
    return window
