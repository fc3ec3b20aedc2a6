"""The models esim, voltmeter and icns: closed forms, statistics, and the invariances of every model."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sensor_scenes import MILLISECOND, assert_same, columns, simulate, texture, times_ns

from evsim.errors import ConfigError, InputError
from evsim.events import SHOT_NOISE, SIGNAL, Events
from evsim.sensor import EventSum, FrameFields, RandomFields, SensorConfig, Simulator

SECOND = 10**9
SIZE = (48, 32)
FIELD = (100, 80)
PIXELS = FIELD[0] * FIELD[1]
NORMAL = statistics.NormalDist()


def esim(**fields: Any) -> SensorConfig:
    """ESIM without mismatch and dead time."""
    return SensorConfig(
        **{"model": "esim", "contrast_threshold_spread": 0.0, "refractory_period_us": 0.0, **fields}
    )


def voltmeter(**fields: Any) -> SensorConfig:
    """DVS-Voltmeter with the DVS346's values."""
    return SensorConfig(model="voltmeter", **fields)


def icns(**fields: Any) -> SensorConfig:
    """ICNS's example without any randomness."""
    return SensorConfig(
        **{
            "model": "icns",
            "contrast_threshold_on": 0.4,
            "contrast_threshold_off": 0.4,
            "contrast_threshold_spread": 0.0,
            "refractory_period_us": 100.0,
            "latency_jitter_us": 0.0,
            "noise_rate_on_hz": 0.0,
            "noise_rate_off_hz": 0.0,
            **fields,
        }
    )


NOISY_ICNS = icns(
    contrast_threshold_spread=0.03, latency_jitter_us=10.0, noise_rate_on_hz=30.0, noise_rate_off_hz=20.0
)
BROWNIAN = voltmeter(voltmeter_photon_noise=0.0, voltmeter_light_leak=0.0, voltmeter_noise_floor=0.01)
MODELS = [
    esim(),
    esim(contrast_threshold_spread=0.05, refractory_period_us=150.0),
    voltmeter(),
    BROWNIAN,
    icns(),
    NOISY_ICNS,
]
IDS = ["esim", "esim-mismatch", "voltmeter", "voltmeter-noisy", "icns", "icns-noisy"]


def grey(dn: float, size: tuple[int, int] = FIELD) -> NDArray[np.float32]:
    """A uniform float frame."""
    return np.full(size[::-1], dn / 255, np.float32)


def light(level: float, size: tuple[int, int] = FIELD) -> NDArray[np.float32]:
    """A uniform float frame of so much light for model icns."""
    return grey(level * 255 / 1e4, size)


def esim_frame(level: float) -> NDArray[np.float32]:
    """A uniform frame whose ESIM log intensity is `level`."""
    return grey(255 * (math.exp(level) - 1e-3), (3, 2))


def of_one_pixel(events: Events, x: int = 0, y: int = 0) -> Events:
    """Events of one pixel."""
    return events[(events.x == x) & (events.y == y)]


def first_events(events: Events) -> Events:
    """The first event of every pixel."""
    _, first = np.unique(events.y.astype(np.int64) * events.width + events.x, return_index=True)
    chosen = np.zeros(len(events), np.bool_)
    chosen[first] = True
    return events[chosen]


# --- every model


@pytest.mark.parametrize("config", MODELS, ids=IDS)
def test_events_are_in_order_and_within_their_interval(config: SensorConfig) -> None:
    frames, times = texture(8, SIZE), times_ns(8, start=123_456)
    simulator = Simulator(config, SIZE, seed=3)
    total = 0
    for k, (frame, t) in enumerate(zip(frames, times)):
        events = simulator.step(frame, t).validate()
        total += len(events)
        keys = columns(events)
        order = np.lexsort((keys[:, 3], keys[:, 2], keys[:, 1], keys[:, 0]))
        np.testing.assert_array_equal(keys[order, :4], keys[:, :4])
        if k and len(events):
            assert times[k - 1] // 1000 < events.t[0] <= events.t[-1] <= t // 1000
    assert total > 300


