"""ICNS's pixel: first-order photoreceptor, solved exactly, with latency and jitter (Joubert et al. 2021).

Light I = white_level DN / 255, V = ln(I + 1), time constant 1000 tau / (I + 1). The photoreceptor v goes
towards V of the frame that ends the interval. Where v has moved by the threshold since the last reset, an
event leaves after the latency; its delay after the last change of course is normal with mean
latency - tau ln(1 - share) and variance jitter^2 + (threshold spread tau / (V - v))^2, within 0 to 10 ms. The
pixel then is blind until the dead time after the event ends, which resets it to its v of that moment; its
threshold of that polarity is drawn anew. Noise events are periodic, with a random phase for each pixel and
polarity; each settles its pixel (v = V) and is neither stopped by nor counted for the dead time.

An event that leaves after the end of the interval is kept and delivered in the interval it falls into; there
is at most one such per pixel.
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
from evsim.kernels.philox import random_words
from evsim.sensor.config import SMALLEST_THRESHOLD, ThresholdConfig
from evsim.sensor.fields import RandomFields
from evsim.sensor.frames import FULL_SCALE_DN
from evsim.sensor.listing import Listing, put, slot_at
from evsim.sensor.per_pixel import PerPixelModel, key_words, slot_offset
from evsim.sensor.variates import draw_block, exp_minus, normal_pair_fast
from evsim.sensor.vector import LANES, append_above, float_of, natural_log, select

LATENCIES = np.uint32(3)
ON_PHASE, OFF_PHASE = 20, 21  # purposes of the whole plane, like those of the fixed pattern
ON, OFF, NOISE = 4, 0, 1
LATENCY_US, JITTER_US = 100.0, 10.0  # ICNS's example
LONGEST_DELAY_US = 10_000.0
MARGIN_STEPS = 4
"""Of 2^-32 of the noise period."""
LEAST_WAIT_US = 1e-6
"""An event in flight stays later than the end of its interval whatever float32 rounds to."""


@dataclass(frozen=True, kw_only=True)
class IcnsConfig(ThresholdConfig):
    """ICNS's pixel; the shared defaults are v2e's, so start from the preset."""

    model: Literal["icns"] = "icns"
    """Pixel model."""
    white_level: float = 1e4
    """Light of 255 DN, in the unit of which 1000 makes the filter as slow as time_constant_us."""
    time_constant_us: float = 40.0
    """Of the photoreceptor low-pass at light 1000; inversely proportional to light + 1."""
    noise_rate_on_hz: float = 0.1
    """ON noise events per pixel and second, periodic with a random phase per pixel."""
    noise_rate_off_hz: float = 0.01
    """OFF noise events per pixel and second, periodic with a random phase per pixel."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low, high in (
            ("white_level", 1.0, 1e9),
            ("time_constant_us", 0.01, 1e6),
            ("noise_rate_on_hz", 0, 1e4),
            ("noise_rate_off_hz", 0, 1e4),
        ):
            require_range(name, getattr(self, name), low, high)

    @property
    def readout_latency_us(self) -> tuple[float, float]:
        """Mean and deviation of the delay behind the pixels: none, these have one inside."""
        return 0.0, 0.0

    def create_pixels(
        self, size: tuple[int, int], key: int, given: RandomFields, threads: int, recycle: bool
    ) -> IcnsPixels:
        """The pixels of one sensor; see `SensorConfig.create_pixels`."""
        return IcnsPixels(self, size, key, given, threads, recycle)


class Planes(NamedTuple):
    """State of the pixels, (H, W).

    low_pass: v. base: v at the last reset. fired: time of the last event minus the time of the last frame,
    microseconds; above 0 it is still in flight. rising: its polarity. phase_on, phase_off: of the noise, as
    fractions of 2^32 of the period.
    """

    low_pass: NDArray[np.float32]
    base: NDArray[np.float32]
    theta_on: NDArray[np.float32]
    theta_off: NDArray[np.float32]
    fired: NDArray[np.float32]
    rising: NDArray[np.bool_]
    phase_on: NDArray[np.uint32]
    phase_off: NDArray[np.uint32]


class IcnsPass(NamedTuple):
    """One pass. Times in microseconds; position_*: of its start in the noise period, which is 0 for none."""

    key_low: np.uint32
    key_high: np.uint32
    index: np.uint32
    length: float
    offset: float
    slots: int
    light: float
    time_constant: float
    latency: float
    jitter: float
    dead_time: float
    theta_on: float
    theta_off: float
    spread: float
    period_on: float
    position_on: float
    period_off: float
    position_off: float


