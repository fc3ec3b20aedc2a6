"""What users rely on: times, memory of the pixels, cuts, sub-steps, state, dead time, labels."""

from __future__ import annotations

import math
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sensor_scenes import (
    MILLISECOND,
    SIM2REAL,
    assert_same,
    columns,
    ideal,
    simulate,
    texture,
    times_ns,
    watch,
)

from evsim.errors import InputError
from evsim.events import LEAK, SHOT_NOISE, SIGNAL, Events
from evsim.sensor import FrameFields, RandomFields, SensorConfig, Simulator, sorting

SIZE = (48, 32)
NOISY = SensorConfig(**SIM2REAL)


def grey(dn: float, size: tuple[int, int] = (4, 3)) -> NDArray[np.float32]:
    """A uniform float frame."""
    return np.full(size[::-1], dn / 255, np.float32)


def keys_in_order(events: Events) -> bool:
    """Sorted by (t, y, x, p)."""
    t, y, x, p, _ = columns(events).T
    order = np.lexsort((p, x, y, t))
    return bool(np.array_equal(columns(events)[order, :4], columns(events)[:, :4]))


def test_first_frame_only_sets_the_pixels() -> None:
    events = Simulator(NOISY, SIZE).step(texture(1, SIZE)[0], 5)
    assert len(events) == 0
    assert events.label is not None
    assert (events.width, events.height) == SIZE


@pytest.mark.parametrize("start_s", [60, 1000, -7])
@pytest.mark.parametrize("config", [ideal(), NOISY], ids=["ideal", "noisy"])
def test_a_clip_that_starts_late_gives_the_same_events_later(config: SensorConfig, start_s: int) -> None:
    frames = texture(12, SIZE)
    early = simulate(config, frames, times_ns(12))
    late = simulate(config, frames, times_ns(12, start=start_s * 10**9))
    assert len(early) > 500
    shifted = columns(early)
    shifted[:, 0] += start_s * 10**6
    np.testing.assert_array_equal(columns(late), shifted)


def test_events_keep_microseconds_after_an_hour() -> None:
    times = [3600 * 10**9, 3600 * 10**9 + MILLISECOND]
    events = simulate(ideal(), [grey(50), grey(50 * math.exp(1.01))], times)
    first_pixel = events[(events.x == 0) & (events.y == 0)]
    np.testing.assert_allclose(first_pixel.t - 3600 * 10**6, np.arange(1, 6) * 200 / 1.01, atol=1)


def test_each_pixel_has_its_own_crossing_times() -> None:
    before, after = grey(50), grey(50)
    after[0, 0] *= math.exp(0.25)
    after[1, 1] *= math.exp(0.75)
    after[2, 2] *= math.exp(-0.5)
    events = simulate(ideal(), [before, after], [0, MILLISECOND])
    times = {(x, y): events.t[(events.x == x) & (events.y == y)] for x, y in ((0, 0), (1, 1), (2, 2))}
    np.testing.assert_allclose(times[0, 0], [800], atol=1)
    np.testing.assert_allclose(times[1, 1], np.array([0.2, 0.4, 0.6]) / 0.75 * 1000, atol=1)
    np.testing.assert_allclose(times[2, 2], [400, 800], atol=1)
    assert len(events) == 6


def test_grid_clock_shares_slots_between_pixels() -> None:
    before, after = grey(50), grey(50)
    after[0, 0] *= math.exp(0.25)
    after[1, 1] *= math.exp(0.75)
    events = simulate(ideal(clock="grid"), [before, after], [0, MILLISECOND])
    assert events.t.tolist() == [333, 333, 667, 1000]


def test_slow_ramp_below_the_threshold_per_frame_fires() -> None:
    frames = [grey(50 * math.exp(0.0503 * k)) for k in range(41)]
    events = simulate(ideal(), frames, times_ns(41, 1000))
    assert len(events) == 12 * math.floor(0.0503 * 40 / 0.2)
    assert events.p.all()