@pytest.mark.parametrize("config", MODELS, ids=IDS)
def test_shift_in_time_only_shifts_events(config: SensorConfig) -> None:
    frames = texture(8, SIZE)
    early = columns(simulate(config, frames, times_ns(8), seed=3))
    late = columns(simulate(config, frames, times_ns(8, start=3600 * SECOND), seed=3))
    early[:, 0] += 3600 * 10**6
    np.testing.assert_array_equal(early, late)


@pytest.mark.parametrize("config", MODELS, ids=IDS)
def test_threads_chunks_and_recycled_outputs_do_not_change_events(config: SensorConfig) -> None:
    frames, times = texture(8, SIZE), times_ns(8)
    whole = simulate(config, frames, times, seed=3)
    assert_same(simulate(config, frames, times, seed=3, threads=5), whole)
    simulator = Simulator(config, SIZE, seed=3, threads=2, recycle=True)
    parts = []
    for frame, t in zip(frames, times):
        events = simulator.step(frame, t)
        assert events.label is not None
        parts.append(
            Events(
                *(column.copy() for column in (events.t, events.x, events.y, events.p)),
                *SIZE,
                0,
                events.label.copy(),
            )
        )
        simulator = Simulator.from_state(simulator.state(), threads=3, recycle=True)
    assert_same(Events.concatenate(parts), whole)


@pytest.mark.parametrize("config", [MODELS[1], *MODELS[2:4], MODELS[5]], ids=[IDS[1], *IDS[2:4], IDS[5]])
def test_the_seed_and_the_clip_decide_the_draws(config: SensorConfig) -> None:
    frames, times = texture(4, SIZE), times_ns(4)
    found = [
        columns(simulate(config, frames, times, **options)).tobytes()
        for options in ({"seed": 1}, {"seed": 1}, {"seed": 2}, {"seed": 1, "clip": "other"})
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    "config",
    [
        esim(),
        voltmeter(
            voltmeter_photon_noise=0, voltmeter_leak=0, voltmeter_light_leak=0, voltmeter_noise_floor=0
        ),
        icns(),
    ],
    ids=["esim", "voltmeter", "icns"],
)
def test_static_scene_without_noise_is_silent(config: SensorConfig) -> None:
    frame = texture(1, SIZE)[0]
    assert len(simulate(config, [frame] * 5, times_ns(5, rate=2))) == 0


@pytest.mark.parametrize("config", MODELS, ids=IDS)
def test_a_cut_sets_the_pixels_to_rest(config: SensorConfig) -> None:
    first, second = texture(1, SIZE)[0], texture(1, SIZE, seed=1)[0]
    simulator = Simulator(config, SIZE, threads=1)
    simulator.step(first, 0)
    assert len(simulator.step(second, 1 * MILLISECOND, cut=True)) == 0
    events = simulator.step(second, 1 * MILLISECOND + 100_000)
    assert np.all(events.label == SHOT_NOISE) or config is BROWNIAN


@pytest.mark.parametrize("config", [esim(), voltmeter(), icns()], ids=["esim", "voltmeter", "icns"])
def test_codes_of_8_and_16_bits_and_floats_mean_the_same_light(config: SensorConfig) -> None:
    frames, times = texture(4, SIZE), times_ns(4)
    eight = columns(simulate(config, frames, times))
    sixteen = columns(simulate(config, frames.astype(np.uint16) * 257, times))
    floats = columns(simulate(config, frames / np.float32(255), times))
    for other in (sixteen, floats):
        same = set(map(tuple, eight[:, 1:4])) ^ set(map(tuple, other[:, 1:4]))
        assert len(same) <= 0.002 * len(eight)
        assert abs(len(other) - len(eight)) <= 0.002 * len(eight)


@pytest.mark.parametrize("dn", [0.0, 255.0, 9e5])
@pytest.mark.parametrize("config", MODELS, ids=IDS)
def test_extreme_light_gives_finite_signals(config: SensorConfig, dn: float) -> None:
    simulator = Simulator(config, (6, 4))
    for k, level in enumerate((40.0, dn, 40.0)):
        simulator.step(grey(level, (6, 4)), k * MILLISECOND).validate()
    assert all(np.isfinite(plane).all() for plane in simulator.probe().values())
    assert np.isfinite(simulator.log_intensity(grey(dn, (6, 4)))).all()


