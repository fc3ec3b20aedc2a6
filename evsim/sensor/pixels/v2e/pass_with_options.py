"""Options of v2e's pixels: photoreceptor noise, centre-surround, SCIDVS, logarithmic input.

They put further filters between the low-pass and the comparison with `base`. The pass goes over whole planes
on one thread: the low-pass of all pixels, the filters, then the crossings; the lists are those of
`pass_whole_planes`.
`Planes.low_pass` holds what is compared here, the low-pass itself is a plane of its own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.kernels.compiled import INLINE, LOOP
from evsim.sensor.fields import FrameFields, RandomFields, normal_pair
from evsim.sensor.frames import FULL_SCALE_DN
from evsim.sensor.pixels.v2e.config import V2eFields
from evsim.sensor.pixels.v2e.pass_records import Fields, Light, Pass, Planes, Scratch
from evsim.sensor.pixels.v2e.pass_whole_planes import Crossings
from evsim.sensor.pixels.v2e.pixels import V2ePixels
from evsim.sensor.pixels.v2e.row_arithmetic import (
    ON,
    bypass_level,
    count_crossings,
    leak_away,
    load_filtered,
    load_random,
    mark_later_leaks,
)
from evsim.sensor.pixels.v2e.shot_noise import shot_candidates
from evsim.sensor.vector import select

# Purposes of random words, beside those of the passes (0 to 2) and of the fixed pattern (16 to 19).
NOISE_RADIUS, NOISE_ANGLE, HIGH_PASS_RADIUS, HIGH_PASS_ANGLE = 8, 9, 20, 21
SURROUND_STEPS = 5
"""Steps of the surround within its shorter time constant."""
SMALLEST_CHANGE, SETTLED = 1e-5, 5e-4
"""The surround stands when a step changes it by less, and when it is less from its rest (log intensity)."""
MOST_STEPS = 10000
"""Of the surround in one interval."""
STABLE = 0.4
"""Longest interval of v2e's SCIDVS steps, in time constants: beyond, a full swing of light diverges."""
HIGH_PASS_GAIN, HIGH_PASS_BEND = 2.0, 0.7
"""SCIDVS: front = gain * high-pass, whose discharge is sinh(bend * high-pass)."""


def filtered_noise_deviation(shot_rate_hz: float, cutoff_hz: float, threshold: float) -> float:
    """Standard deviation, in log intensity, of low-passed noise that makes `shot_rate_hz` events per second.

    v2e's fit to measured rates: threshold / 10^y, y a cubic in the common logarithm of rate / (2 cutoff).
    """
    x = math.log10(shot_rate_hz / cutoff_hz / 2)
    return float(threshold / 10 ** (-0.0026 * x**3 - 0.036 * x**2 - 0.1949 * x + 0.321))


def white_noise_deviation(filtered: float, weight: float) -> float:
    """Deviation of white noise that a low-pass of this weight per pass turns into noise of `filtered`."""
    return filtered * math.sqrt((2.0 - weight) / weight)