def test_polarity_is_symmetric_for_the_ideal_pixel() -> None:
    rng = np.random.default_rng(3)
    ramps = np.cumsum(0.15 * rng.standard_normal((20, 16, 24)), axis=0).clip(-1, 1)
    times = times_ns(20)
    up, down = (
        simulate(ideal(float_full_scale=255.0), (75 * np.exp(sign * ramps)).astype(np.float32), times)
        for sign in (1, -1)
    )
    assert len(up) > 1000
    by_pixel = [columns(events)[np.lexsort((events.t, events.x, events.y))] for events in (up, down)]
    np.testing.assert_array_equal(by_pixel[0][:, 1:3], by_pixel[1][:, 1:3])
    np.testing.assert_array_equal(by_pixel[0][:, 3], 1 - by_pixel[1][:, 3])
    np.testing.assert_allclose(by_pixel[0][:, 0], by_pixel[1][:, 0], rtol=0, atol=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("cutoff_hz", [0.0, 300.0])
def test_static_scene_without_noise_is_silent(dtype: type, cutoff_hz: float) -> None:
    codes = np.arange(256, dtype=np.uint16).reshape(16, 16)
    frame = {np.uint8: codes, np.uint16: codes * 257, np.float32: codes / 255}[dtype].astype(dtype)
    config = SensorConfig(
        cutoff_hz=cutoff_hz, leak_rate_hz=0.0, shot_noise_rate_hz=0.0, contrast_threshold_spread=0.05
    )
    simulator = Simulator(config, (16, 16))
    assert sum(len(simulator.step(frame, k * MILLISECOND)) for k in range(100)) == 0


def test_code_value_types_agree() -> None:
    frames = texture(8, SIZE)
    reference = simulate(ideal(), frames, times_ns(8))
    assert_same(simulate(ideal(), frames.astype(np.uint16) * 257, times_ns(8)), reference)
    assert_same(simulate(ideal(), frames.astype(">u2") * np.uint16(257), times_ns(8)), reference)
    floats = simulate(ideal(), frames.astype(np.float64) / 255, times_ns(8))
    assert abs(len(floats) - len(reference)) <= 0.002 * len(reference)


def test_a_lagging_reference_catches_up() -> None:
    config = SensorConfig(**{**SIM2REAL, "model": "v2e", "cutoff_hz": 0.0, "shot_noise_rate_hz": 0.0})
    config = SensorConfig(**{**config.__dict__, "leak_rate_hz": 1.0, "contrast_threshold_spread": 0.0})
    simulator = Simulator(config, (16, 16))
    still = sum(len(simulator.step(grey(60, (16, 16)), k * 20 * MILLISECOND)) for k in range(151))
    ramp = [
        simulator.step(grey(60 * math.exp(0.078 * k), (16, 16)), 3 * 10**9 + k * 20 * MILLISECOND)
        for k in range(1, 11)
    ]
    assert still > 2 * 256
    assert sum(len(events) for events in ramp) >= 3 * 256
    assert all(events.p.all() for events in ramp)


def test_events_lie_inside_their_interval() -> None:
    simulator, times = Simulator(NOISY, SIZE), times_ns(10, 1913.7, start=999)
    for k, frame in enumerate(texture(10, SIZE)):
        events = simulator.step(frame, times[k])
        if k and len(events):
            assert events.t[0] >= times[k - 1] // 1000 + 1
            assert events.t[-1] <= times[k] // 1000


def test_interval_of_one_microsecond_is_sorted() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 40, 300), dtype=np.uint8)
    events = simulate(ideal(contrast_threshold_on=0.05), frames, [0, 1000, 2000, 3500])
    assert len(events) > 100_000
    assert set(events.t.tolist()) == {1, 2, 3}
    assert keys_in_order(events)


def test_thousands_of_events_per_pixel_are_kept() -> None:
    bright = np.full((12, 40), 1e9, np.float32)
    config = ideal(contrast_threshold_on=0.01)
    events = simulate(config, [np.zeros_like(bright), bright], [0, 10 * MILLISECOND])
    per_pixel = len(events) / bright.size
    assert abs(per_pixel - math.log(255e9) / 0.01) <= 1
    assert keys_in_order(events)


@pytest.mark.parametrize("config", [ideal(), NOISY], ids=["ideal", "noisy"])
def test_threads_and_recycled_outputs_do_not_change_events(config: SensorConfig) -> None:
    frames, times = texture(10, SIZE), times_ns(10)
    one = simulate(config, frames, times, seed=4)
    assert keys_in_order(one)
    for threads in (2, 3, 64):
        assert_same(simulate(config, frames, times, seed=4, threads=threads), one)
    simulator = Simulator(config, SIZE, seed=4, recycle=True)
    parts = [simulator.step(frame, t) for frame, t in zip(frames, times)]
    assert parts[-1].t.base is parts[-2].t.base is not None
    np.testing.assert_array_equal(columns(parts[-1]), columns(one)[-len(parts[-1]) :])


def test_seed_and_clip_decide_the_noise() -> None:
    frames, times = texture(6, SIZE), times_ns(6)
    first = simulate(NOISY, frames, times, seed=1, clip="a/b.mp4")
    assert_same(simulate(NOISY, frames, times, seed=1, clip="a/b.mp4"), first)
    for other in ({"seed": 2, "clip": "a/b.mp4"}, {"seed": 1, "clip": "a/c.mp4"}):
        different = simulate(NOISY, frames, times, **other)
        assert columns(different).tolist() != columns(first).tolist()