@pytest.mark.parametrize("config", [voltmeter(), icns()], ids=["voltmeter", "icns"])
def test_light_beyond_the_models_is_refused_and_changes_nothing(config: SensorConfig) -> None:
    frames, times = texture(3, SIZE), times_ns(3)
    simulator = Simulator(config, SIZE, threads=1)
    simulator.step(frames[0], times[0])
    with pytest.raises(InputError, match="float_full_scale"):
        simulator.step(grey(1e20, SIZE), times[1])
    events = Events.concatenate([simulator.step(frames[k], times[k]) for k in (1, 2)])
    assert_same(events, simulate(config, frames, times))


@pytest.mark.parametrize("add", [False, True], ids=["step", "add"])
@pytest.mark.parametrize("config", [voltmeter(step_rate_hz=4000.0), icns(step_rate_hz=4000.0)])
def test_a_refused_interval_of_several_passes_leaves_no_trace(config: SensorConfig, add: bool) -> None:
    frames, times = (texture(3, SIZE) / np.float32(255)).astype(np.float32), times_ns(3)
    simulator, untouched = Simulator(config, SIZE), Simulator(config, SIZE)
    target = EventSum.counts(np.zeros((2, *SIZE[::-1]), np.int32))
    for one in (simulator, untouched):
        one.step(frames[0], times[0])
    # Light that only the last of the passes between would be refused for.
    bright = np.full_like(frames[0], 1.2e6 / 255)
    with pytest.raises(InputError, match="float_full_scale"):
        _ = simulator.add(bright, times[1], target) if add else simulator.step(bright, times[1])
    assert simulator.passes == 0
    assert not target.out.any()
    for frame, t in zip(frames[1:], times[1:]):
        assert_same(simulator.step(frame, t), untouched.step(frame, t))
    assert simulator.passes == untouched.passes > 2


def test_a_warning_that_is_an_error_leaves_no_trace() -> None:
    simulator, frames = Simulator(icns(step_rate_hz=1e5, substep=False), SIZE), texture(2, SIZE)
    simulator.step(frames[0], 0)
    for _ in range(2):
        with pytest.raises(UserWarning, match="100000 Hz"):
            simulator.step(frames[1], 10**6)
        assert not simulator.state()["warned"]


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("v2e", {"time_constant_us": 50.0}),
        ("esim", {"cutoff_hz": 100.0}),
        ("esim", {"clock": "grid"}),
        ("voltmeter", {"contrast_threshold_on": 0.3}),
        ("icns", {"voltmeter_gain": 4.0}),
    ],
)
def test_a_field_the_model_does_not_use_is_refused(model: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(fields))}.*does not use"):
        SensorConfig(model=model, **fields)


def test_switching_off_what_a_model_does_not_have_is_accepted() -> None:
    SensorConfig(model="voltmeter", cutoff_hz=0.0, leak_rate_hz=0.0, shot_noise_rate_hz=0.0)


def test_random_fields_the_model_does_not_have_are_refused() -> None:
    plane = np.full((2, 3), 0.5, np.float32)
    with pytest.raises(InputError, match="threshold_on"):
        Simulator(voltmeter(), (3, 2), fields=RandomFields(threshold_on=plane))
    simulator = Simulator(esim(), (3, 2))
    simulator.step(grey(10, (3, 2)), 0)
    with pytest.raises(InputError, match="random fields"):
        simulator.step(grey(10, (3, 2)), MILLISECOND, fields=FrameFields(leak_jitter=plane))


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (70, 1)])
@pytest.mark.parametrize("config", MODELS, ids=IDS)
def test_small_and_narrow_sensors_and_long_intervals(config: SensorConfig, size: tuple[int, int]) -> None:
    frames = texture(3, size)
    times = [0, 40 * MILLISECOND, 2 * SECOND]
    one = simulate(config, frames, times, seed=1)
    assert_same(simulate(config, frames, times, seed=1, threads=4), one)


@pytest.mark.parametrize("config", MODELS, ids=IDS)
def test_intervals_of_one_microsecond(config: SensorConfig) -> None:
    frames = texture(6, SIZE)
    simulator = Simulator(config, SIZE, seed=1)
    for k, frame in enumerate(frames):
        events = simulator.step(frame, 1000 * k).validate()
        assert np.all(events.t == k)


