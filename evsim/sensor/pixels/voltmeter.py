"""DVS-Voltmeter's pixel: a Brownian motion with drift between two thresholds (Lin et al. 2022).

With L in DN, time in microseconds and M = (L0 + L1) / 2, the voltage since the last event drifts by
mu = k1 (L1 - L0) / dT / (M + k2) + k4 + k5 M and spreads by sigma = k3 sqrt(M) / (M + k2) + k6; it fires ON
at +1, OFF at -1. Per exit: the side from the two-sided exit probability, then the waiting time to that side
from the inverse Gaussian law (without drift: Levy's); for the side against the drift the published draw, a
normal truncated to where the law has a real root. If the exit lies beyond the interval, the voltage moves
the linear share of the way.

The law is evaluated as tau = d / (c + A + sqrt(A (2 c + A))), A = sigma^2 X^2 / (2 d), for distance d, drift
c towards it and X normal: free of cancellation, and without drift exactly Levy's law.
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
from evsim.kernels.philox.cpu import LANES, fill_blocks
from evsim.sensor.config import SensorConfig
from evsim.sensor.fields import RandomFields
from evsim.sensor.listing import Listing
from evsim.sensor.per_pixel import PerPixelModel, key_words, slot_offset
from evsim.sensor.variates import draw_block, fraction, normal_pair, squared_normal
from evsim.sensor.vector import select

EXITS, TAILS = np.uint32(1), np.uint32(2)
ON_SIGNAL, OFF_SIGNAL = 4, 0
CERTAIN = np.float32(24.0)
"""From this exponent on the unlikely side has a probability below 2^-32."""
NEARLY = np.float32(1.0001)
"""Exits a little beyond the interval are left to the exact computation, too."""
CLOSEST = 1e-6
"""Least distance to a threshold."""


@dataclass(frozen=True, kw_only=True)
class VoltmeterConfig(SensorConfig):
    """DVS-Voltmeter's pixel; the defaults are its authors' calibration of a DVS346."""

    model: Literal["voltmeter"] = "voltmeter"
    """Pixel model."""
    voltmeter_gain: float = 5.265
    """k1: drift of the voltage per DN of change, times (DN + dark level); threshold 1."""
    voltmeter_dark_level: float = 20.0
    """k2: DN that the dark current amounts to."""
    voltmeter_photon_noise: float = 1e-4
    """k3: voltage noise per root of microsecond, times sqrt(DN) / (DN + dark level)."""
    voltmeter_leak: float = 1e-7
    """k4: drift per microsecond in the dark."""
    voltmeter_light_leak: float = 5e-9
    """k5: drift per microsecond and DN (parasitic photocurrent)."""
    voltmeter_noise_floor: float = 1e-5
    """k6: voltage noise per root of microsecond in the dark."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low, high in (
            ("voltmeter_gain", 0, 1e3),
            ("voltmeter_dark_level", 1.0, 1e4),
            ("voltmeter_photon_noise", 0, 1.0),
            ("voltmeter_leak", 0, 1.0),
            ("voltmeter_light_leak", 0, 1e-6),
            ("voltmeter_noise_floor", 0, 1.0),
        ):
            require_range(name, getattr(self, name), low, high)

    @property
    def compares_log_intensity(self) -> bool:
        """Whether what the comparator sees lies on the scale of log intensity: it is a voltage."""
        return False

    def create_pixels(
        self, size: tuple[int, int], key: int, given: RandomFields, threads: int, recycle: bool
    ) -> VoltmeterPixels:
        """The pixels of one sensor; see `SensorConfig.create_pixels`."""
        return VoltmeterPixels(self, size, key, given, threads, recycle)


class Planes(NamedTuple):
    """State of the pixels, (H, W): DN of the last frame, voltage since the last event (-1..1)."""

    level: NDArray[np.float32]
    voltage: NDArray[np.float32]


class VoltmeterPass(NamedTuple):
    """One pass: key, index, length in microseconds, rounding of times, slots, and k1..k6."""

    key_low: np.uint32
    key_high: np.uint32
    index: np.uint32
    length: float
    offset: float
    slots: int
    gain: float
    dark_level: float
    photon_noise: float
    leak: float
    light_leak: float
    noise_floor: float