class Scratch(NamedTuple):
    """Rows of each block, (blocks, W).

    target: V of the frame. keep: what is left of the way to it after the interval. closer: 1 for pixels to
    look at. column: 0, 1, 2 ... . columns: those to look at, left[block] of them; first, second: two normal
    numbers for each of those.
    """

    target: NDArray[np.float32]
    keep: NDArray[np.float32]
    closer: NDArray[np.int32]
    column: NDArray[np.uint32]
    columns: NDArray[np.uint32]
    first: NDArray[np.float32]
    second: NDArray[np.float32]
    left: NDArray[np.int64]


@njit(**LOOP)
def run_blocks(
    frame: NDArray[Any],
    scale: float,
    table: NDArray[np.uint64],
    planes: Planes,
    now: IcnsPass,
    scratch: Scratch,
    listing: Listing,
    first: int,
    last: int,
) -> None:
    """Events of the rows of blocks first..last - 1.

    scale: from values of the frame to DN. table: float32 target and keep in the low and high half, for every
    code; empty for float frames.
    """
    height = frame.shape[0]
    blocks = listing.used.size
    for block in range(first, last):
        y, i = listing.row[block], listing.column[block]
        end = (block + 1) * height // blocks
        used = listing.used[block]
        listing.stopped[block] = False
        while y < end:
            if i < 0:
                _mark_row(block, y, frame[y], scale, table, planes, now, scratch)
                i = 0
            while i < scratch.left[block]:
                x = np.int64(scratch.columns[block, i])
                dn = np.float64(frame[y, x]) * scale
                place = _run_pixel(block, used, y, x, i, dn, planes, now, scratch, listing)
                if place < 0:
                    break
                used = place
                i += 1
            if i < scratch.left[block]:
                listing.stopped[block] = True
                break
            i = -1
            y += 1
        listing.used[block], listing.row[block], listing.column[block] = used, y, i


@njit(**LOOP)
def _mark_row(
    block: int,
    y: int,
    values: NDArray[Any],
    scale: float,
    table: NDArray[np.uint64],
    planes: Planes,
    now: IcnsPass,
    scratch: Scratch,
) -> None:
    """Move the pixels to which nothing happens; list the others and draw their first numbers."""
    closer, columns = scratch.closer[block], scratch.columns[block]
    target, keep = scratch.target[block], scratch.keep[block]
    if table.size:
        for x in range(values.size):
            entry = table[np.int64(values[x])]
            target[x] = float_of(np.int32(entry))
            keep[x] = float_of(np.int32(entry >> np.uint64(32)))
    else:
        light, one = np.float32(now.light * scale), np.float32(1)
        speed = np.float32(now.length / (now.time_constant * 1e3))
        for x in range(values.size):
            bright = np.float32(values[x]) * light + one
            target[x] = natural_log(bright)
            keep[x] = exp_minus(speed * bright)
    for x in range(closer.size):
        closer[x] = np.int32(0)
    if now.period_on > 0.0:
        _mark_noise(planes.phase_on[y], now.period_on, now.position_on, now.length, closer)
    if now.period_off > 0.0:
        _mark_noise(planes.phase_off[y], now.period_off, now.position_off, now.length, closer)
    _filter_row(
        target,
        keep,
        planes.low_pass[y],
        planes.base[y],
        planes.theta_on[y],
        planes.theta_off[y],
        planes.fired[y],
        now,
        closer,
    )
    left = append_above(closer, np.int32(0), scratch.column[block], columns, 0, True)
    scratch.left[block] = left
    first, second = scratch.first[block], scratch.second[block]
    for i in range(left):
        w0, w1, _, _ = draw_block(columns[i], y, 0, now.index, LATENCIES, now.key_low, now.key_high)
        first[i], second[i] = normal_pair_fast(w0, w1)


@njit(**INLINE)
def _mark_noise(
    phase: NDArray[np.uint32], period: float, position: float, length: float, closer: NDArray[np.int32]
) -> None:
    """Mark pixels whose noise may be due: in whole steps of the phase, a little more than the interval."""
    steps = 2.0**32 / period
    begin = np.uint32(np.int64(position * steps) - MARGIN_STEPS)
    reach = np.uint32(min(np.int64(length * steps) + 2 * MARGIN_STEPS, np.int64(0xFFFFFFFF)))
    for x in range(phase.size):
        due = np.uint32(phase[x] - begin) <= reach
        closer[x] = select(due, np.int32(1), closer[x])


@njit(**INLINE)
def _noise_due(phase: Any, period: float, position: float) -> float:
    """Microseconds (above 0) until the next noise event."""
    wait = np.float64(phase) * (period * 2.0**-32) - position
    return select(wait > 0.0, wait, wait + period)