def test_a_pixel_with_more_events_than_there_was_room_for() -> None:
    simulator = Simulator(esim(contrast_threshold_on=0.01), (20, 20), threads=1)
    simulator.step(grey(1, (20, 20)), 0)
    events = simulator.step(grey(250, (20, 20)), 40 * MILLISECOND).validate()
    expected = math.floor(math.log((250 / 255 + 1e-3) / (1 / 255 + 1e-3)) / 0.01)
    assert len(events) == 400 * expected > 1224


# --- esim


def test_esim_crossing_times_of_a_ramp() -> None:
    frames = [esim_frame(level) for level in (-3.0, -2.5, -1.9)]
    events = of_one_pixel(simulate(esim(), frames, [0, 10 * MILLISECOND, 20 * MILLISECOND]))
    steps = 0.2 * np.arange(1, 6)
    expected = np.where(steps <= 0.5, steps / 0.5 * 10_000, 10_000 + (steps - 0.5) / 0.6 * 10_000)
    np.testing.assert_allclose(events.t, expected, atol=1)
    assert np.all(events.p == 1)
    assert np.all(events.label == SIGNAL)


@pytest.mark.parametrize("theta", [0.07, 0.2, 0.33])
def test_esim_number_of_events_is_the_whole_part(theta: float) -> None:
    config = esim(contrast_threshold_on=theta, contrast_threshold_off=1.5 * theta)
    up = simulate(config, [esim_frame(-4), esim_frame(-0.95)], [0, 10 * MILLISECOND])
    down = simulate(config, [esim_frame(-0.95), esim_frame(-4)], [0, 10 * MILLISECOND])
    assert len(of_one_pixel(up)) == math.floor(3.05 / theta)
    assert len(of_one_pixel(down)) == math.floor(3.05 / theta / 1.5)


def test_esim_reversed_light_swaps_polarities_and_mirrors_times() -> None:
    up = of_one_pixel(simulate(esim(), [esim_frame(-3), esim_frame(-1.9)], [0, 10 * MILLISECOND]))
    down = of_one_pixel(simulate(esim(), [esim_frame(-1.9), esim_frame(-3)], [0, 10 * MILLISECOND]))
    np.testing.assert_allclose(up.t, down.t, atol=1)
    np.testing.assert_array_equal(up.p, 1 - down.p)


def test_esim_reference_that_lags_behind_catches_up_at_once() -> None:
    simulator = Simulator(esim(), (3, 2))
    simulator.step(esim_frame(-3), 0)
    state = simulator.state()
    state["pixels"]["base"] -= 0.5
    for level in (-3.0, -3.05, -2.95):
        events = of_one_pixel(Simulator.from_state(state).step(esim_frame(level), MILLISECOND))
        np.testing.assert_array_equal(events.t, [1, 1])
        assert np.all(events.p == 1)


def test_esim_crossings_in_the_dead_time_move_the_reference_but_are_no_events() -> None:
    config = esim(refractory_period_us=2500.0)
    frames = [esim_frame(level) for level in (-3.0, -1.95, -1.95, -1.85)]
    events = of_one_pixel(simulate(config, frames, times_ns(4, rate=100)))
    # Crossings at 0.2, 0.4 ... 1.0 of 1.05 in 10 ms: every second is refused.
    np.testing.assert_allclose(events.t, np.array([0.2, 0.6, 1.0]) / 1.05 * 10_000, atol=1)


# --- voltmeter


def still(config: SensorConfig, seconds: float, dn: float, seed: int = 1) -> Events:
    """Events of a static scene, as one interval."""
    return simulate(config, [grey(dn)] * 2, [0, round(seconds * SECOND)], seed=seed)


