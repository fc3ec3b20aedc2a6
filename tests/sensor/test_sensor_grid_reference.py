"""The grid clock against whole-plane arithmetic written from v2e's rules and sharing no code.

The combinations are those that no recorded fixture has: filter with leak, dead times that lie exactly on the
slots, 8-bit levels with several thresholds, frames at irregular times.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sensor_scenes import ideal, texture

from evsim.sensor import FrameFields, RandomFields, SensorConfig, Simulator

SIZE = (37, 23)
FRAMES = 14
Rows = Counter[tuple[int, int, int, int, bool]]


class Given(NamedTuple):
    """The random fields of a clip: fixed pattern (H, W), fields of every frame (T, H, W), or None."""

    on: NDArray[Any] | None
    off: NDArray[Any] | None
    factor: NDArray[Any] | None
    jitter: NDArray[Any] | None
    shot: NDArray[Any] | None
    bypass: NDArray[Any] | None


def lin_log(dn: NDArray[np.float64]) -> NDArray[np.float32]:
    value = np.where(dn <= 20, dn * math.log(20) / 20, np.log(np.maximum(dn, 1)))
    return np.round(value, 8).astype(np.float32)


def plain_events(
    config: SensorConfig, frames: NDArray[Any], seconds: NDArray[Any], given: Given
) -> tuple[Rows, Any]:
    """How often (frame, y, x, sign, is signal) occurs, and the reference plane after the clip."""
    single = np.float32
    real: Any = np.float64 if config.cutoff_hz > 0 else np.float32
    on = np.full(SIZE[::-1], config.contrast_threshold_on) if given.on is None else given.on
    off = np.full(SIZE[::-1], config.contrast_threshold_off) if given.off is None else given.off
    dead = config.refractory_period_us / 1e6
    low_pass = lin_log(frames[0].astype(np.float64)).astype(real)
    base = low_pass.copy()
    last = np.full(base.shape, -dead, single)
    rows: Rows = Counter()

    def emit(k: int, where: NDArray[Any], sign: int, signal: bool) -> None:
        rows.update((k, int(y), int(x), sign, signal) for y, x in np.argwhere(where))

    for k in range(1, len(frames)):
        dn, dt = frames[k].astype(np.float64), seconds[k] - seconds[k - 1]
        log, brightness = lin_log(dn), (dn + 20) / 275
        if config.cutoff_hz > 0:
            weight = np.minimum(1, brightness * dt * 2 * math.pi * config.cutoff_hz)
            if config.model == "idslpf":
                weight = 1 - np.exp(-weight)
                weight = weight if given.bypass is None else np.where(given.bypass[k], 1.0, weight)
            low_pass = (1 - weight) * low_pass + weight * log
        else:
            low_pass = log
        if config.leak_rate_hz > 0:
            rate = single(config.leak_rate_hz) * (single(1) if given.factor is None else given.factor)
            jitter = single(0) if given.jitter is None else given.jitter[k]
            moved = single(dt) * (rate * (single(1) - single(config.leak_jitter) * jitter))
            base = (base - moved * on.astype(single)).astype(real)
        difference = low_pass - base
        counts = [
            np.floor(np.maximum(sign * difference, 0) / theta.astype(real)).astype(int)
            for sign, theta in ((1, on), (-1, off))
        ]
        most = int(max(np.max(count) for count in counts))
        apart = dt / max(most, 1)
        slots = torch.linspace(seconds[k - 1] + apart, seconds[k], max(most, 1), dtype=torch.float32).numpy()
        fired = [np.zeros(base.shape, single), np.zeros(base.shape, single)]
        for i in range(most):
            free = slots[i] - last > single(dead) if dead > apart else np.ones(base.shape, bool)
            for side, sign in ((0, 1), (1, -1)):
                accepted = (counts[side] > i) & free
                emit(k, accepted, sign, True)
                fired[side] += accepted
                if dead > apart:
                    last[accepted] = slots[i]
        base = (base + fired[0] * on.astype(single)).astype(real)
        base = (base - fired[1] * off.astype(single)).astype(real)
        if given.shot is not None:
            likely = config.shot_noise_rate_hz / 2 * dt * (1 - 0.75 * brightness)
            above = given.shot[k] > 1 - likely * config.contrast_threshold_on / on
            below = given.shot[k] < likely * config.contrast_threshold_off / off
            emit(k, above, 1, False)
            emit(k, below, -1, False)
            base = np.where(above | below, low_pass, base)
    return rows, base


def case(rate: float, *, eight_bit: bool = False, spread: float = 0.0, **fields: Any) -> tuple[Any, ...]:
    return rate, eight_bit, spread, fields


CASES = {
    "filter and leak": case(100, cutoff_hz=60.0, leak_rate_hz=4.0, leak_jitter=0.3),
    "filter, leak and pattern": case(500, spread=0.03, cutoff_hz=200.0, leak_rate_hz=9.0, leak_jitter=0.1),
    "8-bit leak": case(50, eight_bit=True, leak_rate_hz=3.0, leak_jitter=0.0),
    "8-bit thresholds": case(200, eight_bit=True, contrast_threshold_on=0.15, contrast_threshold_off=0.3),
    "8-bit pattern": case(200, eight_bit=True, spread=0.05),
    "dead time of two frames": case(1000, spread=0.03, refractory_period_us=2000.0, cutoff_hz=300.0),
    "dead time of one slot": case(10, eight_bit=True, refractory_period_us=5000.0, cutoff_hz=30.0),
    "dead time of half a frame": case(100, refractory_period_us=5000.0),
    "dead time and shots": case(1000, spread=0.03, refractory_period_us=500.0, shot_noise_rate_hz=40.0),
    "bypass and shots": case(1000, model="idslpf", cutoff_hz=300.0, shot_noise_rate_hz=40.0, spread=0.02),
    "irregular times": case(0, cutoff_hz=100.0, leak_rate_hz=2.0, refractory_period_us=700.0),
}


@pytest.mark.parametrize("name", CASES)
def test_events_equal_whole_plane_arithmetic(name: str) -> None:
    rate, eight_bit, spread, fields = CASES[name]
    grid = {"clock": "grid", "precision": "float64", "float_full_scale": 255.0, "bypass_probability": 0.0}
    config = ideal(**grid, leak_rate_spread_decades=0.1 if spread else 0.0, **fields)
    rng, shape = np.random.default_rng(sorted(CASES).index(name)), SIZE[::-1]
    frames: NDArray[Any] = texture(FRAMES, SIZE, seed=3, contrast=70.0)
    frames[FRAMES // 2 :] = 250 - frames[FRAMES // 2 :] // 2
    if not eight_bit:
        frames = (frames * 0.9 + 7.3).astype(np.float32)
    gaps_us = rng.integers(300, 9000, FRAMES) if rate == 0 else np.full(FRAMES, round(1e6 / rate))
    t_ns = 1000 * (np.cumsum(gaps_us) - gaps_us[0])
    leaks, shots = config.leak_rate_hz > 0, config.shot_noise_rate_hz > 0
    on, off = (
        np.maximum(0.01, mean + spread * rng.standard_normal(shape)).astype(np.float32)
        for mean in (config.contrast_threshold_on, config.contrast_threshold_off)
    )
    many = (FRAMES, *shape)
    given = Given(
        on if spread else None,
        off if spread else None,
        (10 ** (0.1 * rng.standard_normal(shape))).astype(np.float32) if leaks and spread else None,
        rng.standard_normal(many).astype(np.float32) if leaks and config.leak_jitter else None,
        rng.random(many, np.float32) if shots else None,
        rng.random(many) < 0.5 if config.model == "idslpf" else None,
    )
    expected, base = plain_events(config, frames, t_ns / 1e9, given)
    simulator = Simulator(config, SIZE, fields=RandomFields(*given[:3]), threads=1)
    found: Rows = Counter()
    for k, (frame, t) in enumerate(zip(frames, t_ns.tolist())):
        of_frame = FrameFields(*(None if field is None else field[k] for field in given[3:]))
        events = simulator.step(frame, t, fields=of_frame).validate()
        assert events.label is not None
        columns = (events.y, events.x, 2 * events.p.astype(int) - 1, events.label != 1)
        found.update((k, *row) for row in zip(*(column.tolist() for column in columns)))
    assert found == expected
    assert sum(expected.values()) > 1000
    np.testing.assert_allclose(simulator.probe()["base"], base, rtol=0, atol=2e-6)
