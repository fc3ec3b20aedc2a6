"""Voxel grids: events in bins of time, by the conventions that published networks were trained with."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.kernels.voxelize import Placement, PlaneLayout, voxelize
from evsim.represent.arrays import output, positions, same_kind, take
from evsim.represent.normalization import normalize
from evsim.represent.pixels import has_subpixels
from evsim.represent.rules import VOXEL_RULES, Interpolation, Polarity, VoxelRule

_FIRST_AND_LAST = np.array([0, -1])


def voxel_grid(
    events: Events,
    bins: int,
    *,
    rule: str = "e2vid",
    polarity: Polarity | None = None,
    interpolation: Interpolation | None = None,
    normalization: str | None = None,
    window: tuple[float, float] | None = None,
    minimum_events: int | None = None,
    out: Any = None,
    accumulate: bool = False,
    deterministic: bool = False,
    threads: int = 1,
    backend: str | None = None,
) -> Any:
    """float32 (bins, H, W) voxel grid of one window of events, (2 * bins, H, W) with split polarity.

    Columns of numpy arrays give an array, columns of torch tensors a tensor on their device.

    rule: a name in `VOXEL_RULES`. With t0, t1 the window, B bins, n = (t - t0) / (t1 - t0), an event adds
    max(0, 1 - abs(tau - b)) to each bin b, where

    ==================  =====================================  ==============================================
    rule                tau                                    at the ends, and for a window of one time
    ==================  =====================================  ==============================================
    e2vid               n (B - 1)                              one time: duration 1, so all in bin 0
    ner                 n (B - 1)                              fewer than 3 events: zeros; one time: spread
                                                               linearly over the bins in order of the stream
    dsec                n (B - 1), sub-pixel                   one time: all in bin 0 (published: NaN)
    tonic               n B                                    beyond bin B - 1 left out, so the last event
                                                               vanishes; one time: bin 0 (published: fails)
    openeb              n B - 0.5                              beyond 0..B-1 left out: half the weight of the
                                                               first and last event; one time: half in bin 0
    openeb_torch        n B - 0.5, floor(tau) clamped          the first half bin leaks into bin 1, the last
                                                               keeps all; one time: halves in bins 0 and 1
    timelens            (t - t0) (B - 1) / (t1 - t0 + 1 us),   one time: all in bin 0
                        sub-pixel
    timelens_xl         floor((t - t0) B / (t1 - t0 + 1 us)),  one time: all in bin 0
                        all to one bin, sub-pixel
    rpg                 n (B - 1), sub-pixel                   one time: all in bin 0
    stacked_histogram   floor(n B), at most B - 1,             one time: all in bin 0
                        all to one bin
    ==================  =====================================  ==============================================

    A window without events gives zeros by every rule, and nothing ever gives NaN.
    "sub-pixel": float coordinates are shared among the four pixels around them, less what falls beside the
    sensor; other rules refuse them.
    polarity: "signed" adds +1 and -1; "split" gives the ON events' bins and then the OFF events', both
    positive; "split_off_first" the other way round. None: signed, but stacked_histogram is split_off_first.
    interpolation: "linear" or "nearest" (all to bin floor(tau + 1/2)) instead of the rule's own.
    normalization: a name in `NORMALIZATIONS`, see `normalize`.
    window: microseconds (t0, t1), also fractions; all events must lie in it. None: the first and last event.
    minimum_events: fewer give zeros; None: the rule's own number.
    out: contiguous float32 of the result's shape and kind, overwritten and returned. accumulate: add to what
    `out` holds instead.
    deterministic, threads, backend: see `evsim.kernels.voxelize`.
    Raises InputError for events outside window or sensor, and for unknown names.
    """
    plan = _plan(rule, VOXEL_RULES[rule], bins, polarity, interpolation)
    t = events.t
    grid = output(out, (plan.channels, events.height, events.width), np.float32, t)
    if window is not None:
        _require_window(events, window)
        ends = window
    elif len(t):
        ends = (t[0], t[-1]) if isinstance(t, np.ndarray) else tuple(take(t, _FIRST_AND_LAST))
    else:
        ends = (0, 0)
    _fill(
        events,
        plan,
        np.array([[0, len(t)]]),
        np.array([ends], np.float64),
        grid,
        minimum_events,
        accumulate=accumulate,
        deterministic=deterministic,
        threads=threads,
        backend=backend,
    )
    return grid if normalization is None else normalize(grid, normalization, out=grid)


def voxel_grids(
    events: Events,
    bins: int,
    windows: ArrayLike | Sequence[tuple[float, float]],
    *,
    span: Literal["events", "window"] = "events",
    rule: str = "e2vid",
    polarity: Polarity | None = None,
    interpolation: Interpolation | None = None,
    normalization: str | None = None,
    minimum_events: int | None = None,
    out: Any = None,
    accumulate: bool = False,
    deterministic: bool = False,
    threads: int = 1,
    backend: str | None = None,
) -> Any:
    """float32 (K, channels, H, W): the voxel grids of K windows of one stream, in one call.

    windows: (K, 2) microseconds; window [a, b) holds the events with a <= t < b and may overlap others.
    span: what the bins of a window span: its first and last event ("events", as `voxel_grid` without
    `window`) or the window itself. So grid k equals `voxel_grid(events.between(*windows[k]), bins)` with or
    without `window=windows[k]`; see there for the other arguments, `out` here being (K, channels, H, W).
    Raises InputError as `voxel_grid` does, and for windows that are not pairs of increasing times.
    """
    plan = _plan(rule, VOXEL_RULES[rule], bins, polarity, interpolation)
    if span not in ("events", "window"):
        raise InputError(f"span {span!r}, expected events or window")
    borders = np.asarray(windows)
    if borders.ndim != 2 or borders.shape[1] != 2 or not (borders[:, 0] < borders[:, 1]).all():
        raise InputError(f"windows have shape {borders.shape}, expected (K, 2) rows of start < end")
    shape = (len(borders), plan.channels, events.height, events.width)
    grids = output(out, shape, np.float32, events.t)
    ranges = positions(events.t, borders)
    ends = borders.astype(np.float64)
    filled = ranges[:, 0] < ranges[:, 1]
    if span == "events" and filled.any():
        index = np.stack([ranges[filled, 0], ranges[filled, 1] - 1], 1)
        ends[filled] = take(events.t, index.reshape(-1)).reshape(-1, 2)
    _fill(
        events,
        plan,
        ranges,
        ends,
        grids,
        minimum_events,
        accumulate=accumulate,
        deterministic=deterministic,
        threads=threads,
        backend=backend,
    )
    if normalization is not None:
        for grid in grids:
            normalize(grid, normalization, out=grid)
    return grids


def fill_windows(
    events: Events,
    bins: int,
    name: str,
    ranges: NDArray[np.int64],
    ends: NDArray[np.float64],
    grids: Any,
    **options: Any,
) -> None:
    """Write the signed voxel grids of K windows to `grids`, (K, bins, H, W) or K * bins planes.

    name: the rule. ranges: (K, 2), the events of each window; ends: (K, 2), the times its bins span.
    options: of the kernel. Raises InputError as `voxel_grid` does.
    """
    _fill(events, _plan(name, VOXEL_RULES[name], bins, "signed", None), ranges, ends, grids, None, **options)


def channels(bins: int, polarity: Polarity) -> int:
    """Channels of a voxel grid. Raises InputError for bins or a polarity that cannot be."""
    return _plan("e2vid", VOXEL_RULES["e2vid"], bins, polarity, None).channels


def placement_in_window(
    name: str,
    bins: int,
    window: tuple[float, float],
    *,
    polarity: Polarity | None = None,
    interpolation: Interpolation | None = None,
) -> tuple[Placement, PlaneLayout]:
    """Where rule `name` puts the events of a window given in microseconds, for sums made without a list.

    Arguments and errors are those of `voxel_grid`, whose planes the layout describes.
    """
    plan = _plan(name, VOXEL_RULES[name], bins, polarity, interpolation)
    start, end = window
    if not start < end:
        raise InputError(f"window {start}..{end} us, expected a start before its end")
    ends = np.array([start], np.float64), np.array([end - start + plan.rule.extra_us], np.float64)
    return Placement(*ends, plan.steps, plan.offset, plan.interpolation, plan.rule.edge), plan.layout


class _Plan(NamedTuple):
    """A rule with the caller's choices worked out, for the kernel."""

    name: str
    rule: VoxelRule
    bins: int
    channels: int
    steps: float
    offset: float
    interpolation: Interpolation
    layout: PlaneLayout