@pytest.mark.parametrize(("drift", "sigma"), [(1e-4, 0.01), (2e-5, 0.01), (3e-5, 0.004)])
def test_voltmeter_side_of_exit_has_the_two_sided_probability(drift: float, sigma: float) -> None:
    config = voltmeter(
        voltmeter_leak=drift,
        voltmeter_noise_floor=sigma,
        voltmeter_photon_noise=0.0,
        voltmeter_light_leak=0.0,
    )
    first = first_events(still(config, 1.0, 0.0))
    assert len(first) > 0.99 * PIXELS
    expected = 1 / (1 + math.exp(-2 * drift / sigma**2))
    deviation = math.sqrt(expected * (1 - expected) / len(first))
    assert abs(np.mean(first.p) - expected) < 4 * deviation + (PIXELS - len(first)) / PIXELS


def test_voltmeter_waiting_time_with_drift_is_inverse_gaussian() -> None:
    drift, sigma = 1e-4, 0.003
    config = voltmeter(
        voltmeter_leak=drift,
        voltmeter_noise_floor=sigma,
        voltmeter_photon_noise=0.0,
        voltmeter_light_leak=0.0,
    )
    waits = first_events(still(config, 0.5, 0.0)).t.astype(np.float64)
    mean, shape = 1 / drift, 1 / sigma**2
    assert len(waits) == PIXELS
    variance = mean**3 / shape
    assert abs(waits.mean() - mean) < 4 * math.sqrt(variance / PIXELS)
    # The excess kurtosis of the law is 15 mean / shape.
    spread = math.sqrt((2 + 15 * mean / shape) / PIXELS)
    assert abs(waits.var() / variance - 1) < 4 * spread
    for share in (0.1, 0.5, 0.9):
        t = np.quantile(waits, share)
        a, b = math.sqrt(shape / t), t / mean
        law = NORMAL.cdf(a * (b - 1)) + math.exp(2 * shape / mean) * NORMAL.cdf(-a * (b + 1))
        assert abs(law - share) < 4 * math.sqrt(share * (1 - share) / PIXELS)


def test_voltmeter_waiting_time_without_drift_is_levys_with_median_2_198() -> None:
    config = voltmeter(
        voltmeter_leak=0.0,
        voltmeter_noise_floor=0.02,
        voltmeter_photon_noise=0.0,
        voltmeter_light_leak=0.0,
    )
    first = first_events(still(config, 0.5, 0.0))
    scale = 1 / 0.02**2
    # Half of the waits are below the median; the density of the law at its median is 0.0724 / scale.
    median = float(np.median(np.append(first.t, np.full(PIXELS - len(first), 10**9))))
    assert abs(median / scale - 2.198) < 4 * 0.5 / math.sqrt(PIXELS) / 0.0724
    assert abs(np.mean(first.p) - 0.5) < 4 * 0.5 / math.sqrt(len(first))


@pytest.mark.parametrize(("dn", "events_in_2_s"), [(30, 0), (100, 1), (200, 2)])
def test_voltmeter_leak_of_a_still_scene(dn: float, events_in_2_s: int) -> None:
    frames = [grey(dn)] * 41
    events = simulate(voltmeter(), frames, times_ns(41, rate=20), seed=2)
    assert np.all(events.p == 1)
    assert abs(len(events) / PIXELS - events_in_2_s) < 0.02


def test_voltmeter_edge_gives_events_of_both_thresholds() -> None:
    for first, last in ((50.0, 150.0), (150.0, 50.0)):
        events = simulate(voltmeter(), [grey(first), grey(last)], [0, 5 * MILLISECOND])
        drift = 5.265 * 100 / (100 + 20)
        assert np.all(events.p == (last > first))
        assert abs(len(events) / PIXELS - math.floor(drift)) < 0.02


# --- icns


def test_icns_step_crosses_when_the_first_order_response_does() -> None:
    events = simulate(icns(), [light(100), light(1000)], [0, 20 * MILLISECOND])
    v, target, tau = math.log(101), math.log(1001), 40e3 / 1001
    expected, t = [], 0.0
    while target - v > 0.4:
        wait = 100 - tau * math.log(1 - 0.4 / (target - v))
        expected.append(t + wait)
        t += wait + 100
        v = target + (v - target) * math.exp(-(wait + 100) / tau)
    assert len(expected) == 1
    np.testing.assert_allclose(of_one_pixel(events).t, expected, atol=1)