@njit(**INLINE)
def _filter_row(
    target: NDArray[np.float32],
    keep: NDArray[np.float32],
    low_pass: NDArray[np.float32],
    base: NDArray[np.float32],
    theta_on: NDArray[np.float32],
    theta_off: NDArray[np.float32],
    fired: NDArray[np.float32],
    now: IcnsPass,
    closer: NDArray[np.int32],
) -> None:
    dead, length = np.float32(now.dead_time), np.float32(now.length)
    for x in range(target.size):
        v = low_pass[x]
        end = target[x] + (v - target[x]) * keep[x]
        moved = end - base[x]
        look = (moved > theta_on[x]) | (moved < -theta_off[x]) | (fired[x] + dead > np.float32(0))
        look = look | (closer[x] > np.int32(0))
        closer[x] = select(look, np.int32(1), np.int32(0))
        low_pass[x] = select(look, v, end)
        fired[x] = fired[x] - select(look, np.float32(0), length)


@njit(**INLINE)
def _run_pixel(
    block: int,
    used: int,
    y: int,
    x: int,
    i: int,
    dn: float,
    planes: Planes,
    now: IcnsPass,
    scratch: Scratch,
    listing: Listing,
) -> int:
    """The next free place, or -1 without any change if the events of the pixel found no room."""
    bright = np.float64(dn) * now.light + 1.0
    target, tau = math.log(bright), now.time_constant * 1e3 / bright
    v, base = np.float64(planes.low_pass[y, x]), np.float64(planes.base[y, x])
    theta_on, theta_off = np.float64(planes.theta_on[y, x]), np.float64(planes.theta_off[y, x])
    fired, rising = np.float64(planes.fired[y, x]), planes.rising[y, x]
    noise_on = noise_off = np.inf
    if now.period_on > 0.0:
        noise_on = _noise_due(planes.phase_on[y, x], now.period_on, now.position_on)
    if now.period_off > 0.0:
        noise_off = _noise_due(planes.phase_off[y, x], now.period_off, now.position_off)
    t, place, fires = 0.0, used, 0
    if 0.0 < fired <= now.length:
        place = put(block, place, slot_at(fired, now.offset, now.slots), y, x, ON if rising else OFF, listing)
    blind = fired + now.dead_time > 0.0
    while True:
        border = min(min(noise_on, noise_off), now.length)
        if blind and fired + now.dead_time <= border:
            t_end = max(fired + now.dead_time, t)
            v = target + (v - target) * math.exp((t - t_end) / tau)
            base, t, blind = v, t_end, False
        elif not blind and _crosses(v, target, base, theta_on, theta_off, border - t, tau):
            rising = target > v
            step = base + (theta_on if rising else -theta_off) - v
            share = min(max(step / (target - v), 0.0), 1.0 - 1e-12)
            first, second = scratch.first[block, i], scratch.second[block, i]
            if fires > 0:
                w0, w1, _, _ = draw_block(x, y, fires, now.index, LATENCIES, now.key_low, now.key_high)
                first, second = normal_pair_fast(w0, w1)
            fires += 1
            deviation = math.sqrt(now.jitter**2 + (now.spread * tau / (target - v)) ** 2)
            delay = now.latency - tau * math.log1p(-share) + deviation * first
            fired = t + min(max(delay, 0.0), LONGEST_DELAY_US)
            if rising:
                theta_on = max(now.theta_on + now.spread * second, SMALLEST_THRESHOLD)
            else:
                theta_off = max(now.theta_off + now.spread * second, SMALLEST_THRESHOLD)
            blind = True
            if fired <= now.length:
                slot = slot_at(fired, now.offset, now.slots)
                place = put(block, place, slot, y, x, ON if rising else OFF, listing)
        elif border < now.length or min(noise_on, noise_off) <= border:
            kind = (ON if noise_on <= noise_off else OFF) | NOISE
            place = put(block, place, slot_at(border, now.offset, now.slots), y, x, kind, listing)
            if noise_on <= noise_off:
                noise_on += now.period_on
            else:
                noise_off += now.period_off
            v = base = target
            t = border
        else:
            break
    if place > listing.slot.shape[1]:
        return -1
    planes.low_pass[y, x] = target + (v - target) * math.exp((t - now.length) / tau)
    planes.base[y, x] = base
    planes.theta_on[y, x], planes.theta_off[y, x] = theta_on, theta_off
    planes.rising[y, x] = rising
    in_flight = fired > now.length
    fired -= now.length
    planes.fired[y, x] = max(fired, LEAST_WAIT_US) if in_flight else fired
    return place


@njit(**INLINE)
def _crosses(
    v: float, target: float, base: float, theta_on: float, theta_off: float, wait: float, tau: float
) -> bool:
    """Whether v, on its way to the target, passes a threshold within `wait` microseconds."""
    moved = v - (target - v) * math.expm1(-wait / tau) - base
    return moved > theta_on if target > v else moved < -theta_off


