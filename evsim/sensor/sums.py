"""`EventSum`: planes that a sensor adds its events to instead of listing them, as counts or voxel grids.

Which plane and how much is decided by a placement and a layout of `evsim.kernels.voxelize`, so any rule by
which listed events become a voxel grid can be followed here. The compiled functions add events in whatever
order a pass finds them; only the rounding of the sums can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.kernels.compiled import INLINE, LOOP
from evsim.kernels.voxelize import Placement, PlaneLayout, voxelize
from evsim.sensor.sorting import Columns

ANY_TIME = Placement(np.zeros(1), np.ones(1), 0.0, 0.0, "nearest", "clamp")
"""Every event belongs to bin 0, whenever it is."""


class Rule(NamedTuple):
    """What the compiled functions need: tau = steps (t - start) / duration + offset, and where it leads.

    linear, clamp: as in `Placement`. stride: elements of the output from one bin to the next. on, off:
    elements to the first bin of a polarity. sign: what an OFF event counts.
    """

    start: float
    duration: float
    steps: float
    offset: float
    linear: bool
    clamp: bool
    bins: int
    stride: int
    on: int
    off: int
    sign: int


class Shares(NamedTuple):
    """For each microsecond of an interval: elements to its two bins, and what they get of an event.

    low, high: int64. low_part, high_part: of the type of the output; 0 for a bin outside.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    low_part: NDArray[Any]
    high_part: NDArray[Any]


@dataclass(frozen=True, eq=False)
class EventSum:
    """Planes that events are added to.

    out: (planes, H, W), contiguous; float32, or int32 where events are not shared among bins. Nothing is
    cleared. bins, placement, layout: of one window, as `evsim.kernels.voxelize` takes them. window_us: the
    times that the bins span; only intervals within may be added. None: all may.
    Raises InputError for another shape or type.
    """

    out: NDArray[Any]
    bins: int
    placement: Placement
    layout: PlaneLayout
    window_us: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        needed = 1 + max(self.layout.on, self.layout.off) + (self.bins - 1) * self.layout.bin
        kinds = (np.float32,) if self.placement.interpolation == "linear" else (np.float32, np.int32)
        fits = self.out.ndim == 3 and len(self.out) >= needed and self.out.dtype in kinds
        if not (fits and self.out.flags.c_contiguous and self.out.flags.writeable):
            names = " or ".join(np.dtype(kind).name for kind in kinds)
            raise InputError(
                f"out is {self.out.dtype} {self.out.shape}, expected contiguous {names} with at least "
                f"{needed} planes (planes, H, W)"
            )

    @classmethod
    def counts(cls, out: NDArray[np.int32]) -> EventSum:
        """Count ON events in out[0] and OFF events in out[1]; out: int32 (2, H, W)."""
        return cls(out, 1, ANY_TIME, PlaneLayout(2, 1, 0, 1))

    @classmethod
    def voxels(cls, out: NDArray[np.float32], window_us: tuple[float, float]) -> EventSum:
        """The voxel grid of a window by E2VID's rule, signed; out: float32 (bins, H, W).

        window_us: microseconds (t0, t1), also fractions: an event adds max(0, 1 - abs(tau - b)) to each bin
        b, tau = (bins - 1) (t - t0) / (t1 - t0) (Rebecq et al. 2019). `evsim.chain` has the other rules.
        """
        start, end = window_us
        if not start < end:
            raise InputError(f"window {start}..{end} us, expected a start before its end")
        placement = Placement(np.array([start], float), np.array([end - start], float), len(out) - 1.0)
        return cls(out, len(out), placement, PlaneLayout(len(out), 1, 0, 0), window_us)

    def rule(self) -> Rule:
        """The same for the compiled functions."""
        placement, layout, plane = self.placement, self.layout, self.out[0].size
        return Rule(
            float(placement.start[0]),
            float(placement.duration[0]),
            float(placement.steps),
            float(placement.offset),
            placement.interpolation == "linear",
            placement.edge == "clamp",
            self.bins,
            layout.bin * plane,
            layout.on * plane,
            layout.off * plane,
            -1 if layout.on == layout.off else 1,
        )

    def shares(self, origin_us: int, slots: int) -> Shares:
        """For the interval whose first microsecond is `origin_us`."""
        kind = self.out.dtype
        shares = Shares(
            np.empty(slots, np.int64), np.empty(slots, np.int64), np.empty(slots, kind), np.empty(slots, kind)
        )
        _fill_shares(float(origin_us), self.rule(), shares)
        return shares

    def require(self, size: tuple[int, int], t0_ns: int, t1_ns: int) -> None:
        """Raises InputError unless the events of the interval (t0, t1] of such a sensor belong here."""
        if self.out.shape[1:] != size[::-1]:
            raise InputError(
                f"out has planes of {self.out.shape[2]}x{self.out.shape[1]} pixels, expected those of the "
                f"sensor of {size[0]}x{size[1]}"
            )
        if self.window_us is None:
            return
        first, last = t0_ns // 1000 + 1, t1_ns // 1000
        if first < self.window_us[0] or last > self.window_us[1]:
            raise InputError(
                f"the interval from {first} to {last} us does not lie in the window {self.window_us[0]:g}.."
                f"{self.window_us[1]:g} us, expected windows that begin and end at frames; otherwise take "
                "the events (step) and cut those"
            )

    def add_columns(self, columns: Columns) -> int:
        """Add events that are listed already, sorted; returns how many."""
        count = len(columns.t)
        voxelize(
            *columns[:4],
            bins=self.bins,
            ranges=np.array([[0, count]]),
            placement=self.placement,
            layout=self.layout,
            out=self.out,
            accumulate=True,
            backend="cpu",
        )
        return count