@pytest.mark.parametrize(("before", "after", "polarity"), [(20, 40, 1), (40, 20, 0)])
def test_icns_slow_pixel_fires_at_each_reset(before: float, after: float, polarity: int) -> None:
    config = icns(contrast_threshold_on=0.1, contrast_threshold_off=0.1, latency_us=20.0)
    events = of_one_pixel(simulate(config, [light(before), light(after)], [0, 20 * MILLISECOND]))
    target, tau = math.log(after + 1), 40e3 / (after + 1)
    v, t, expected = math.log(before + 1), 0.0, []
    while abs(target - v) > 0.1:
        wait = 20 - tau * math.log(1 - 0.1 / abs(target - v))
        expected.append(t + wait)
        v = target + (v - target) * math.exp(-(wait + 100) / tau)
        t += wait + 100
    assert len(expected) > 2
    np.testing.assert_allclose(events.t, expected, atol=1)
    assert np.all(events.p == polarity)


def test_icns_event_after_the_interval_comes_in_its_own() -> None:
    frames = [light(100)] + [light(1000)] * 6
    whole = simulate(icns(), [light(100), light(1000)], [0, 6 * MILLISECOND])
    parts = simulate(icns(), frames, [0, *(50_000 * k for k in range(1, 6)), 6 * MILLISECOND])
    assert len(whole) == PIXELS
    assert_same(parts, whole)


def test_icns_dead_time_swallows_what_happens_in_it() -> None:
    # A flash after the first event, over before the dead time is.
    config = icns(refractory_period_us=5000.0, latency_us=0.0)
    levels = [100, 1000, 9000, 1000, 1000]
    events = simulate(config, [light(level) for level in levels], times_ns(5, rate=1000))
    assert len(of_one_pixel(events)) == 1
    no_dead_time = simulate(icns(latency_us=0.0), [light(level) for level in levels], times_ns(5, rate=1000))
    np.testing.assert_array_equal(of_one_pixel(no_dead_time).p, [1, 1, 0])


def test_icns_latency_has_the_stated_mean_and_jitter() -> None:
    config = icns(latency_jitter_us=10.0, latency_us=200.0)
    events = simulate(config, [light(3000), light(6000)], [0, 20 * MILLISECOND], seed=4)
    assert len(events) == PIXELS
    tau = 40e3 / 6001
    crossing = -tau * math.log(1 - 0.4 / math.log(6001 / 3001))
    delays = events.t - crossing
    assert abs(delays.mean() - 200) < 4 * 10 / math.sqrt(PIXELS)
    assert abs(delays.std() / 10 - 1) < 4 / math.sqrt(2 * PIXELS)


def test_icns_noise_is_periodic_at_its_rates_with_random_phases() -> None:
    config = icns(noise_rate_on_hz=4.0, noise_rate_off_hz=0.5)
    events = simulate(config, [grey(80)] * 31, times_ns(31, rate=20), seed=5)  # 1.5 s
    assert np.all(events.label == SHOT_NOISE)
    on, off = events[events.p == 1], events[events.p == 0]
    assert len(on) == 6 * PIXELS
    assert abs(len(off) / PIXELS - 0.75) < 4 * math.sqrt(0.75 * 0.25 / PIXELS)
    assert np.all(np.abs(np.diff(of_one_pixel(on, 7, 3).t) - 250_000) <= 1)
    counts, _ = np.histogram(on.t, 50, (0, 1_500_000))
    assert counts.std() < 5 * math.sqrt(PIXELS * 6 / 50)


def test_icns_threshold_is_drawn_anew_after_each_event() -> None:
    config = icns(contrast_threshold_spread=0.05, latency_us=0.0)
    simulator = Simulator(config, FIELD, seed=6)
    simulator.step(light(3000), 0)
    before = simulator.probe()["threshold_on"]
    simulator.step(light(6000), 20 * MILLISECOND)
    after = simulator.probe()
    assert np.all(after["threshold_on"] != before)
    assert abs(np.corrcoef(after["threshold_on"].ravel(), before.ravel())[0, 1]) < 0.05
    for plane in (before, after["threshold_on"]):
        assert abs(plane.mean() - 0.4) < 4 * 0.05 / math.sqrt(PIXELS)
        assert abs(plane.std() / 0.05 - 1) < 4 / math.sqrt(2 * PIXELS)
