"""ESIM's pixel: ideal logarithmic response, crossing times in closed form (Rebecq et al. 2018).

L = ln(I + offset), I within 0..1. The reference is the level of the last crossing. An interval has
n = floor(|L1 - reference| / C) crossings, the k-th where the straight line from L0 to L1 reaches
reference + k C; what was already due at L0 fires at the start of the interval, so that a reference that lags
behind catches up. A crossing within the dead time moves the reference but is no event.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evsim.configuration import require_range
from evsim.kernels.compiled import INLINE, LOOP
from evsim.sensor.config import ThresholdConfig
from evsim.sensor.fields import RandomFields
from evsim.sensor.frames import FULL_SCALE_DN, dn_scale
from evsim.sensor.listing import Listing, put, slot_at
from evsim.sensor.per_pixel import PerPixelModel, field_plane, slot_offset

ON_SIGNAL, OFF_SIGNAL = 4, 0


@dataclass(frozen=True, kw_only=True)
class EsimConfig(ThresholdConfig):
    """ESIM's ideal pixel; the shared defaults are v2e's."""

    model: Literal["esim"] = "esim"
    """Pixel model."""
    log_offset: float = 1e-3
    """Added to intensity (255 DN is 1) before the logarithm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("log_offset", self.log_offset, 1e-9, 1.0)

    def create_pixels(
        self, size: tuple[int, int], key: int, given: RandomFields, threads: int, recycle: bool
    ) -> EsimPixels:
        """The pixels of one sensor; see `SensorConfig.create_pixels`."""
        return EsimPixels(self, size, key, given, threads, recycle)


class Planes(NamedTuple):
    """State of the pixels, (H, W) or (1, W) where uniform; last_event in microseconds since the origin."""

    low_pass: NDArray[np.float64]
    base: NDArray[np.float64]
    theta_on: NDArray[np.float32]
    theta_off: NDArray[np.float32]
    last_event: NDArray[np.float64]


class EsimPass(NamedTuple):
    """One pass: length and start in microseconds, rounding of times, slots; dead_time < 0: none."""

    length: float
    start: float
    offset: float
    slots: int
    dead_time: float


@njit(**LOOP)
def look_up(
    codes: NDArray[Any], table: NDArray[np.float64], out: NDArray[np.float64], first: int, last: int
) -> None:
    """Log intensity of rows of whole-number codes."""
    for y in range(first, last):
        for x in range(codes.shape[1]):
            out[y, x] = table[codes[y, x]]


@njit(**LOOP)
def take_log(
    values: NDArray[Any], scale: float, offset: float, out: NDArray[np.float64], first: int, last: int
) -> None:
    """Log intensity of rows of float values."""
    for y in range(first, last):
        for x in range(values.shape[1]):
            out[y, x] = math.log(values[y, x] * scale + offset)


@njit(**LOOP)
def run_blocks(
    after: NDArray[np.float64],
    planes: Planes,
    now: EsimPass,
    closer: NDArray[np.bool_],
    listing: Listing,
    first: int,
    last: int,
) -> None:
    """Events of the rows of blocks first..last - 1."""
    height, width = after.shape
    blocks = listing.used.size
    for block in range(first, last):
        y, x = listing.row[block], listing.column[block]
        end = (block + 1) * height // blocks
        used = listing.used[block]
        listing.stopped[block] = False
        while y < end:
            if x < 0:
                _mark_row(y, after[y], planes, closer[block])
                x = 0
            while x < width:
                if closer[block, x]:
                    place = _run_pixel(block, used, y, x, after[y, x], planes, now, listing)
                    if place < 0:
                        break
                    used = place
                x += 1
            if x < width:
                listing.stopped[block] = True
                break
            x = -1
            y += 1
        listing.used[block], listing.row[block], listing.column[block] = used, y, x


@njit(**LOOP)
def _mark_row(y: int, level: NDArray[np.float64], planes: Planes, closer: NDArray[np.bool_]) -> None:
    """Mark the pixels whose signal has reached a threshold."""
    base = planes.base[y]
    theta_on = planes.theta_on[min(y, planes.theta_on.shape[0] - 1)]
    theta_off = planes.theta_off[min(y, planes.theta_off.shape[0] - 1)]
    for x in range(level.size):
        change = level[x] - base[x]
        closer[x] = (change >= theta_on[x]) | (change <= -theta_off[x])