class OptionalPixels(V2ePixels):
    """v2e's pixels with filters between the low-pass and the comparison; one thread."""

    def __init__(
        self,
        config: V2eFields,
        size: tuple[int, int],
        key: int,
        given: RandomFields,
        threads: int,
        recycle: bool,
    ) -> None:
        super().__init__(config, size, key, given, 1, recycle)
        shape = size[::-1]
        on = {
            "filtered": True,
            "surround": config.surround_distance_px > 0,
            "high_pass": config.scidvs,
            "noise": config.photoreceptor_noise,
        }
        self._filters = {name: np.zeros(shape if used else (0, 0), self._real) for name, used in on.items()}
        # SCIDVS: what the high-pass saw last is unknown until the first pass, if v2e's start is followed.
        self._high_pass_blind = False
        self._jitter = np.empty(shape, np.float32)
        self._log = np.empty((0, 0), np.float32)
        self._high_pass_seconds = self._draw_high_pass() if config.scidvs else None

    def start(self, frame: NDArray[Any], t_ns: int, *, first: bool) -> None:
        """Take `frame` as settled: all pixels rest at its level. `first`: also set the origin of times."""
        super().start(frame, t_ns, first=first)
        level = self._planes.low_pass
        filters = self._filters
        filters["filtered"][:] = level
        filters["noise"][:] = 0
        filters["high_pass"][:] = 0
        if self._config.scidvs:
            self._high_pass_blind = self._config.scidvs_as_v2e
            level[:] = 0
            if not self._high_pass_blind:
                self._planes.base[:] = 0
        elif filters["surround"].size:
            level[:] = 0
            self._planes.base[:] = 0
        if filters["surround"].size:
            filters["surround"][:] = filters["filtered"]

    def log_intensity(self, frame: NDArray[Any]) -> NDArray[np.float32]:
        """float32 (H, W) log intensity of a checked frame, before the low-pass."""
        return frame.astype(np.float32) if self._config.reads_logarithms else super().log_intensity(frame)

    def require_pass(self, t0_ns: int, t1_ns: int, given: FrameFields | None) -> None:
        """InputError for random fields that cannot be, and for an interval too long for an option."""
        super().require_pass(t0_ns, t1_ns, given)
        self._check_interval(t0_ns, t1_ns)

    def advance(
        self, frame: NDArray[Any], t0_ns: int, t1_ns: int, index: int, given: FrameFields | None
    ) -> Any:
        """Events of the interval (t0_ns, t1_ns] that ends with `frame`; `index` counts passes."""
        if self._config.reads_logarithms:
            self._log = frame
            frame = np.exp(frame) / np.float32(FULL_SCALE_DN)
            frame.flags.writeable = False
        # The difference of the two times in seconds is v2e's; its rounding decides the steps of the surround.
        self._seconds = t1_ns / 1e9 - t0_ns / 1e9 if self._exact else (t1_ns - t0_ns) / 1e9
        return super().advance(frame, t0_ns, t1_ns, index, given)

    def planes(self) -> dict[str, NDArray[Any]]:
        """The state, by name; `signal` is what is compared with `base`."""
        planes = super().planes()
        filters = {name: plane for name, plane in self._filters.items() if name != "filtered" and plane.size}
        return {**planes, **filters, "signal": planes["low_pass"], "low_pass": self._filters["filtered"]}

    def save(self) -> dict[str, Any]:
        """Copies of the state, with what `load` needs."""
        filters = {name: plane.copy() for name, plane in self._filters.items()}
        return {**super().save(), **filters, "high_pass_blind": self._high_pass_blind}

    def load(self, state: dict[str, Any]) -> None:
        """Take over a state from `save`, fixed pattern included; InputError if it is of another sensor."""
        loaded = {}
        for name, plane in self._filters.items():
            saved = np.asarray(state[name])
            if saved.shape != plane.shape or saved.dtype != plane.dtype:
                raise InputError(
                    f"state {name} is {saved.dtype} {saved.shape}, expected {plane.dtype} {plane.shape}: "
                    "it is of another sensor"
                )
            loaded[name] = saved.copy()
        super().load(state)
        self._filters = loaded
        self._high_pass_blind = bool(state["high_pass_blind"])

    @property
    def _exact(self) -> bool:
        return self._config.precision == "float64"

    def _too_large(self, slots: int) -> bool:
        """Always: these pixels use the pass over whole planes."""
        return True

    def _check_interval(self, t0_ns: int, t1_ns: int) -> None:
        config, seconds = self._config, (t1_ns - t0_ns) * 1e-9
        if config.photoreceptor_noise and seconds * 2 * math.pi * config.cutoff_hz >= 1:
            longest = 1 / (2 * math.pi * config.cutoff_hz)
            reason = "the time constant of cutoff_hz, with photoreceptor_noise: it is drawn once per pass"
        elif config.surround_distance_px > 0 and self._surround_steps(seconds) > MOST_STEPS:
            longest = seconds * MOST_STEPS / self._surround_steps(seconds)
            reason = "which the surround can follow with so large a distance and so short a time constant"
        elif config.scidvs_as_v2e and seconds > STABLE * self._shortest_high_pass():
            longest = STABLE * self._shortest_high_pass()
            reason = "beyond which the steps of scidvs_as_v2e are unstable"
        else:
            return
        raise InputError(
            f"the interval is {seconds * 1e3:g} ms, expected less than {longest * 1e3:g} ms, {reason}; set "
            "step_rate_hz to divide intervals, or change the option"
        )

    def _shortest_high_pass(self) -> float:
        assert self._high_pass_seconds is not None
        return float(self._high_pass_seconds.min())

    def _surround_steps(self, seconds: float) -> int:
        """How many steps the surround takes in an interval."""
        config = self._config
        tau = config.surround_time_constant_us * 1e-6
        return math.ceil(SURROUND_STEPS * seconds / min(tau, tau / config.surround_distance_px**2))

    def _check_fields(self, given: FrameFields) -> Fields:
        if given.shot_uniform is not None and self._config.photoreceptor_noise:
            raise InputError(
                "field shot_uniform was given with photoreceptor_noise, expected none: that noise takes the "
                "place of shot noise"
            )
        return super()._check_fields(given)

    def _describe(self, t0_ns: int, t1_ns: int, index: int, fields: Fields) -> Pass:
        now = super()._describe(t0_ns, t1_ns, index, fields)
        return now._replace(shot_mean=0.0) if self._config.photoreceptor_noise else now

    def _advance_plane(
        self, light: Light, fields: Fields, now: Pass, crossings: Crossings
    ) -> tuple[int, int, int]:
        filters = self._filters
        before = filters["filtered"].copy() if self._config.scidvs else filters["filtered"]
        follow_light(
            light,
            self._log,
            self._planes,
            fields,
            now,
            self._scratch,
            filters["filtered"],
            self._jitter,
        )
        signal = self._front(before, int(now.index))
        return count_plane(signal, self._jitter, self._planes, fields, now, self._scratch, crossings)

    def _front(self, before: NDArray[Any], index: int) -> NDArray[Any]:
        """What is compared with `base` after this pass, (H, W); `before` is the low-pass until now."""
        filtered = self._filters["filtered"]
        front = filtered
        if self._config.scidvs:
            front = self._real(HIGH_PASS_GAIN) * self._follow_high_pass(before)
        if self._config.photoreceptor_noise:
            front = front + self._draw_noise(index)
        if self._config.surround_distance_px > 0:
            front = front - self._follow_surround().astype(self._real)
        return front

    def _draw_noise(self, index: int) -> NDArray[Any]:
        """Move the noise of the photoreceptor by one pass of its low-pass, which light does not change."""
        config, noise = self._config, self._filters["noise"]
        weight = self._seconds * 2 * math.pi * config.cutoff_hz
        threshold = float(np.minimum(self._planes.theta_on, self._planes.theta_off).mean(dtype=np.float64))
        filtered = filtered_noise_deviation(config.shot_noise_rate_hz, config.cutoff_hz, threshold)
        deviation = white_noise_deviation(filtered, weight)
        z, _ = normal_pair(self._key, self._size, NOISE_RADIUS, NOISE_ANGLE, index)
        noise *= self._real(1 - weight)
        noise += (weight * deviation * z).astype(self._real)
        return noise

    def _follow_high_pass(self, before: NDArray[Any]) -> NDArray[Any]:
        """Move the high-pass of SCIDVS, which forgets large signals faster than small ones."""
        high_pass, filtered = self._filters["high_pass"], self._filters["filtered"]
        if self._high_pass_blind:
            before, self._high_pass_blind = filtered, False
        tau = self._high_pass_seconds
        assert tau is not None
        bend = HIGH_PASS_BEND
        if self._config.scidvs_as_v2e:
            discharge = np.float32(self._seconds) * np.sinh(self._real(bend) * high_pass) / tau
            high_pass += (filtered - before) - discharge
        else:
            # The solution of dh/dt = -sinh(bend h) / tau, which is stable for any interval.
            left = np.tanh(bend / 2 * high_pass.astype(np.float64)) * np.exp(-bend * self._seconds / tau)
            high_pass[:] = 2 / bend * np.arctanh(left)
            high_pass += filtered - before
        return high_pass

    def _draw_high_pass(self) -> NDArray[np.float32]:
        """float32 (H, W): time constants of the high-pass of SCIDVS, log-normal from pixel to pixel."""
        config = self._config
        z, _ = normal_pair(self._key, self._size, HIGH_PASS_RADIUS, HIGH_PASS_ANGLE)
        seconds = config.scidvs_time_constant_us * 1e-6
        return (seconds * np.exp(config.scidvs_time_constant_spread * z)).astype(np.float32)

    def _follow_surround(self) -> NDArray[Any]:
        """Move the surround, which follows the low-pass and spreads to the neighbours."""
        config, surround = self._config, self._filters["surround"]
        tau = config.surround_time_constant_us * 1e-6
        tau_across = tau / config.surround_distance_px**2
        steps = self._surround_steps(self._seconds)
        share, share_across = self._seconds / steps / tau, self._seconds / steps / tau_across
        enough = min(SMALLEST_CHANGE, SETTLED * share)
        other = np.empty_like(surround)
        for _ in range(steps):
            change = spread_surround(self._filters["filtered"], surround, share, share_across, other)
            surround, other = other, surround
            if change <= enough:
                break
        self._filters["surround"] = surround
        return surround


