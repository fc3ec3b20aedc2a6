"""Statistics over many seeds. Every bound says how often a right sensor would fail it.

A bound of 4 standard errors is missed once in 16000 seeds, the Kolmogorov-Smirnov bound 1.95 / sqrt(n) once
in 1000 for continuous times; the seeds are fixed, so a test that passes keeps passing.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sensor_scenes import MILLISECOND, ideal, simulate

from evsim.events import SHOT_NOISE, Events
from evsim.sensor import SensorConfig, Simulator

SIZE = (48, 32)
PIXELS = SIZE[0] * SIZE[1]
SEEDS = range(40)
STEP = 20 * MILLISECOND


def still(config: SensorConfig, seed: int, count: int = 26, dn: int = 100) -> Events:
    """Events of a static scene, 20 ms a frame."""
    frame = np.full(SIZE[::-1], dn, np.uint8)
    return simulate(config, [frame] * count, [k * STEP for k in range(count)], seed=seed)


def gaps_of(events: Events) -> NDArray[np.float64]:
    """Seconds between consecutive events of a pixel."""
    pixel = events.y.astype(np.int64) * events.width + events.x
    order = np.lexsort((events.t, pixel))
    same = np.diff(pixel[order]) == 0
    return np.diff(events.t[order])[same] * 1e-6


def require_exponential(gaps: NDArray[np.float64], rate: float, seconds: float) -> None:
    """Kolmogorov and Smirnov: gaps of a Poisson process watched for `seconds`, of the pairs it saw whole."""
    ordered = np.sort(gaps)
    # A pair with gap g is seen if it begins before seconds - g: density rate^2 (T - g) exp(-rate g).
    grid = np.linspace(0, seconds, 20001)
    density = (seconds - grid) * np.exp(-rate * grid)
    law = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    expected = np.interp(ordered, grid, law / law[-1])
    found = np.arange(1, len(ordered) + 1) / len(ordered)
    distance = max(np.abs(found - expected).max(), np.abs(found - 1 / len(ordered) - expected).max())
    assert distance < 1.95 / math.sqrt(len(ordered)), (distance, len(ordered))


def require_standard(z: NDArray[np.float64]) -> None:
    """Numbers of mean 0 and variance 1, within 4 standard errors (those of normal numbers) each."""
    assert abs(z.mean()) < 4 / math.sqrt(len(z))
    assert abs(z.var(ddof=1) - 1) < 4 * math.sqrt(2 / (len(z) - 1))


@pytest.mark.parametrize("low_pass", ["v2e", "exact"])
def test_shot_noise_is_poisson_from_seed_to_seed(low_pass: Any) -> None:
    rate, seconds = 60.0, 0.5
    config = ideal(shot_noise_rate_hz=rate, cutoff_hz=300.0, low_pass=low_pass)
    per_pixel = rate * (1 - 0.75 * 120 / 275)
    mean = per_pixel * seconds * PIXELS
    parts = [still(config, seed) for seed in SEEDS]
    totals = np.array([len(events) for events in parts])
    require_standard((totals - mean) / math.sqrt(mean))
    on = np.array([int(events.p.sum()) for events in parts])
    require_standard((on - totals / 2) / np.sqrt(totals / 4))
    require_exponential(np.concatenate([gaps_of(events) for events in parts[:8]]), per_pixel, seconds)


def test_hot_pixels_are_poisson_from_seed_to_seed() -> None:
    config = ideal(hot_pixel_fraction=0.1, hot_pixel_rate_hz=80.0)
    z, gaps = [], []
    for seed in SEEDS:
        hot = int(Simulator(config, SIZE, seed=seed).state()["pixels"]["readout"]["hot_pixels"].sum())
        events = still(config, seed)
        z.append((len(events) - hot * 40) / math.sqrt(hot * 40))
        gaps.append(gaps_of(events))
    require_standard(np.array(z))
    require_exponential(np.concatenate(gaps[:10]), 80.0, 0.5)


@pytest.mark.parametrize("low_pass", ["v2e", "exact"])
def test_leak_has_its_rate_and_spread_over_seeds(low_pass: Any) -> None:
    config = ideal(leak_rate_hz=40.0, leak_jitter=0.1, cutoff_hz=300.0, low_pass=low_pass)
    logs = []
    for seed in SEEDS:
        events = still(config, seed)
        pixel = events.y.astype(np.int64) * SIZE[0] + events.x
        gaps = np.bincount(pixel, minlength=PIXELS) - 1
        first, last = np.full(PIXELS, 1 << 60), np.zeros(PIXELS, np.int64)
        np.minimum.at(first, pixel, events.t)
        np.maximum.at(last, pixel, events.t)
        logs.append(np.log10(gaps * 1e6 / (last - first)))
    deviations = np.array([log.std() for log in logs])
    means = np.array([log.mean() for log in logs])
    # The log of the rate is normal with deviation 0.1 decades; jitter and microseconds add below 0.5 %.
    error = 0.1 / math.sqrt(2 * PIXELS * len(SEEDS))
    assert abs(deviations.mean() - 0.1) < 4 * error + 0.0005
    assert abs(means.mean() - math.log10(40.0)) < 4 * 0.1 / math.sqrt(PIXELS * len(SEEDS)) + 0.0005


def test_thresholds_are_normal_over_seeds_and_pixels() -> None:
    config = SensorConfig(contrast_threshold_on=0.3, contrast_threshold_spread=0.03)
    fields = [Simulator(config, SIZE, seed=seed).probe()["threshold_on"] for seed in SEEDS]
    z = (np.concatenate([field.ravel() for field in fields]).astype(np.float64) - 0.3) / 0.03
    require_standard(z)
    ordered = np.sort(z)
    law = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in ordered[:: len(ordered) // 2000]])
    found = np.arange(1, len(ordered) + 1)[:: len(ordered) // 2000] / len(ordered)
    assert np.abs(found - law).max() < 1.95 / math.sqrt(len(ordered))
    # Seeds share nothing: correlation of neighbours in the list of seeds.
    products = [float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in itertools.pairwise(fields)]
    require_standard(np.array(products) * math.sqrt(PIXELS))


def test_icns_noise_is_periodic_with_uniform_phases_over_seeds() -> None:
    config = SensorConfig(
        model="icns", contrast_threshold_spread=0.0, noise_rate_on_hz=10.0, noise_rate_off_hz=0.0
    )
    phases = []
    for seed in list(SEEDS)[:10]:
        events = still(config, seed, count=11)
        assert set(events.label if events.label is not None else ()) == {SHOT_NOISE}
        np.testing.assert_allclose(gaps_of(events), 0.1, atol=2e-6)
        phases.append(events.t[events.t <= 100_000] / 100_000)
    every = np.sort(np.concatenate(phases))
    found = np.arange(1, len(every) + 1) / len(every)
    assert np.abs(found - every).max() < 1.95 / math.sqrt(len(every))