class Scratch(NamedTuple):
    """Per block and column: four random words, the square of a normal number, whether to look closer.

    Then, for the columns that are looked at: which they are, what they drift by, where they are, their draws,
    the side, distance, waiting time, moment and slot of their next exit; and by column again the voltage that
    they end with.
    """

    words0: NDArray[np.uint32]
    words1: NDArray[np.uint32]
    words2: NDArray[np.uint32]
    words3: NDArray[np.uint32]
    squared: NDArray[np.float32]
    closer: NDArray[np.bool_]
    columns: NDArray[np.int64]
    drift: NDArray[np.float64]
    variance: NDArray[np.float64]
    time: NDArray[np.float64]
    volts: NDArray[np.float64]
    square: NDArray[np.float64]
    accept: NDArray[np.float64]
    choice: NDArray[np.float64]
    side: NDArray[np.float64]
    gap: NDArray[np.float64]
    wait: NDArray[np.float64]
    until: NDArray[np.float64]
    place: NDArray[np.int64]
    final: NDArray[np.float32]


@njit(**LOOP)
def run_blocks(
    after: NDArray[np.float32],
    planes: Planes,
    now: VoltmeterPass,
    scratch: Scratch,
    listing: Listing,
    first: int,
    last: int,
) -> None:
    """Events of the rows of blocks first..last - 1."""
    height = after.shape[0]
    blocks = listing.used.size
    for block in range(first, last):
        y, x = listing.row[block], listing.column[block]
        end = (block + 1) * height // blocks
        used = listing.used[block]
        listing.stopped[block] = False
        while y < end:
            if x < 0:
                _draw_row(block, y, now, scratch)
                _drift_row(block, planes.level[y], after[y], planes.voltage[y], now, scratch)
                x = 0
            place = _fire_row(block, used, y, after[y], planes, now, scratch, listing)
            if place < 0:
                listing.stopped[block] = True
                break
            used = place
            x = -1
            y += 1
        listing.used[block], listing.row[block], listing.column[block] = used, y, x


@njit(**LOOP)
def _draw_row(block: int, y: int, now: VoltmeterPass, scratch: Scratch) -> None:
    words0, words1 = scratch.words0[block], scratch.words1[block]
    words2, words3 = scratch.words2[block], scratch.words3[block]
    fill_blocks(
        now.key_low,
        now.key_high,
        np.uint32(0),
        np.uint32(y),
        now.index,
        EXITS,
        words0,
        words1,
        words2,
        words3,
    )
    squared = scratch.squared[block]
    for x in range(squared.size):
        squared[x] = squared_normal(words0[x], words1[x])


@njit(**LOOP)
def _drift_row(
    block: int,
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    voltage: NDArray[np.float32],
    now: VoltmeterPass,
    scratch: Scratch,
) -> None:
    """Move the pixels that surely do not fire; mark the others."""
    one, two, zero = np.float32(1), np.float32(2), np.float32(0)
    length, margin = np.float32(now.length), np.float32(now.length) * NEARLY
    rate, dark = np.float32(now.gain / now.length), np.float32(now.dark_level)
    leak, light_leak = np.float32(now.leak), np.float32(now.light_leak)
    photon, floor = np.float32(now.photon_noise), np.float32(now.noise_floor)
    squared, word, closer = scratch.squared[block], scratch.words2[block], scratch.closer[block]
    for x in range(voltage.size):
        middle = np.float32(0.5) * (before[x] + after[x])
        response = one / (middle + dark)
        drift = rate * (after[x] - before[x]) * response + leak + light_leak * middle
        sigma = photon * np.sqrt(middle) * response + floor
        variance = sigma * sigma
        v = voltage[x]
        c = abs(drift)
        side = select(drift > zero, one, -one)
        gap = one - side * v
        d = select(gap > np.float32(CLOSEST), gap, np.float32(CLOSEST))
        a = variance * squared[x] / (two * d)
        tau = d / (c + a + np.sqrt(a * (two * c + a)))
        cz = c * tau
        u = (np.float32(np.int32(word[x] >> np.uint32(8))) + np.float32(0.5)) * np.float32(2.0**-24)
        # The other root; the nearer one is taken with probability d / (d + c tau).
        tau = select(u * (d + cz) > d * NEARLY, d * d / (c * cz), tau)
        likely = two * c * (two - d) >= CERTAIN * variance
        closer[x] = not (likely and tau > margin)
        moved = v + side * (d * (length / tau))
        voltage[x] = select(closer[x], v, moved)