@pytest.mark.parametrize("clock", ["linear", "grid"])
def test_a_saved_state_goes_on_bit_for_bit(clock: Any) -> None:
    config = SensorConfig(**SIM2REAL, clock=clock, step_rate_hz=1920.0)
    frames, times = texture(9, SIZE), times_ns(9, 960.0)
    whole = simulate(config, frames, times, seed=3, clip="c")
    simulator, parts = Simulator(config, SIZE, seed=3, clip="c"), []
    for k, (frame, t) in enumerate(zip(frames, times)):
        if k % 3 == 1:
            simulator = Simulator.from_state(pickle.loads(pickle.dumps(simulator.state())), threads=1 + k % 2)
        parts.append(simulator.step(frame, t))
    assert_same(Events.concatenate(parts), whole)


def test_a_state_is_a_copy_and_says_its_version() -> None:
    simulator, frames = Simulator(NOISY, SIZE), texture(3, SIZE)
    simulator.step(frames[0], 0)
    state = simulator.state()
    expected = simulator.step(frames[1], MILLISECOND)
    assert_same(Simulator.from_state(state).step(frames[1], MILLISECOND), expected)
    assert_same(Simulator.from_state(state).step(frames[1], MILLISECOND), expected)
    with pytest.raises(InputError, match="version 0, expected 1"):
        Simulator.from_state({**state, "version": 0})


def test_explicit_pattern_survives_a_saved_state() -> None:
    pattern = RandomFields(*np.random.default_rng(0).uniform(0.1, 0.4, (2, 32, 48)))
    simulator = Simulator(ideal(), SIZE, fields=pattern)
    restored = Simulator.from_state(simulator.state())
    np.testing.assert_allclose(restored.probe()["threshold_on"], pattern.threshold_on, rtol=1e-7)
    frames, times = texture(5, SIZE), times_ns(5)
    assert_same(watch(restored, frames, times), watch(simulator, frames, times))


def test_a_cut_emits_nothing_and_keeps_the_fixed_pattern() -> None:
    frames = texture(6, SIZE)
    config = ideal(contrast_threshold_spread=0.03)
    simulator = Simulator(config, SIZE)
    simulator.step(frames[0], 0)
    assert len(simulator.step(frames[1], MILLISECOND)) > 0
    pattern = simulator.probe()["threshold_on"]
    assert len(simulator.step(255 - frames[2], 2 * MILLISECOND, cut=True)) == 0
    assert len(simulator.step(255 - frames[2], 3 * MILLISECOND)) == 0
    np.testing.assert_array_equal(simulator.probe()["threshold_on"], pattern)
    fresh = Simulator(config, SIZE)
    fresh.step(255 - frames[2], 3 * MILLISECOND)
    after = [sensor.step(255 - frames[3], 4 * MILLISECOND) for sensor in (simulator, fresh)]
    assert_same(after[0], after[1])