@njit(**INLINE)
def _run_pixel(
    block: int,
    used: int,
    y: int,
    x: int,
    level: float,
    planes: Planes,
    now: EsimPass,
    listing: Listing,
) -> int:
    """The next free place, or -1 without any change if the events of the pixel found no room."""
    before, reference = planes.low_pass[y, x], planes.base[y, x]
    rising = level >= reference
    if rising:
        threshold = np.float64(planes.theta_on[min(y, planes.theta_on.shape[0] - 1), x])
    else:
        threshold = -np.float64(planes.theta_off[min(y, planes.theta_off.shape[0] - 1), x])
    count = np.int64((level - reference) / threshold)
    kind = ON_SIGNAL if rising else OFF_SIGNAL
    rise = level - before
    last = planes.last_event[y, x] if now.dead_time >= 0 else 0.0
    place = used
    for k in range(1, count + 1):
        way = reference + k * threshold - before
        # What the signal had passed before the interval was due at its start.
        share = min(way / rise, 1.0) if way * threshold > 0.0 else 0.0
        time = share * now.length
        if now.dead_time >= 0:
            if not now.start + time - last > now.dead_time:
                continue
            last = now.start + time
        place = put(block, place, slot_at(time, now.offset, now.slots), y, x, kind, listing)
    if place > listing.slot.shape[1]:
        return -1
    if now.dead_time >= 0:
        planes.last_event[y, x] = last
    planes.base[y, x] = reference + count * threshold
    return place


class EsimPixels(PerPixelModel):
    """The state of ESIM's pixels and one pass over it, all in float64."""

    PATTERN = ("theta_on", "theta_off")
    _config: EsimConfig

    def start(self, frame: NDArray[Any], t_ns: int, *, first: bool) -> None:
        """Take `frame` as settled: all pixels rest at its level. `first`: also set the origin of times."""
        if first:
            self._origin_ns = t_ns
        level = self._planes["low_pass"]
        self._take_log(frame, level)
        self._planes["base"][:] = level

    def log_intensity(self, frame: NDArray[Any]) -> NDArray[np.float32]:
        """float32 (H, W): ln(I + offset) of a checked frame."""
        result = np.empty(frame.shape, np.float64)
        self._take_log(frame, result)
        return result.astype(np.float32)

    def _make_planes(self, pattern: RandomFields) -> dict[str, NDArray[Any]]:
        config, (width, height) = self._config, self._size
        self._after = np.zeros((height, width))
        self._closer = np.zeros((self._blocks, width), np.bool_)
        self._tables: dict[int, NDArray[np.float64]] = {}
        fires = (height, width) if config.refractory_period_us > 0 else (1, 1)
        return Planes(
            np.zeros((height, width)),
            np.zeros((height, width)),
            field_plane(pattern.threshold_on, config.contrast_threshold_on, width),
            field_plane(pattern.threshold_off, config.contrast_threshold_off, width),
            np.full(fires, -np.inf),
        )._asdict()

    def _advance(self, frame: NDArray[Any], t0_ns: int, t1_ns: int, index: int) -> None:
        dead_time = self._config.refractory_period_us
        now = EsimPass(
            (t1_ns - t0_ns) / 1000,
            (t0_ns - self._origin_ns) / 1000,
            slot_offset(t0_ns),
            t1_ns // 1000 - t0_ns // 1000,
            dead_time if dead_time > 0 else -1.0,
        )
        self._take_log(frame, self._after)
        self._list_events(run_blocks, self._after, Planes(**self._planes), now, self._closer)
        self._planes["low_pass"], self._after = self._after, self._planes["low_pass"]

    def _take_log(self, frame: NDArray[Any], out: NDArray[np.float64]) -> None:
        scale = dn_scale(frame, self._config.float_full_scale) / FULL_SCALE_DN
        offset, height = self._config.log_offset, frame.shape[0]
        if frame.dtype.kind == "f":
            self._bands.split(take_log, height, self._blocks, frame, scale, offset, out)
            return
        codes = np.iinfo(frame.dtype).max + 1
        if codes not in self._tables:
            self._tables[codes] = np.log(np.arange(codes) * scale + offset)
        self._bands.split(look_up, height, self._blocks, frame, self._tables[codes], out)


PIXEL_MODEL = EsimConfig
