"""The published emulators' fixtures, event for event: grid clock and v2e's rules of precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sensor_scenes import SIM2REAL

from evsim.sensor import FrameFields, RandomFields, SensorConfig, Simulator

CASES = [
    "a_nolpf",
    "a2_nolpf_u8",
    "b_lpf30",
    "c_refr1ms",
    "d_leak",
    "d2_leak_static",
    "e_asym",
    "f1_s2r_v2elpf",
    "f2_s2r_idslpf_nobypass",
    "f3_s2r_idslpf_mask",
    "h_thresmap",
    "i1_allrandom_v2e",
    "i2_allrandom_idslpf",
]
FILTERED = ["b_lpf30", "f1_s2r_v2elpf", "f2_s2r_idslpf_nobypass", "f3_s2r_idslpf_mask"]


def config_of(parameters: dict[str, Any], precision: str) -> SensorConfig:
    return SensorConfig(
        model=parameters["lpf"],
        contrast_threshold_on=parameters["pos_thres"],
        contrast_threshold_off=parameters["neg_thres"],
        contrast_threshold_spread=parameters["sigma_thres"],
        cutoff_hz=parameters["cutoff_hz"],
        leak_rate_hz=parameters["leak_rate_hz"],
        leak_jitter=parameters["leak_jitter_fraction"],
        leak_rate_spread_decades=parameters["noise_rate_cov_decades"],
        shot_noise_rate_hz=parameters["shot_noise_rate_hz"],
        refractory_period_us=round(parameters["refractory_period_s"] * 1e6, 6),
        bypass_probability=0.0,
        clock="grid",
        precision=precision,
        float_full_scale=255.0,
    )


def run(path: Path, precision: str = "float64") -> tuple[Simulator, NDArray[Any], dict[str, NDArray[Any]]]:
    """The sensor after the clip, its events as rows of frame, t in seconds, y, x, p, signal, the fixture."""
    with np.load(path) as archive:
        fixture = {name: archive[name] for name in archive.files}
    frames, times = fixture["frames"], fixture["timestamps"]
    pattern = RandomFields(
        *(fixture.get(name) for name in ("pos_thres_map", "neg_thres_map", "noise_rate_array"))
    )
    config = config_of(json.loads(str(fixture["params_json"])), precision)
    simulator = Simulator(config, frames.shape[:0:-1], fields=pattern, threads=1)
    rows = []
    for k, frame in enumerate(frames):
        names = ("leak_randn", "shot_uniform", "lpf_bypass_mask")
        given = FrameFields(*(fixture[name][k] if name in fixture else None for name in names))
        events = simulator.step(frame, round(float(times[k]) * 1e9), fields=given).validate()
        assert events.label is not None
        frame_number = np.full(len(events), k)
        signal = events.label != 1
        rows.append(np.stack([frame_number, events.t * 1e-6, events.y, events.x, events.p, signal], axis=1))
    return simulator, np.concatenate(rows), fixture


def expected_rows(fixture: dict[str, NDArray[Any]]) -> NDArray[Any]:
    t, x, y, p = fixture["events"].T
    frame = np.repeat(np.arange(len(fixture["frames"])), fixture["events_per_frame"])
    signal = fixture.get("events_is_signal", np.ones(len(t)))
    return np.stack([frame, t, y, x, p > 0, signal], axis=1)


def ordered(rows: NDArray[Any]) -> NDArray[Any]:
    frame, t, y, x, p, signal = rows.T
    return rows[np.lexsort((t, signal, p, x, y, frame))]


@pytest.mark.needs_parity("emulator_{case}.npz")
@pytest.mark.parametrize("case", CASES)
def test_fixture_is_reproduced_event_for_event(parity: Path, case: str) -> None:
    simulator, rows, fixture = run(parity / f"emulator_{case}.npz")
    found, expected = ordered(rows), ordered(expected_rows(fixture))
    np.testing.assert_array_equal(found[:, [0, 2, 3, 4, 5]], expected[:, [0, 2, 3, 4, 5]])
    tolerance = np.maximum(1e-6, 2 * np.spacing(expected[:, 1].astype(np.float32)))
    assert np.all(np.abs(found[:, 1] - expected[:, 1]) <= tolerance)
    signals = simulator.probe()
    log = simulator.log_intensity(fixture["frames"][-1])
    np.testing.assert_array_equal(log, fixture["log_frame_last"])
    # Frame times are whole nanoseconds, the fixtures' are not: the filter sees intervals 1e-6 apart.
    np.testing.assert_allclose(signals["low_pass"], fixture["lp_log_frame_last"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(signals["base"], fixture["base_log_frame_last"], rtol=0, atol=2e-6)


@pytest.mark.needs_parity("emulator_{case}.npz")
@pytest.mark.parametrize("case", FILTERED)
def test_single_precision_changes_less_than_half_a_percent(parity: Path, case: str) -> None:
    _, rows, fixture = run(parity / f"emulator_{case}.npz", precision="float32")
    expected = expected_rows(fixture)
    events = [0, 2, 3, 4]
    ours, theirs = _counts(rows[:, events]), _counts(expected[:, events])
    different = sum(abs(ours.get(key, 0) - theirs.get(key, 0)) for key in ours.keys() | theirs.keys())
    assert different < 0.005 * len(expected)


def _counts(rows: NDArray[Any]) -> dict[tuple[float, ...], int]:
    values, counts = np.unique(rows, axis=0, return_counts=True)
    return {tuple(value): int(count) for value, count in zip(values, counts)}


@pytest.mark.needs_parity("emulator_noise_stats.json", "emulator_f1_s2r_v2elpf.npz")
@pytest.mark.parametrize("clock", ["linear", "grid"])
def test_noise_of_the_moving_scene_has_the_published_total(parity: Path, clock: Any) -> None:
    stats = json.loads((parity / "emulator_noise_stats.json").read_text())
    published = stats["sim2real_fork_with_idslpf"]["sim2real_full_moving"]["total_events"]
    with np.load(parity / "emulator_f1_s2r_v2elpf.npz") as archive:
        frames, times = archive["frames"], [round(float(t) * 1e9) for t in archive["timestamps"]]
    config = SensorConfig(**SIM2REAL, clock=clock)
    totals = []
    for seed in range(12):
        simulator = Simulator(config, frames.shape[:0:-1], seed=seed, threads=1)
        totals.append(sum(len(simulator.step(frame, t)) for frame, t in zip(frames, times)))
    error = np.hypot(
        published["sd_between_seeds"] / np.sqrt(24), np.std(totals, ddof=1) / np.sqrt(len(totals))
    )
    assert abs(np.mean(totals) - published["mean"]) < 4 * error
