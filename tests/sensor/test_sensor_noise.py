"""Noise of static scenes has the rates that were asked for, and the fixed pattern its spread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sensor_scenes import MILLISECOND, ideal, simulate

from evsim.events import LEAK, SHOT_NOISE
from evsim.sensor import RandomFields, SensorConfig, Simulator

SIZE = (64, 48)
PIXELS = SIZE[0] * SIZE[1]


def still(dn: int, count: int) -> list[Any]:
    """The same uniform frame again and again."""
    return [np.full(SIZE[::-1], dn, np.uint8)] * count


@pytest.mark.parametrize("dn", [0, 100, 255])
@pytest.mark.parametrize("spread", [0.0, 0.03])
def test_shot_noise_has_its_rate_at_each_brightness(dn: int, spread: float) -> None:
    rate, seconds, count = 20.0, 0.4, 401
    config = ideal(shot_noise_rate_hz=rate, contrast_threshold_spread=spread)
    times = [k * MILLISECOND for k in range(count)]
    pattern = Simulator(config, SIZE, seed=2).probe()
    events = simulate(config, still(dn, count), times, seed=2)
    assert events.label is not None
    assert set(events.label.tolist()) == {SHOT_NOISE}
    per_pixel = rate / 2 * (1 - 0.75 * (dn + 20) / 275) * seconds
    for polarity, name in ((1, "threshold_on"), (0, "threshold_off")):
        expected = per_pixel * float(np.sum(0.2 / pattern[name].astype(np.float64)))
        found = int(np.count_nonzero(events.p == polarity))
        assert abs(found - expected) < 4 * np.sqrt(expected)


def test_shot_noise_is_a_poisson_process_in_time_and_space() -> None:
    events = simulate(
        ideal(shot_noise_rate_hz=40.0), still(20, 201), [k * 5 * MILLISECOND for k in range(201)], seed=5
    )
    total = len(events)
    per_pixel = np.bincount(events.y.astype(int) * SIZE[0] + events.x, minlength=PIXELS)
    dispersion = per_pixel.var() / per_pixel.mean()
    assert abs(dispersion - 1) < 4 * np.sqrt(2 / PIXELS)
    within = np.bincount((events.t - 1) % 5000 // 500, minlength=10)
    assert ((within - total / 10) ** 2).sum() / (total / 10) < 30  # chi square, 9 degrees of freedom
    columns = np.bincount(events.x, minlength=SIZE[0])
    assert ((columns - total / SIZE[0]) ** 2).sum() / (total / SIZE[0]) < 120  # 63 degrees of freedom


def test_leak_has_its_rate_in_every_pixel() -> None:
    factor = 10 ** np.random.default_rng(1).normal(0, 0.1, SIZE[::-1])
    pattern = RandomFields(leak_rate_factor=factor.astype(np.float32))
    config = ideal(leak_rate_hz=3.0, leak_jitter=0.1, leak_rate_spread_decades=0.1)
    times = [k * 5 * MILLISECOND for k in range(401)]
    events = simulate(config, still(80, 401), times, fields=pattern)
    assert events.label is not None
    assert events.p.all()
    assert set(events.label.tolist()) == {LEAK}
    per_pixel = np.bincount(events.y.astype(int) * SIZE[0] + events.x, minlength=PIXELS)
    leaked = (3.0 * 2.0 * factor).ravel()
    # 400 independent jitters of 10 % leave 0.5 % in the sum.
    assert np.all(np.abs(per_pixel - np.floor(leaked)) <= 1)
    assert np.mean(per_pixel == np.floor(leaked)) > 0.95
    mean = per_pixel.mean() - np.floor(leaked).mean()
    assert abs(mean) < 4 * 0.2 / np.sqrt(PIXELS)


def test_leak_jitter_has_its_spread() -> None:
    config = ideal(leak_rate_hz=10.0, leak_jitter=0.3, leak_rate_spread_decades=0.0)
    simulator = Simulator(config, SIZE)
    frame = still(80, 1)[0]
    simulator.step(frame, 0)
    simulator.step(frame, MILLISECOND)
    z = (1 - (simulator.probe()["low_pass"] - simulator.probe()["base"]) / (0.2 * 10 * 1e-3)) / 0.3
    assert abs(z.mean()) < 4 / np.sqrt(PIXELS)
    assert abs(z.std() - 1) < 4 / np.sqrt(2 * PIXELS)
    assert 2.5 < np.abs(z).max() < 4.5


def test_drawn_fixed_pattern_has_its_spread() -> None:
    config = SensorConfig(
        contrast_threshold_on=0.3, contrast_threshold_off=0.2, contrast_threshold_spread=0.03
    )
    pattern = Simulator(config, (200, 150), seed=1).probe()
    for name, mean in (("threshold_on", 0.3), ("threshold_off", 0.2)):
        field = pattern[name]
        assert abs(field.mean() - mean) < 4 * 0.03 / np.sqrt(field.size)
        assert abs(field.std() - 0.03) < 4 * 0.03 / np.sqrt(2 * field.size)
    assert abs(np.corrcoef(pattern["threshold_on"].ravel(), pattern["threshold_off"].ravel())[0, 1]) < 0.03
    other = Simulator(config, (200, 150), seed=2).probe()["threshold_on"]
    assert abs(np.corrcoef(other.ravel(), pattern["threshold_on"].ravel())[0, 1]) < 0.03


def test_thresholds_never_fall_below_one_hundredth() -> None:
    config = SensorConfig(contrast_threshold_on=0.05, contrast_threshold_spread=0.1)
    assert Simulator(config, SIZE).probe()["threshold_on"].min() == np.float32(0.01)


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (0.25, 0.25), (0.5, 0.5), (1.0, 1.0)])
def test_pixels_bypass_the_low_pass_with_their_probability(probability: float, share: float) -> None:
    config = ideal(model="idslpf", cutoff_hz=30.0, bypass_probability=probability)
    simulator = Simulator(config, SIZE)
    simulator.step(still(30, 1)[0], 0)
    simulator.step(still(31, 1)[0], MILLISECOND)
    arrived = simulator.probe()["low_pass"] == simulator.log_intensity(still(31, 1)[0])
    assert abs(arrived.mean() - share) <= 4 * np.sqrt(share * (1 - share) / PIXELS)