@njit(**INLINE)
def _fire_row(
    block: int,
    used: int,
    y: int,
    after: NDArray[np.float32],
    planes: Planes,
    now: VoltmeterPass,
    scratch: Scratch,
    listing: Listing,
) -> int:
    """The next free place, or -1 without any change of state if the events of the row found no room.

    Works in rounds, one exit per pixel, on the columns that are left: no branch has to be guessed.
    """
    before, voltage, closer = planes.level[y], planes.voltage[y], scratch.closer[block]
    columns, drifts, variances = scratch.columns[block], scratch.drift[block], scratch.variance[block]
    times, volts, final = scratch.time[block], scratch.volts[block], scratch.final[block]
    squares, accepts, choices = scratch.square[block], scratch.accept[block], scratch.choice[block]
    sides, gaps, waits = scratch.side[block], scratch.gap[block], scratch.wait[block]
    until, places = scratch.until[block], scratch.place[block]
    slots, keys = listing.slot[block], listing.key[block]
    left = 0
    for x in range(after.size):
        columns[left] = x
        left += closer[x]
    for i in range(left):
        x = columns[i]
        middle = 0.5 * (np.float64(before[x]) + after[x])
        response = 1.0 / (middle + now.dark_level)
        change = np.float64(after[x]) - before[x]
        drifts[i] = now.gain * change / now.length * response + now.leak + now.light_leak * middle
        variances[i] = (now.photon_noise * math.sqrt(middle) * response + now.noise_floor) ** 2
        times[i], volts[i] = 0.0, voltage[x]
        squares[i] = scratch.squared[block, x]
        accepts[i], choices[i] = fraction(scratch.words2[block, x]), fraction(scratch.words3[block, x])
    exits = 0
    while left > 0:
        if used + left > slots.size:
            return -1
        _take_likely_exits(left, drifts, variances, volts, squares, accepts, sides, gaps, waits)
        for i in range(left):
            if 2.0 * abs(drifts[i]) * (2.0 - gaps[i]) < CERTAIN * variances[i]:
                _choose_exit(i, y, exits, now, block, scratch)
        for i in range(left):
            until[i] = times[i] + waits[i]
            final[columns[i]] = np.float32(
                volts[i] + sides[i] * gaps[i] * ((now.length - times[i]) / waits[i])
            )
        for i in range(left):
            places[i] = np.int64(min(max(np.floor(until[i] + now.offset), 0.0), now.slots - 1.0))
        kept = np.uint64(0)
        for i in range(np.uint64(left)):
            fires, place = until[i] < now.length, np.uint64(used) + kept
            slots[place] = places[i]
            kind = np.uint64(select(sides[i] > 0.0, ON_SIGNAL, OFF_SIGNAL))
            x = columns[i]
            keys[place] = (np.uint64(y) << np.uint64(32)) | (np.uint64(x) << np.uint64(16)) | kind
            columns[kept], drifts[kept], variances[kept], times[kept] = x, drifts[i], variances[i], until[i]
            kept += np.uint64(fires)
        left = np.int64(kept)
        used += left
        exits += 1
        for i in range(left):
            w0, w1, w2, w3 = draw_block(columns[i], y, exits, now.index, EXITS, now.key_low, now.key_high)
            squares[i] = squared_normal(w0, w1)
            accepts[i], choices[i], volts[i] = fraction(w2), fraction(w3), 0.0
    for x in range(after.size):
        voltage[x] = select(closer[x], final[x], voltage[x])
    return used


@njit(**INLINE)
def _likely_probability(drift: float, variance: float, v: float) -> float:
    """Probability of leaving on the side that the drift goes to (ON for a drift above 0)."""
    c = abs(drift)
    other = 1.0 + v if drift > 0.0 else 1.0 - v
    if 4.0 * c < 1e-12 * variance:
        return other / 2.0  # the limit without drift
    return math.expm1(-2.0 * c * other / variance) / math.expm1(-4.0 * c / variance)


@njit(**INLINE)
def _take_likely_exits(
    left: int,
    drifts: NDArray[np.float64],
    variances: NDArray[np.float64],
    volts: NDArray[np.float64],
    squares: NDArray[np.float64],
    accepts: NDArray[np.float64],
    sides: NDArray[np.float64],
    gaps: NDArray[np.float64],
    waits: NDArray[np.float64],
) -> None:
    """Side, distance and waiting time of exits on the side that the drift goes to."""
    for i in range(left):
        c = abs(drifts[i])
        side = select(drifts[i] > 0.0, 1.0, -1.0)
        d = 1.0 - side * volts[i]
        d = select(d > CLOSEST, d, CLOSEST)
        a = variances[i] * squares[i] / (2.0 * d)
        tau = d / (c + a + np.sqrt(a * (2.0 * c + a)))
        # The other root, as a factor: a division of its own would become a branch that cannot be guessed.
        way = c * tau
        wide = accepts[i] * (d + way) > d
        top, bottom = select(wide, d, 1.0), select(wide, way, 1.0)
        waits[i] = tau * ((top / bottom) * (top / bottom))
        sides[i], gaps[i] = side, d