def test_intervals_are_divided_to_the_rate_of_the_model() -> None:
    config = SensorConfig(**SIM2REAL, float_full_scale=255.0)
    frames = texture(4, SIZE).astype(np.float32)
    dense, times = [frames[0]], [0]
    for k in range(1, 4):
        for part in range(1, 5):
            weight = np.float32(part / 4)
            step = frames[k - 1] + (frames[k] - frames[k - 1]) * weight
            dense.append(frames[k] if part == 4 else step)
            times.append((k - 1) * 2_083_332 + 2_083_332 * part // 4)
    divided = SensorConfig(**SIM2REAL, float_full_scale=255.0, step_rate_hz=1920.0)
    assert_same(simulate(divided, frames, times[::4]), simulate(config, dense, times))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_divided_code_values_agree_with_divided_floats(dtype: type) -> None:
    config = SensorConfig(**SIM2REAL, step_rate_hz=1920.0)
    frames = texture(4, SIZE)
    codes = frames.astype(dtype) * dtype(257 if dtype == np.uint16 else 1)
    ours = simulate(config, codes, times_ns(4, 240))
    floats = simulate(config, frames / np.float32(255), times_ns(4, 240))
    assert abs(len(ours) - len(floats)) < 0.005 * len(floats)


def test_another_rate_without_substeps_warns_once() -> None:
    config = SensorConfig(**SIM2REAL, step_rate_hz=1920.0, substep=False)
    simulator, frames = Simulator(config, SIZE), texture(3, SIZE)
    simulator.step(frames[0], 0)
    with pytest.warns(UserWarning, match="1920 Hz"):
        simulator.step(frames[1], 5 * MILLISECOND)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulator.step(frames[2], 10 * MILLISECOND)
        simulate(config, frames, times_ns(3))


def test_dead_time_separates_events_and_refused_ones_come_later() -> None:
    times = [0, *(k * MILLISECOND for k in range(1, 40))]
    frames = [grey(30), grey(30 * math.exp(2.1)), *[grey(30 * math.exp(2.1))] * 38]
    events = simulate(ideal(refractory_period_us=1500.0), frames, times)
    one = events[(events.x == 1) & (events.y == 1)]
    assert len(one) == 10
    assert one.duration_us > 10_000
    assert np.diff(one.t).min() > 1500
    assert_same(simulate(ideal(), frames, times), simulate(ideal(refractory_period_us=0.5), frames, times))


def test_dead_time_holds_after_the_clock_of_last_events_moved() -> None:
    config = ideal(refractory_period_us=2000.0)
    for late in (MILLISECOND, 700 * 10**9):
        simulator = Simulator(config, (4, 3))
        simulator.step(grey(50), 0)
        simulator.step(grey(50), late)
        counts = [
            len(simulator.step(grey(50 * math.exp(0.25 * k)), late + k * MILLISECOND)) for k in range(1, 5)
        ]
        # Crossings at 1.6 and 2.4 ms are refused; the first retry after 2.8 ms is at the start of the fourth.
        assert counts == [12, 0, 0, 12]


def test_shot_noise_on_a_pixel_that_fires_is_not_lost() -> None:
    config = ideal(shot_noise_rate_hz=100.0)
    simulator = Simulator(config, (4, 3))
    simulator.step(grey(50), 0)
    fields = FrameFields(shot_uniform=np.ones((3, 4), np.float32))
    events = simulator.step(grey(50 * math.exp(0.5)), MILLISECOND, fields=fields)
    assert events.label is not None
    assert np.count_nonzero(events.label == SIGNAL) == 24
    assert np.count_nonzero(events.label == SHOT_NOISE) == 12
    np.testing.assert_allclose(simulator.probe()["base"], simulator.probe()["low_pass"])


def test_leak_events_are_labelled_and_edges_are_not() -> None:
    config = ideal(leak_rate_hz=4.0, leak_jitter=0.0, leak_rate_spread_decades=0.0)
    simulator = Simulator(config, (4, 3))
    simulator.step(grey(50), 0)
    still = [simulator.step(grey(50), k * 10 * MILLISECOND) for k in range(1, 101)]
    labels = np.concatenate([events.label for events in still])
    assert len(labels) >= 12 * 3
    assert set(labels.tolist()) == {LEAK}
    simulator.step(grey(50), 1001 * MILLISECOND, cut=True)
    edge = simulator.step(grey(50 * math.exp(0.5)), 1002 * MILLISECOND)
    assert edge.label is not None
    assert set(edge.label.tolist()) == {SIGNAL}


def test_long_still_interval_leaks_many_labelled_events() -> None:
    config = ideal(leak_rate_hz=3.0, leak_jitter=0.0, leak_rate_spread_decades=0.0)
    events = simulate(config, [grey(50), grey(50)], [0, 50_000 * MILLISECOND])
    assert events.label is not None
    assert abs(len(events) / 12 - 150) <= 1
    assert set(events.label.tolist()) == {LEAK}
    assert keys_in_order(events)


@pytest.mark.parametrize("limit", ["SLOT_LIMIT", "WIDTH_LIMIT"])
@pytest.mark.parametrize("config", [ideal(), NOISY], ids=["ideal", "noisy"])
def test_the_path_for_large_sensors_gives_the_same_events(
    config: SensorConfig, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, times = texture(8, SIZE), times_ns(8, 500.0)
    fast = simulate(config, frames, times)
    monkeypatch.setattr(sorting, limit, 8)
    assert_same(simulate(config, frames, times), fast)


@pytest.mark.parametrize(("size", "interval_ns"), [((40_000, 2), MILLISECOND), ((8, 6), 3600 * 10**9)])
def test_wide_sensors_and_long_intervals_work(size: tuple[int, int], interval_ns: int) -> None:
    config = SensorConfig(**{**SIM2REAL, "shot_noise_rate_hz": 1.0})
    frames = texture(3, size)
    events = simulate(config, frames, [0, interval_ns, 2 * interval_ns])
    assert len(events) > 1000
    assert keys_in_order(events)
    assert events.x.max() > 0.85 * size[0]