@functools.lru_cache(64)
def _plan(
    name: str, rule: VoxelRule, bins: int, polarity: Polarity | None, interpolation: Interpolation | None
) -> _Plan:
    """Remembered, because for a window of a few thousand events it would cost as much as they do.

    Raises InputError for bins, a polarity or an interpolation that cannot be.
    """
    if bins < 1:
        raise InputError(f"a voxel grid of {bins} bins; expected at least 1")
    layouts = {
        "signed": PlaneLayout(bins, 1, 0, 0),
        "split": PlaneLayout(2 * bins, 1, 0, bins),
        "split_off_first": PlaneLayout(2 * bins, 1, bins, 0),
    }
    layout = layouts.get(rule.polarity if polarity is None else polarity)
    if layout is None:
        raise InputError(f"polarity {polarity!r}, expected signed, split or split_off_first")
    how, offset = rule.interpolation, rule.offset
    if interpolation is not None and interpolation != how:
        if interpolation not in ("linear", "nearest"):
            raise InputError(f"interpolation {interpolation!r}, expected linear or nearest")
        how, offset = interpolation, offset + (0.5 if interpolation == "nearest" else -0.5)
    return _Plan(name, rule, bins, layout.window, float(rule.steps(bins)), offset, how, layout)


def _fill(
    events: Events,
    plan: _Plan,
    ranges: NDArray[np.int64],
    ends: NDArray[np.float64],
    grids: Any,
    minimum_events: int | None,
    **options: Any,
) -> None:
    """Write the voxel grids of K windows to `grids`."""
    rule, layout = plan.rule, plan.layout
    planes = grids.reshape(-1, events.height, events.width)
    if not rule.subpixel and has_subpixels(events):
        raise InputError(
            f"the events have sub-pixel coordinates, which rule {plan.name!r} does not define; round them to "
            "whole pixels first"
        )
    least = rule.minimum_events if minimum_events is None else minimum_events
    if least > 1:
        few = ranges[:, 1] - ranges[:, 0] < least
        ranges = np.where(few[:, None], ranges[:, :1], ranges)
    duration = ends[:, 1] - ends[:, 0]
    if rule.extra_us:
        duration += rule.extra_us
    spread = []
    if min(duration.tolist(), default=1.0) <= 0:
        flat = duration <= 0
        duration[flat] = 1.0
        spread = np.flatnonzero(flat & (ranges[:, 0] < ranges[:, 1])).tolist() if rule.spread else []
    constants = (plan.steps, plan.offset, plan.interpolation, rule.edge)
    columns = (events.t, events.x, events.y, events.p)
    voxelize(
        *columns,
        bins=plan.bins,
        ranges=_without(ranges, spread) if spread else ranges,
        placement=Placement(ends[:, 0], duration, *constants),
        layout=layout,
        out=planes,
        **options,
    )
    for k in spread:
        # Of these events only the order is known: it takes the place of the time.
        first, last = ranges[k].tolist()
        voxelize(
            _order(last - first, events.t),
            *(column[first:last] for column in columns[1:]),
            bins=plan.bins,
            ranges=np.array([[0, last - first]]),
            placement=Placement(np.zeros(1), np.array([max(1.0, last - first - 1.0)]), *constants),
            layout=layout,
            out=planes[k * layout.window : (k + 1) * layout.window],
            **{**options, "accumulate": True},
        )


def _without(ranges: NDArray[np.int64], windows: list[int]) -> NDArray[np.int64]:
    """`ranges` with some windows empty."""
    ranges = ranges.copy()
    ranges[windows, 1] = ranges[windows, 0]
    return ranges


def _order(count: int, like: Any) -> Any:
    """0, 1, .. count - 1 as times of the kind of `like`."""
    return same_kind(np.arange(count), like)


def _require_window(events: Events, window: tuple[float, float]) -> None:
    t0, t1 = window
    if not t0 < t1:
        raise InputError(f"window {t0}..{t1} us, expected a start before its end")
    if len(events.t) == 0:
        return
    first, last = take(events.t, _FIRST_AND_LAST).tolist()
    if first < t0 or last > t1:
        raise InputError(
            f"events from {first} to {last} us do not lie in the window {t0}..{t1} us; "
            "pass events.between(*window)"
        )