@njit(**INLINE)
def _choose_exit(i: int, y: int, exits: int, now: VoltmeterPass, block: int, scratch: Scratch) -> None:
    """Replace an exit where the side against the drift is possible, and chosen by the draw."""
    drift, variance, v = scratch.drift[block, i], scratch.variance[block, i], scratch.volts[block, i]
    if scratch.choice[block, i] <= _likely_probability(drift, variance, v):
        return
    side = -1.0 if drift > 0.0 else 1.0
    d, c = max(1.0 - side * v, CLOSEST), -abs(drift)
    squared = scratch.square[block, i]
    if c < 0.0:
        squared = _squared_beyond(-4.0 * d * c / variance, y, scratch.columns[block, i], exits, now)
    a = variance * squared / (2.0 * d)
    scratch.wait[block, i] = d / (a + c + math.sqrt(max(a * (2.0 * c + a), 0.0)))
    scratch.side[block, i], scratch.gap[block, i] = side, d


@njit(**LOOP)
def _squared_beyond(least: float, y: int, x: int, exits: int, now: VoltmeterPass) -> float:
    """The square of a normal number whose square is at least `least`."""
    number = np.int64(exits) << 8
    while True:
        w0, w1, _, _ = draw_block(x, y, number, now.index, TAILS, now.key_low, now.key_high)
        number += 1
        if least < 1.0:
            a, b = normal_pair(w0, w1)
            if a * a >= least:
                return a * a
            if b * b >= least:
                return b * b
        else:
            # Tail of the normal law by rejection (Marsaglia 1964).
            squared = least - 2.0 * math.log(fraction(w0))
            if fraction(w1) ** 2 * squared <= least:
                return squared


class VoltmeterPixels(PerPixelModel):
    """The state of DVS-Voltmeter's pixels and one pass over it: float32, single pixels that fire float64."""

    _config: VoltmeterConfig
    LARGEST_DN = 1e6
    """Beyond, pixels would fire more than once a microsecond and float32 overflow."""

    def start(self, frame: NDArray[Any], t_ns: int, *, first: bool) -> None:
        """Take `frame` as settled: all voltages 0. `first`: also set the origin of times."""
        if first:
            self._origin_ns = t_ns
        self._read_dn(frame, self._planes["level"])
        self._planes["low_pass"][:] = 0

    def log_intensity(self, frame: NDArray[Any]) -> NDArray[np.float32]:
        """float32 (H, W): k1 ln(DN + k2) of a checked frame, in units of the threshold."""
        dn = np.empty(frame.shape, np.float32)
        self._read_dn(frame, dn)
        gain, dark = self._config.voltmeter_gain, self._config.voltmeter_dark_level
        return (gain * np.log(dn.astype(np.float64) + dark)).astype(np.float32)

    def _make_planes(self, pattern: RandomFields) -> dict[str, NDArray[Any]]:
        width, height = self._size
        self._after = np.zeros((height, width), np.float32)
        row = (self._blocks, max(width, LANES))
        kinds = (
            [np.uint32] * 4 + [np.float32, np.bool_, np.int64] + [np.float64] * 11 + [np.int64, np.float32]
        )
        self._scratch = Scratch._make(np.zeros(row, kind) for kind in kinds)
        return {
            "level": np.zeros((height, width), np.float32),
            "low_pass": np.zeros((height, width), np.float32),
            "base": np.zeros((1, 1), np.float32),
            "theta_on": np.ones((1, 1), np.float32),
            "theta_off": np.ones((1, 1), np.float32),
        }

    def _advance(self, frame: NDArray[Any], t0_ns: int, t1_ns: int, index: int) -> None:
        config = self._config
        now = VoltmeterPass(
            *key_words(self._key),
            np.uint32(index & 0xFFFFFFFF),
            (t1_ns - t0_ns) / 1000,
            slot_offset(t0_ns),
            t1_ns // 1000 - t0_ns // 1000,
            config.voltmeter_gain,
            config.voltmeter_dark_level,
            config.voltmeter_photon_noise,
            config.voltmeter_leak,
            config.voltmeter_light_leak,
            config.voltmeter_noise_floor,
        )
        self._read_dn(frame, self._after)
        planes = Planes(self._planes["level"], self._planes["low_pass"])
        self._list_events(run_blocks, self._after, planes, now, self._scratch)
        self._planes["level"], self._after = self._after, self._planes["level"]


PIXEL_MODEL = VoltmeterConfig