@njit(**LOOP)
def follow_light(
    light: Light,
    logs: NDArray[np.float32],
    planes: Planes,
    fields: Fields,
    now: Pass,
    scratch: Scratch,
    low_pass: NDArray[Any],
    jitter: NDArray[np.float32],
) -> None:
    """Move the low-pass of all pixels, and draw the jitter of their leak. logs: log input, if not empty."""
    for y in range(low_pass.shape[0]):
        values, alpha, row = scratch.values[0], scratch.alpha[0], low_pass[y]
        load_filtered(light, y, values, alpha)
        if logs.size:
            for x in range(row.size):
                values[x] = logs[y, x]
        load_random(0, y, planes, fields, now, scratch)
        words, one, level = scratch.words[0], alpha.dtype.type(1), bypass_level(fields, now)
        for x in range(row.size):
            weight = select(np.uint32(words[x] & np.uint32(0xFFF)) < level, one, alpha[x])
            row[x] = (one - weight) * row[x] + weight * values[x]
            jitter[y, x] = scratch.jitter[0, x]


@njit(**LOOP)
def spread_surround(
    light: NDArray[Any], surround: NDArray[Any], share: float, share_across: float, out: NDArray[Any]
) -> float:
    """One step of the surround into `out`; returns the largest change. Borders are repeated outwards."""
    height, width = surround.shape
    largest = 0.0
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            here = surround[y, x]
            around = surround[above, x] + surround[y, left] + surround[y, right] + surround[below, x]
            change = share * (light[y, x] - here) + share_across * (around - 4.0 * here)
            out[y, x] = here + change
            largest = max(largest, abs(change))
    return largest


