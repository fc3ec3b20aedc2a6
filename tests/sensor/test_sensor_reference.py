"""The linear clock against a plain loop over pixels, written from the equations and sharing no code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sensor_scenes import SIM2REAL, ideal, times_ns

from evsim.sensor import FrameFields, RandomFields, SensorConfig, Simulator

SIZE = (19, 11)
FRAMES = 24


def lin_log(dn: float) -> float:
    return dn * math.log(20) / 20 if dn <= 20 else math.log(dn)


class PlainPixel:
    """One pixel in double precision: a list of (t_us, on, label) per interval."""

    def __init__(self, config: SensorConfig, dn: float, on: float, off: float, leak_factor: float) -> None:
        self.config = config
        self.on, self.off, self.leak_factor = on, off, leak_factor
        self.low_pass = self.base = lin_log(dn)
        self.leaked = 0.0
        self.last = -(10**12)

    def step(
        self, dn: float, t0_ns: int, t1_ns: int, z: float, u: float, bypass: bool
    ) -> list[tuple[int, bool, int]]:
        config = self.config
        seconds = (t1_ns - t0_ns) * 1e-9
        brightness = (dn + 20) / 275
        start = self.low_pass - self.base
        alpha = 1.0
        if config.cutoff_hz > 0:
            alpha = min(1.0, brightness * seconds * 2 * math.pi * config.cutoff_hz)
            if config.model == "idslpf":
                alpha = 1.0 if bypass else 1 - math.exp(-alpha)
        self.low_pass += alpha * (lin_log(dn) - self.low_pass)
        leak = seconds * config.leak_rate_hz * self.leak_factor * (1 - config.leak_jitter * z) * self.on
        self.base -= leak
        self.leaked += leak
        end = self.low_pass - self.base
        sign, theta = (1, self.on) if end > 0 else (-1, self.off)
        move = sign * (end - start)
        events: list[tuple[int, bool, int]] = []
        for level in range(1, math.floor(abs(end) / theta) + 1):
            missing = level * theta - sign * start
            fraction = min(1.0, max(0.0, missing / move)) if move > 0 else 0.0
            t = round((t0_ns + fraction * (t1_ns - t0_ns)) / 1000)
            t = min(max(t, t0_ns // 1000 + 1), t1_ns // 1000)
            if config.refractory_period_us > 0 and not t - self.last > config.refractory_period_us:
                continue
            is_leak = sign > 0 and (2 * self.leaked >= self.on if not events else 2 * leak >= move)
            events.append((t, sign > 0, 2 if is_leak else 0))
            self.last = t
        if events:
            self.leaked = 0.0
        self.base += sign * theta * len(events)
        likely = config.shot_noise_rate_hz / 2 * seconds * (1 - 0.75 * brightness)
        shot_on = u > 1 - likely * config.contrast_threshold_on / self.on
        if shot_on or u < likely * config.contrast_threshold_off / self.off:
            events.append((-1, shot_on, 1))
            self.base = self.low_pass
            self.leaked = 0.0
        return events


def smooth_clip(rng: np.random.Generator, low: float, high: float) -> NDArray[np.float32]:
    """float32 (FRAMES, H, W): brightness that wanders and jumps, in DN."""
    steps = rng.standard_normal((FRAMES, *SIZE[::-1])) * rng.choice([0.02, 0.3], (FRAMES, 1, 1))
    position = np.cumsum(steps, axis=0)
    return (low + (high - low) / (1 + np.exp(-position))).astype(np.float32)


CONFIGS = {
    "ideal": ideal(float_full_scale=255.0),
    "asymmetric": ideal(contrast_threshold_on=0.13, contrast_threshold_off=0.31, float_full_scale=255.0),
    "dead time": ideal(refractory_period_us=700.5, contrast_threshold_on=0.05, float_full_scale=255.0),
    "low-pass": ideal(cutoff_hz=120.0, float_full_scale=255.0),
    "heavy leak": ideal(
        leak_rate_hz=900.0, leak_jitter=0.2, leak_rate_spread_decades=0.1, float_full_scale=255.0
    ),
    "everything": SensorConfig(
        **{**SIM2REAL, "leak_rate_hz": 90.0, "shot_noise_rate_hz": 300.0, "refractory_period_us": 150.0},
        float_full_scale=255.0,
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_events_equal_a_plain_loop_over_pixels(name: str) -> None:
    config: Any = CONFIGS[name]
    rng = np.random.default_rng(sorted(CONFIGS).index(name))
    shape = SIZE[::-1]
    clip, times = smooth_clip(rng, 2, 240), times_ns(FRAMES, 1920.0, start=123_456)
    on, off = (
        np.maximum(0.01, mean + config.contrast_threshold_spread * rng.standard_normal(shape)).astype(
            np.float32
        )
        for mean in (config.contrast_threshold_on, config.contrast_threshold_off)
    )
    factor = (10 ** (0.1 * rng.standard_normal(shape))).astype(np.float32)
    simulator = Simulator(config, SIZE, fields=RandomFields(on, off, factor), threads=2)
    pixels = {
        (y, x): PlainPixel(
            config, float(clip[0, y, x]), float(on[y, x]), float(off[y, x]), float(factor[y, x])
        )
        for y, x in np.ndindex(shape)
    }
    simulator.step(clip[0], times[0])
    total = 0
    for k in range(1, FRAMES):
        z = rng.standard_normal(shape).astype(np.float32)
        u = rng.random(shape, np.float32)
        bypass = rng.random(shape) < 0.5 if config.model == "idslpf" else None
        events = simulator.step(clip[k], times[k], fields=FrameFields(z, u, bypass)).validate()
        assert events.label is not None
        total += len(events)
        found: dict[tuple[int, int], list[tuple[int, bool, int]]] = {place: [] for place in pixels}
        for t, x, y, p, label in zip(
            *(column.tolist() for column in (events.t, events.x, events.y, events.p)), events.label.tolist()
        ):
            found[y, x].append((t, bool(p), label))
        for (y, x), pixel in pixels.items():
            passes = False if bypass is None else bool(bypass[y, x])
            expected = pixel.step(
                float(clip[k, y, x]), times[k - 1], times[k], float(z[y, x]), float(u[y, x]), passes
            )
            ours = [event for event in found[y, x] if event[2] != 1]
            theirs = [event for event in expected if event[2] != 1]
            assert [event[1:] for event in ours] == [event[1:] for event in theirs], (k, y, x)
            assert all(abs(a[0] - b[0]) <= 1 for a, b in zip(ours, theirs))
            assert [e[1] for e in found[y, x] if e[2] == 1] == [e[1] for e in expected if e[2] == 1]
    assert total > 200
    signals = simulator.probe()
    for (y, x), pixel in pixels.items():
        assert abs(signals["base"][y, x] - pixel.base) < 1e-4
        assert abs(signals["low_pass"][y, x] - pixel.low_pass) < 1e-5
