"""Dead and hot pixels, and the latency of events, behind any pixel model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sensor_scenes import MILLISECOND, assert_same, columns, ideal, simulate, texture, times_ns, watch

from evsim.errors import ConfigError, InputError
from evsim.events import SHOT_NOISE, SIGNAL
from evsim.sensor import RandomFields, SensorConfig, Simulator

SIZE = (48, 32)
BROKEN = {"dead_pixel_fraction": 0.02, "hot_pixel_fraction": 0.01, "hot_pixel_rate_hz": 2000.0}
DELAYED = {"latency_us": 300.0, "latency_jitter_us": 80.0}
MODELS = {
    "v2e": ideal(),
    "exact": ideal(low_pass="exact", cutoff_hz=300.0),
    "idslpf": SensorConfig(model="idslpf", contrast_threshold_spread=0.0),
    "esim": SensorConfig(model="esim", contrast_threshold_spread=0.0, refractory_period_us=0.0),
    "voltmeter": SensorConfig(model="voltmeter"),
    "icns": SensorConfig(model="icns", contrast_threshold_spread=0.0, refractory_period_us=100.0),
}


def with_fields(config: SensorConfig, **fields: Any) -> SensorConfig:
    """The sensor with other values."""
    return SensorConfig(**{**{name: getattr(config, name) for name in config.__dataclass_fields__}, **fields})


@pytest.mark.parametrize("model", MODELS)
def test_events_are_in_order_within_their_interval_whatever_the_threads(model: str) -> None:
    config = with_fields(MODELS[model], **BROKEN, **({} if model == "icns" else DELAYED))
    frames, times = texture(8, SIZE), times_ns(8, start=123_456)
    simulator, parts = Simulator(config, SIZE, seed=3, threads=1), []
    for k, (frame, t) in enumerate(zip(frames, times)):
        events = simulator.step(frame, t).validate()
        keys = columns(events)
        np.testing.assert_array_equal(keys[np.lexsort(keys[:, 3::-1].T[[0, 1, 2, 3]])][:, :4], keys[:, :4])
        if k and len(events):
            assert times[k - 1] // 1000 < events.t[0] <= events.t[-1] <= t // 1000
        parts.append(columns(events))
        if k == 4:  # and a saved state changes nothing
            simulator = Simulator.from_state(simulator.state(), threads=3)
    whole = columns(simulate(config, frames, times, seed=3, threads=2))
    assert len(whole) > 200
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_latency_only_moves_events() -> None:
    frames, times = texture(12, SIZE), times_ns(12, 500.0)
    still = [*frames, *[frames[-1]] * 6]
    moments = [*times, *[times[-1] + (k + 1) * 4 * MILLISECOND for k in range(6)]]
    prompt = columns(simulate(ideal(), still, moments))
    late = columns(simulate(ideal(latency_us=1234.0), still, moments))
    prompt[:, 0] += 1234
    np.testing.assert_array_equal(late, prompt)


def test_jitter_is_normal_and_within_its_bounds() -> None:
    # One event in every pixel at the same moment, so that what is seen is the delay.
    frames = [np.full((120, 200), dn, np.uint8) for dn in (100, 125, 125)]
    config = ideal(latency_us=400.0, latency_jitter_us=50.0)
    times = [0, MILLISECOND, 20 * MILLISECOND]
    crossing = simulate(ideal(), frames, times).t[0]
    delay = simulate(config, frames, times).t - crossing
    count = 120 * 200
    assert len(delay) == count
    # Four standard errors: a right sensor fails one of three tests in 5000 seeds. Rounding adds 1/12.
    assert abs(delay.mean() - 400) < 4 * 50 / math.sqrt(count)
    assert abs(delay.var() - 2500 - 1 / 12) < 4 * 2500 * math.sqrt(2 / count)
    assert abs(
        np.mean(np.abs(delay - 400) < 50.5) - math.erf(50.5 / 50 / math.sqrt(2))
    ) < 4 * 0.5 / math.sqrt(count)
    wild = simulate(ideal(latency_us=10.0, latency_jitter_us=10_000.0), frames, times).t - crossing
    assert wild.min() == 0
    assert wild.max() == 10_000


def test_a_cut_discards_what_is_on_its_way() -> None:
    simulator = Simulator(ideal(latency_us=5000.0), SIZE)
    dark, bright = (np.full(SIZE[::-1], dn, np.uint8) for dn in (50, 200))
    simulator.step(dark, 0)
    assert not len(simulator.step(bright, MILLISECOND))
    simulator.step(bright, 2 * MILLISECOND, cut=True)
    assert not len(simulator.step(bright, 50 * MILLISECOND))


@pytest.mark.parametrize("model", MODELS)
def test_dead_pixels_only_take_their_own_events_away(model: str) -> None:
    frames, times = texture(8, SIZE), times_ns(8)
    dead = np.random.default_rng(1).random(SIZE[::-1]) < 0.3
    healthy = simulate(MODELS[model], frames, times, seed=2)
    broken = simulate(MODELS[model], frames, times, seed=2, fields=RandomFields(dead_pixels=dead))
    assert_same(broken, healthy[~dead[healthy.y, healthy.x]])
    assert 0 < len(broken) < len(healthy)


@pytest.mark.parametrize("model", ["v2e", "voltmeter"])
def test_hot_pixels_only_add_events(model: str) -> None:
    frames, times = texture(8, SIZE), times_ns(8)
    config = with_fields(MODELS[model], hot_pixel_fraction=0.05, hot_pixel_rate_hz=5000.0)
    healthy = columns(simulate(MODELS[model], frames, times, seed=2))
    broken = columns(simulate(config, frames, times, seed=2))
    np.testing.assert_array_equal(broken[broken[:, 4] == SIGNAL], healthy)
    assert np.count_nonzero(broken[:, 4] == SHOT_NOISE) > 100


def test_hot_pixels_are_poisson_processes_of_their_rate() -> None:
    size, rate, seconds = (200, 150), 400.0, 1.0
    config = ideal(hot_pixel_fraction=0.01, hot_pixel_rate_hz=rate)
    events = simulate(config, [np.full(size[::-1], 100, np.uint8)] * 11, times_ns(11, 10.0), seed=4)
    pixel = events.y.astype(np.int64) * size[0] + events.x
    hot, number = np.unique(pixel, return_counts=True)
    # All bounds are four standard errors.
    chosen = 0.01 * size[0] * size[1]
    assert abs(len(hot) - chosen) < 4 * math.sqrt(chosen)
    mean = rate * seconds
    assert abs(number.mean() - mean) < 4 * math.sqrt(mean / len(hot))
    assert abs(number.var(ddof=1) / mean - 1) < 4 * math.sqrt(2 / len(hot))
    assert abs(events.p.mean() - 0.5) < 2 / math.sqrt(len(events))
    order = np.lexsort((events.t, pixel))
    gaps = np.diff(events.t[order])[np.diff(pixel[order]) == 0] * 1e-6
    assert abs(gaps.mean() * rate - 1) < 4 / math.sqrt(len(gaps)) + 0.005  # the last gap of a pixel is cut
    assert abs(np.mean(gaps > 1 / rate) - math.exp(-1)) < 4 * 0.5 / math.sqrt(len(gaps)) + 0.005
    assert set(events.label if events.label is not None else ()) == {SHOT_NOISE}


def test_fractions_of_broken_pixels_depend_on_the_seed_alone() -> None:
    config = ideal(dead_pixel_fraction=0.1, hot_pixel_fraction=0.2)
    masks = [Simulator(config, (300, 200), seed=seed)._pixels.planes() for seed in (1, 1, 2)]
    for name, part in (("dead_pixels", 0.1), ("hot_pixels", 0.2)):
        first, same, other = (mask[name] for mask in masks)
        np.testing.assert_array_equal(first, same)
        assert (first != other).any()
        assert abs(first.mean() - part) < 4 * math.sqrt(part * (1 - part) / first.size)
    assert not (masks[0]["dead_pixels"] & masks[0]["hot_pixels"]).any()


def test_counts_are_those_of_the_list() -> None:
    config = ideal(**BROKEN, **DELAYED)
    frames, times = texture(6, SIZE), times_ns(6)
    lists, counts = Simulator(config, SIZE, seed=1), Simulator(config, SIZE, seed=1)
    for frame, t in zip(frames, times):
        events = lists.step(frame, t)
        expected = np.zeros((2, *SIZE[::-1]), np.int32)
        np.add.at(expected, (1 - events.p, events.y, events.x), 1)
        np.testing.assert_array_equal(counts.count(frame, t), expected)


def test_a_long_interval_keeps_its_order() -> None:
    config = ideal(hot_pixel_fraction=0.5, hot_pixel_rate_hz=0.5)
    frames = [np.full((4, 5), 100, np.uint8)] * 2
    simulator = Simulator(config, (5, 4))
    events = watch(simulator, frames, [0, 700 * 10**9])
    assert len(events) > 500


def test_impossible_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="dead_pixel_fraction"):
        ideal(dead_pixel_fraction=0.6, hot_pixel_fraction=0.6)
    with pytest.raises(ConfigError, match="latency_us"):
        ideal(latency_us=20_000.0)
    with pytest.raises(InputError, match="dead_pixels"):
        Simulator(ideal(), SIZE, fields=RandomFields(dead_pixels=np.zeros((3, 3), bool)))