@njit(**LOOP)
def count_plane(
    signal: NDArray[Any],
    jitter: NDArray[np.float32],
    planes: Planes,
    fields: Fields,
    now: Pass,
    scratch: Scratch,
    crossings: Crossings,
) -> tuple[int, int, int]:
    """Compare `signal` with the base; returns as `pass_whole_planes.advance_plane`."""
    total, busiest, candidates = np.int64(0), np.int64(0), np.int64(0)
    for y in range(planes.base.shape[0]):
        old, base, before = planes.low_pass[y], planes.base[y], scratch.before[0]
        theta_on = planes.theta_on[min(y, planes.theta_on.shape[0] - 1)]
        theta_off = planes.theta_off[min(y, planes.theta_off.shape[0] - 1)]
        leak_rate = planes.leak_rate[min(y, planes.leak_rate.shape[0] - 1)]
        leak_sum = planes.leak_sum[min(y, planes.leak_sum.shape[0] - 1)]
        for x in range(base.size):
            before[x] = old[x] - base[x]
            old[x] = signal[y, x]
            scratch.jitter[0, x] = jitter[y, x]
        if now.leaks:
            leak_away(scratch.jitter[0], leak_rate, theta_on, base, leak_sum, now.seconds, now.jitter)
        count_crossings(
            old,
            base,
            before,
            theta_on,
            theta_off,
            leak_sum,
            scratch.count[0],
            scratch.key[0],
            scratch.first[0],
            scratch.spacing[0],
            now,
        )
        if now.many_leaks:
            mark_later_leaks(0, leak_rate, theta_on, now, scratch)
        if now.keep == 0:
            _divide_as_v2e(old, base, theta_on, theta_off, scratch.key[0], scratch.count[0])
        for x in range(base.size):
            count = scratch.count[0, x]
            crossings.count[y, x] = count
            crossings.key[y, x] = scratch.key[0, x]
            crossings.first[y, x] = scratch.first[0, x]
            crossings.spacing[y, x] = scratch.spacing[0, x]
            total += count
            busiest = max(busiest, np.int64(count))
        candidates += shot_candidates(y, planes, fields, now)
    return total, busiest, candidates


@njit(**INLINE)
def _divide_as_v2e(
    signal: NDArray[Any],
    base: NDArray[Any],
    theta_on: NDArray[Any],
    theta_off: NDArray[Any],
    key: NDArray[np.uint32],
    count: NDArray[np.int32],
) -> None:
    """Count by the floor of the exact quotient, where the rounded one may reach the next whole number."""
    for x in range(count.size):
        if count[x]:
            size = abs(signal[x] - base[x])
            theta = theta_on[x] if key[x] & ON else theta_off[x]
            count[x] = np.int32(np.rint((size - size % theta) / theta))