class IcnsPixels(PerPixelModel):
    """The state of ICNS's pixels and one pass over it: float32, single pixels that fire float64."""

    _config: IcnsConfig
    LARGEST_DN = 1e6
    """Beyond, pixels would fire more than once a microsecond and float32 overflow."""

    def start(self, frame: NDArray[Any], t_ns: int, *, first: bool) -> None:
        """Take `frame` as settled; events in flight are gone. `first`: also set the origin of times."""
        if first:
            self._origin_ns = t_ns
        level = self.log_intensity(frame)
        self._planes["low_pass"][:] = level
        self._planes["base"][:] = level
        self._planes["fired"][:] = -np.inf

    def log_intensity(self, frame: NDArray[Any]) -> NDArray[np.float32]:
        """float32 (H, W): ln(I + 1) of a checked frame."""
        dn = np.empty(frame.shape, np.float32)
        self._read_dn(frame, dn)
        return np.log1p(dn.astype(np.float64) * self._light).astype(np.float32)

    @property
    def _light(self) -> float:
        return self._config.white_level / FULL_SCALE_DN

    def _make_planes(self, pattern: RandomFields) -> dict[str, NDArray[Any]]:
        config, (width, height) = self._config, self._size
        row = (self._blocks, width)
        self._scratch = Scratch(
            np.zeros(row, np.float32),
            np.zeros(row, np.float32),
            np.zeros(row, np.int32),
            np.tile(np.arange(width, dtype=np.uint32), (self._blocks, 1)),
            np.zeros((self._blocks, width + LANES), np.uint32),
            np.zeros(row, np.float32),
            np.zeros(row, np.float32),
            np.zeros(self._blocks, np.int64),
        )
        thresholds = [
            np.full((height, width), nominal, np.float32) if field is None else field.astype(np.float32)
            for field, nominal in (
                (pattern.threshold_on, config.contrast_threshold_on),
                (pattern.threshold_off, config.contrast_threshold_off),
            )
        ]
        phases = [
            random_words(self._key, self._size, 0, purpose) if rate > 0 else np.zeros((1, 1), np.uint32)
            for rate, purpose in ((config.noise_rate_on_hz, ON_PHASE), (config.noise_rate_off_hz, OFF_PHASE))
        ]
        return Planes(
            np.zeros((height, width), np.float32),
            np.zeros((height, width), np.float32),
            *thresholds,
            np.full((height, width), -np.inf, np.float32),
            np.zeros((height, width), np.bool_),
            *phases,
        )._asdict()

    def _advance(self, frame: NDArray[Any], t0_ns: int, t1_ns: int, index: int) -> None:
        config = self._config
        now = IcnsPass(
            *key_words(self._key),
            np.uint32(index & 0xFFFFFFFF),
            (t1_ns - t0_ns) / 1000,
            slot_offset(t0_ns),
            t1_ns // 1000 - t0_ns // 1000,
            self._light,
            config.time_constant_us,
            LATENCY_US if config.latency_us is None else config.latency_us,
            JITTER_US if config.latency_jitter_us is None else config.latency_jitter_us,
            config.refractory_period_us,
            config.contrast_threshold_on,
            config.contrast_threshold_off,
            config.contrast_threshold_spread,
            *_noise_clock(config.noise_rate_on_hz, t0_ns - self._origin_ns),
            *_noise_clock(config.noise_rate_off_hz, t0_ns - self._origin_ns),
        )
        scale = self._dn_scale(frame)
        table = self._table(frame, scale, now)
        self._list_events(run_blocks, frame, scale, table, Planes(**self._planes), now, self._scratch)

    def _table(self, frame: NDArray[Any], scale: float, now: IcnsPass) -> NDArray[np.uint64]:
        """Target and remaining part of the way for every code; empty for float frames."""
        if frame.dtype.kind == "f":
            return np.empty(0, np.uint64)
        bright = np.arange(np.iinfo(frame.dtype).max + 1) * (scale * now.light) + 1.0
        keep = np.exp(-now.length / (now.time_constant * 1e3) * bright)
        low, high = (part.astype(np.float32).view(np.uint32) for part in (np.log(bright), keep))
        return (high.astype(np.uint64) << np.uint64(32)) | low


def _noise_clock(rate_hz: float, elapsed_ns: int) -> tuple[float, float]:
    """Period of noise of a rate and the position in it, both in microseconds; 0, 0 without noise."""
    if rate_hz == 0:
        return 0.0, 0.0
    period_ns = round(1e9 / rate_hz)
    return period_ns / 1000, (elapsed_ns % period_ns) / 1000


PIXEL_MODEL = IcnsConfig
