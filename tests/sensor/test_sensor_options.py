"""Options of v2e's pixel: photoreceptor noise, centre-surround, SCIDVS, logarithmic input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sensor_scenes import MILLISECOND, assert_same, ideal, simulate, texture, times_ns, watch

from evsim.chain import ClipSimulation, SimulationConfig
from evsim.errors import ConfigError, InputError
from evsim.isp import IspConfig
from evsim.media import ArraySource
from evsim.sensor import FrameFields, SensorConfig, Simulator
from evsim.sensor.pixels.v2e.pass_with_options import filtered_noise_deviation, white_noise_deviation

FIXTURES: dict[str, dict[str, Any]] = {
    "g1_csdvs": {"surround_distance_px": 3.0, "surround_time_constant_us": 10000.0},
    "g2_scidvs": {"scidvs": True, "scidvs_time_constant_spread": 0.0, "scidvs_as_v2e": True},
    "g3_hdr": {"input": "log"},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "noise": {"photoreceptor_noise": True, "cutoff_hz": 200.0, "shot_noise_rate_hz": 500.0},
    "surround": {"surround_distance_px": 2.0, "surround_time_constant_us": 3000.0, "cutoff_hz": 200.0},
    "scidvs": {"scidvs": True},
    "all": {
        "photoreceptor_noise": True,
        "cutoff_hz": 200.0,
        "shot_noise_rate_hz": 500.0,
        "surround_distance_px": 2.0,
        "scidvs": True,
        "leak_rate_hz": 5.0,
        "refractory_period_us": 300.0,
        "contrast_threshold_spread": 0.03,
    },
}
SIZE = (40, 30)


def run_fixture(path: Path, options: dict[str, Any]) -> tuple[Simulator, NDArray[Any], dict[str, Any]]:
    """The sensor after the clip, its events as rows of frame, t, y, x, p, and the fixture."""
    with np.load(path) as archive:
        fixture = {name: archive[name] for name in archive.files}
    parameters = json.loads(str(fixture["params_json"]))
    scale = {} if options.get("input") == "log" else {"float_full_scale": 255.0}
    config = ideal(cutoff_hz=parameters["cutoff_hz"], clock="grid", precision="float64", **scale, **options)
    simulator = Simulator(config, fixture["frames"].shape[:0:-1], threads=1)
    rows = []
    for k, (frame, t) in enumerate(zip(fixture["frames"], fixture["timestamps"])):
        events = simulator.step(frame, round(float(t) * 1e9)).validate()
        rows.append(np.stack([np.full(len(events), k), events.t * 1e-6, events.y, events.x, events.p], 1))
    return simulator, np.concatenate(rows), fixture


@pytest.mark.needs_parity("emulator_{case}.npz")
@pytest.mark.parametrize("case", FIXTURES)
def test_fixture_is_reproduced_event_for_event(parity: Path, case: str) -> None:
    simulator, rows, fixture = run_fixture(parity / f"emulator_{case}.npz", FIXTURES[case])
    t, x, y, p = fixture["events"].T
    frame = np.repeat(np.arange(len(fixture["frames"])), fixture["events_per_frame"])
    expected = np.stack([frame, t, y, x, p > 0], axis=1)
    found, expected = (part[np.lexsort(part[:, [1, 4, 3, 2, 0]].T)] for part in (rows, expected))
    np.testing.assert_array_equal(found[:, [0, 2, 3, 4]], expected[:, [0, 2, 3, 4]])
    tolerance = np.maximum(1e-6, 2 * np.spacing(expected[:, 1].astype(np.float32)))
    assert np.all(np.abs(found[:, 1] - expected[:, 1]) <= tolerance)
    signals = simulator.probe()
    np.testing.assert_array_equal(simulator.log_intensity(fixture["frames"][-1]), fixture["log_frame_last"])
    np.testing.assert_allclose(signals["low_pass"], fixture["lp_log_frame_last"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(signals["base"], fixture["base_log_frame_last"], rtol=0, atol=2e-6)
    state = simulator.state()["pixels"]
    if case == "g1_csdvs":
        np.testing.assert_allclose(state["surround"], fixture["cs_surround_last"], rtol=0, atol=2e-6)
    if case == "g2_scidvs":
        np.testing.assert_allclose(state["high_pass"], fixture["scidvs_highpass_last"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", OPTIONS)
def test_saved_state_goes_on_bit_for_bit(name: str) -> None:
    config, frames, times = ideal(**OPTIONS[name]), texture(14, SIZE), times_ns(14)
    whole = Simulator(config, SIZE, seed=3, threads=1)
    expected = [whole.step(frame, t) for frame, t in zip(frames, times)]
    half = Simulator(config, SIZE, seed=3, threads=1)
    for frame, t in zip(frames[:7], times[:7]):
        half.step(frame, t)
    resumed = Simulator.from_state(half.state(), threads=1)
    for frame, t, events in zip(frames[7:], times[7:], expected[7:]):
        assert_same(resumed.step(frame, t), events)
    assert sum(map(len, expected[7:])) > 100


@pytest.mark.parametrize("clock", ["linear", "grid"])
@pytest.mark.parametrize("name", OPTIONS)
def test_events_do_not_depend_on_threads(name: str, clock: Any) -> None:
    config, frames, times = ideal(**OPTIONS[name], clock=clock), texture(8, SIZE), times_ns(8)
    one, two = (simulate(config, frames, times, seed=3, threads=threads) for threads in (1, 2))
    assert_same(one, two)


@pytest.mark.parametrize("clock", ["linear", "grid"])
@pytest.mark.parametrize("name", OPTIONS)
def test_events_after_a_cut_are_those_of_a_new_clip(name: str, clock: Any) -> None:
    options = {**OPTIONS[name], "refractory_period_us": 0.0, "photoreceptor_noise": False, "clock": clock}
    config = ideal(**{**options, "shot_noise_rate_hz": 0.0, "leak_rate_hz": 0.0})
    first, second = texture(5, SIZE), texture(8, SIZE, seed=1)
    simulator = Simulator(config, SIZE, seed=2, threads=1)
    for frame, t in zip(first, times_ns(5)):
        simulator.step(frame, t)
    start = 10 * MILLISECOND
    assert len(simulator.step(second[0], start, cut=True)) == 0
    after = watch(simulator, second[1:], times_ns(8, start=start)[1:])
    assert_same(after, simulate(config, second, times_ns(8, start=start), seed=2))
    assert len(after) > 50


@pytest.mark.parametrize("name", ["surround", "scidvs"])
def test_a_still_scene_is_silent(name: str) -> None:
    frames = np.repeat(texture(1, SIZE), 6, axis=0)
    events = simulate(ideal(**OPTIONS[name]), frames, times_ns(6))
    if name == "scidvs":
        assert len(events) == 0
    else:  # The surround blurs a textured image, but not a uniform one.
        uniform = np.full_like(frames, 90)
        assert len(simulate(ideal(**OPTIONS[name]), uniform, times_ns(6))) == 0


def test_start_up_burst_is_made_only_on_request() -> None:
    frame = np.full(SIZE[::-1], 100, np.uint8)
    config = ideal(scidvs=True, scidvs_as_v2e=True)
    burst = simulate(config, [frame, frame], [0, MILLISECOND // 10])
    assert len(burst) == int(np.log(100) / 0.2) * frame.size
    assert not burst.p.any()


def test_surround_converges_to_the_blurred_image() -> None:
    reach = 2.0
    config = ideal(surround_distance_px=reach, surround_time_constant_us=1000.0, precision="float64")
    simulator = Simulator(config, SIZE, threads=1)
    image = texture(1, SIZE)[0]
    simulator.step(image, 0)
    for k in range(1, 13):
        simulator.step(image, k * MILLISECOND)
    surround = simulator.state()["pixels"]["surround"].astype(np.float64)
    padded = np.pad(surround, 1, mode="edge")
    curvature = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * surround
    rest = simulator.probe()["low_pass"] - surround + reach**2 * curvature
    assert np.abs(rest).max() < 1e-3


def test_scidvs_follows_small_changes_with_gain_two_and_forgets_them() -> None:
    config = ideal(scidvs=True, scidvs_time_constant_spread=0.0, contrast_threshold_on=10.0)
    simulator = Simulator(config, (2, 2), threads=1)
    simulator.step(np.full((2, 2), 100, np.uint8), 0)
    step = np.log(110 / 100)
    signals = []
    for k in range(1, 101):
        simulator.step(np.full((2, 2), 110, np.uint8), k * MILLISECOND // 10)
        signals.append(simulator.state()["pixels"]["low_pass"][0, 0])
    assert signals[0] == pytest.approx(2 * step, rel=1e-5)
    # d h / dt = -sinh(0.7 h) / tau has the solution tanh(0.35 h) = tanh(0.35 h0) exp(-0.7 t / tau).
    left = np.arctanh(np.tanh(0.35 * step) * np.exp(-0.7 * 9.9e-3 / 10e-3)) / 0.35
    assert signals[-1] == pytest.approx(2 * left, rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"cutoff_hz": 50.0, "shot_noise_rate_hz": 200.0}])
def test_log_input_is_the_sensor_of_the_light_it_is_the_logarithm_of(options: dict[str, Any]) -> None:
    light = np.maximum(texture(10, SIZE), 25).astype(np.float32)
    linear = ideal(**options, precision="float64", float_full_scale=255.0)
    log = ideal(**options, precision="float64", input="log")
    bright = simulate(linear, light, times_ns(10), seed=4)
    logarithmic = simulate(log, np.log(light), times_ns(10), seed=4)
    assert len(bright) > 300
    # The logarithms are rounded differently in the seventh digit; nothing else may differ.
    assert abs(len(bright) - len(logarithmic)) <= 0.005 * len(bright)
    keys = [
        set(zip((e.t // 50).tolist(), e.x.tolist(), e.y.tolist(), e.p.tolist()))
        for e in (bright, logarithmic)
    ]
    assert len(keys[0] ^ keys[1]) <= 0.01 * len(bright)


def test_log_input_is_divided_in_the_logarithm() -> None:
    config = ideal(input="log", step_rate_hz=1000.0)
    simulator = Simulator(config, (2, 2), threads=1)
    simulator.step(np.full((2, 2), -1.0, np.float32), 0)
    events = simulator.step(np.full((2, 2), 1.02, np.float32), 4 * MILLISECOND)
    assert simulator.passes == 4
    assert len(events) == 40
    np.testing.assert_allclose(np.diff(np.unique(events.t)), 4000 * 0.2 / 2.02, atol=1.5)


@pytest.mark.parametrize(
    ("frame", "word"),
    [
        (np.full((2, 2), 3, np.uint8), "uint8"),
        (np.array([[1, np.nan], [1, 1]], np.float32), "nan"),
        (np.array([[1, 200.0], [1, 1]]), "200.0"),
        (np.array([[1, -np.inf], [1, 1]]), "-inf"),
        (np.zeros((3, 2)), "shape"),
    ],
)
def test_frames_that_are_no_logarithms_are_refused(frame: Any, word: str) -> None:
    with pytest.raises(InputError, match=word):
        Simulator(ideal(input="log"), (2, 2)).step(frame, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"photoreceptor_noise": True, "cutoff_hz": 0.0},
        {"photoreceptor_noise": True, "shot_noise_rate_hz": 0.0},
        {"scidvs_as_v2e": True},
        {"input": "log", "float_full_scale": 255.0},
        {"input": "sRGB"},
        {"surround_distance_px": -1.0},
        {"model": "esim", "scidvs": True},
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SensorConfig(**options)


def test_photoreceptor_noise_refuses_intervals_beyond_its_time_constant() -> None:
    config = SensorConfig(photoreceptor_noise=True, shot_noise_rate_hz=5.0, cutoff_hz=200.0)
    frame = np.full((2, 2), 60, np.uint8)
    simulator = Simulator(config, (2, 2))
    simulator.step(frame, 0)
    with pytest.raises(InputError, match="step_rate_hz"):
        simulator.step(frame, 796_000)
    simulator.step(frame, 790_000)
    assert simulator.passes == 1


def test_scidvs_stays_stable_over_long_intervals() -> None:
    simulator = Simulator(ideal(scidvs=True), SIZE, threads=1)
    for k in range(12):
        frame = np.full(SIZE[::-1], 255 * (k % 2), np.uint8)
        events = simulator.step(frame, k * 100 * MILLISECOND)
        high_pass = simulator.state()["pixels"]["high_pass"]
        assert np.abs(high_pass).max() < 6
    assert len(events) > 0
    compatible = Simulator(ideal(scidvs=True, scidvs_as_v2e=True), SIZE, threads=1)
    compatible.step(frame, 0)
    with pytest.raises(InputError, match="unstable"):
        compatible.step(frame, 10 * MILLISECOND)


def test_surround_refuses_intervals_of_too_many_steps() -> None:
    config = ideal(surround_distance_px=100.0, surround_time_constant_us=10.0)
    simulator = Simulator(config, (2, 2), threads=1)
    simulator.step(np.full((2, 2), 9, np.uint8), 0)
    with pytest.raises(InputError, match="surround"):
        simulator.step(np.full((2, 2), 9, np.uint8), 10 * MILLISECOND)


def test_photoreceptor_noise_takes_the_place_of_shot_noise() -> None:
    config = SensorConfig(photoreceptor_noise=True, shot_noise_rate_hz=5.0, cutoff_hz=200.0)
    simulator = Simulator(config, (2, 2))
    simulator.step(np.full((2, 2), 60, np.uint8), 0)
    fields = FrameFields(shot_uniform=np.full((2, 2), 0.5, np.float32))
    with pytest.raises(InputError, match="shot_uniform"):
        simulator.step(np.full((2, 2), 60, np.uint8), 100_000, fields=fields)


def test_photoreceptor_noise_has_its_deviation_and_correlation() -> None:
    config = ideal(
        photoreceptor_noise=True, shot_noise_rate_hz=5.0, cutoff_hz=100.0, contrast_threshold_on=0.3
    )
    simulator = Simulator(config, (100, 80), seed=1, threads=1)
    frame = np.full((80, 100), 60, np.uint8)
    noise = []
    for k in range(60):
        simulator.step(frame, k * 250_000)
        noise.append(simulator.state()["pixels"]["noise"].copy())
    weight = 2 * np.pi * 100 * 250e-6
    expected = filtered_noise_deviation(5.0, 100.0, 0.2)
    for plane in (noise[-21], noise[-1]):
        assert plane.std() == pytest.approx(expected, rel=4 / np.sqrt(2 * plane.size))
        assert abs(plane.mean()) < 4 * expected / np.sqrt(plane.size)
    correlation = np.corrcoef(noise[-2].ravel(), noise[-1].ravel())[0, 1]
    assert correlation == pytest.approx(1 - weight, abs=4 * (1 - (1 - weight) ** 2) / np.sqrt(8000))


@pytest.mark.needs_parity("emulator_noise_stats.json")
def test_photoreceptor_noise_has_the_published_strength(parity: Path) -> None:
    stats = json.loads((parity / "emulator_noise_stats.json").read_text())
    for row in stats["stock_v2e"]["v2e_photoreceptor_vrms_table"]:
        weight = 2 * np.pi * row["cutoff_hz"] / row["sample_rate_hz"]
        filtered = filtered_noise_deviation(row["shot_noise_rate_hz"], row["cutoff_hz"], row["thres"])
        found = white_noise_deviation(filtered, weight)
        assert found == pytest.approx(row["closed_form_no_mismatch"], rel=1e-9)
        # The smaller of two normal thresholds is 1 / sqrt(pi) deviations below their mean.
        found *= 1 - row["sigma_thres"] / np.sqrt(np.pi) / row["thres"]
        assert abs(found - row["vrms"]["mean"]) < 4 * row["vrms"]["sd_between_seeds"]


@pytest.mark.parametrize(
    ("transfer", "variant", "reads"),
    [("log", "none", "linear"), ("linear", "none", "log"), ("log", "sim2real", "log")],
)
def test_chain_refuses_a_sensor_that_would_misread_its_frames(
    transfer: Any, variant: Any, reads: Any
) -> None:
    source = ArraySource(np.zeros((2, 4, 4), np.float32), np.array([0, MILLISECOND]), transfer=transfer)
    config = SimulationConfig(isp=IspConfig(variant=variant), sensor=ideal(input=reads))
    with pytest.raises(ConfigError, match=r"sensor\.input"):
        ClipSimulation(source, config)