@njit(**INLINE)
def _share(time: float, rule: Rule) -> tuple[int, int, float, float]:
    """The two bins of an event, inside the grid, and the parts they get."""
    tau = rule.steps * (time - rule.start) / rule.duration + rule.offset
    last = rule.bins - 1
    # Far outside is as good as just outside, and fits an integer.
    floor = np.floor(min(max(tau, -2.0), rule.bins + 1.0))
    low: Any = np.int64(floor)
    high = low + 1
    part = tau - floor
    if not rule.linear:
        part = 0.0
        high = low
        if rule.clamp:
            low = min(max(low, 0), last)
    elif rule.clamp:
        low = min(max(low, 0), last)
        high = min(low + 1, last)
        part = 1.0 - max(0.0, 1.0 - abs(low - tau))
    low_part = 1.0 - part if 0 <= low <= last else 0.0
    high_part = part if 0 <= high <= last else 0.0
    return min(max(low, 0), last), min(max(high, 0), last), low_part, high_part


@njit(**LOOP)
def _fill_shares(origin: float, rule: Rule, shares: Shares) -> None:
    for slot in range(shares.low.size):
        low, high, low_part, high_part = _share(origin + slot, rule)
        shares.low[slot], shares.high[slot] = low * rule.stride, high * rule.stride
        shares.low_part[slot], shares.high_part[slot] = low_part, high_part


@njit(**LOOP)
def add_listed(
    times: NDArray[np.int64],
    keys: NDArray[np.uint64],
    column_shift: int,
    origin: int,
    rule: Rule,
    width: int,
    out: NDArray[Any],
) -> None:
    """Add events in any order; key = y << 32 | x << column_shift | p << 2 | label, times after `origin`.

    out: flat.
    """
    for i in range(times.size):
        low, high, low_part, high_part = _share(np.float64(origin + times[i]), rule)
        key = keys[i]
        row = np.int64(key >> np.uint64(32))
        column = np.int64((key & np.uint64(0xFFFFFFFF)) >> np.uint64(column_shift))
        on = (key & np.uint64(4)) > np.uint64(0)
        place = row * width + column + (rule.on if on else rule.off)
        sign = 1 if on else rule.sign
        out[place + low * rule.stride] += out.dtype.type(sign * low_part)
        out[place + high * rule.stride] += out.dtype.type(sign * high_part)
