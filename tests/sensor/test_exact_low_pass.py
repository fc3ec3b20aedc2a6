"""The low-pass in closed form: against logarithms, a plain search in small steps, and v2e in many passes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from sensor_scenes import MILLISECOND, assert_same, columns, ideal, simulate, texture, times_ns, watch

from evsim.errors import ConfigError
from evsim.sensor import FrameFields, RandomFields, SensorConfig, Simulator

SIZE = (13, 7)


def exact(**fields: Any) -> SensorConfig:
    """v2e's pixel with nothing but the filter."""
    return ideal(
        **{
            "low_pass": "exact",
            "cutoff_hz": 100.0,
            "leak_rate_spread_decades": 0.0,
            "float_full_scale": 255.0,
            **fields,
        }
    )


def time_constant_us(dn: float, cutoff_hz: float) -> float:
    """Of the low-pass of a pixel that sees `dn`."""
    return 1e6 / (2 * math.pi * cutoff_hz * (dn + 20) / 275)


@pytest.mark.parametrize(("before", "after"), [(40.0, 200.0), (200.0, 40.0)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_step_of_light_is_followed_along_an_exponential(before: float, after: float, dtype: Any) -> None:
    config = exact(contrast_threshold_on=0.1, contrast_threshold_off=0.1)
    frames = [np.full(SIZE[::-1], dn, dtype) for dn in (before, after)]
    start, end = 3_000_123, 60_000_123  # nanoseconds
    events = simulate(config, frames, [start, end])
    way, tau = abs(math.log(after / before)), time_constant_us(after, 100.0)
    passed = -tau * np.log1p(-np.arange(1, math.floor(way / 0.1) + 1) * 0.1 / way)
    expected = np.rint(start / 1000 + passed[passed < (end - start) / 1000])
    one = events[(events.x == 5) & (events.y == 3)]
    np.testing.assert_array_equal(one.t, expected)
    assert set(one.p) == {int(after > before)}
    assert len(events) == len(expected) * SIZE[0] * SIZE[1]


def test_the_filter_is_not_bounded_over_long_intervals() -> None:
    config = exact(cutoff_hz=30.0)
    simulator = Simulator(config, SIZE)
    simulator.step(np.full(SIZE[::-1], 40.0, np.float32), 0)
    simulator.step(np.full(SIZE[::-1], 120.0, np.float32), 20 * MILLISECOND)
    left = math.log(3) * math.exp(-20e3 / time_constant_us(120, 30.0))
    np.testing.assert_allclose(simulator.probe()["low_pass"], math.log(120) - left, atol=1e-6)


def test_equal_light_gives_the_same_events_however_it_is_divided() -> None:
    config = exact(
        contrast_threshold_on=0.05,
        contrast_threshold_off=0.08,
        leak_rate_hz=37.3,
        leak_jitter=0.0,
        refractory_period_us=170.0,
        precision="float64",
    )
    frames = texture(6, SIZE, contrast=120.0).astype(np.float32)
    # Cuts between two microseconds, so that none has to be moved to stay within its interval.
    whole = simulate(config, frames, times_ns(6, 100.0, start=500))
    parts, times = [frames[0]], [500]
    for k in range(1, 6):
        cuts = np.random.default_rng(k).choice(9999, 7, replace=False) + 1
        times += [500 + 1000 * (10_000 * (k - 1) + int(cut)) for cut in [*np.sort(cuts), 10_000]]
        parts += [frames[k]] * 8
    assert len(whole) > 500
    assert_same(simulate(config, parts, times), whole)


def plain_pixel(
    dns: list[float], times_us: list[float], on: float, off: float, leak: float, dead: float
) -> list[tuple[float, int]]:
    """(time in microseconds, polarity) of one pixel, searched in steps of a twentieth of a microsecond."""
    low_pass = base = math.log(dns[0])
    last, found, step = -1e18, [], 0.05
    for dn, start, end in zip(dns[1:], times_us, times_us[1:]):
        shrink = math.exp(-step / time_constant_us(dn, 100.0))
        for k in range(round((end - start) / step)):
            low_pass = math.log(dn) + (low_pass - math.log(dn)) * shrink
            base -= leak * step
            now = start + (k + 1) * step
            if not round(now) - last > dead:
                continue
            while low_pass - base >= on or low_pass - base <= -off:
                rises = low_pass > base
                base += on if rises else -off
                last = round(now)
                found.append((now, int(rises)))
                if dead >= 0:
                    break
    return found


@pytest.mark.parametrize(
    ("leak_rate", "dead"), [(0.0, -1.0), (900.0, -1.0), (300.0, 250.0), (0.0, 40.0), (20.0, 1500.0)]
)
def test_events_equal_a_search_in_small_steps(leak_rate: float, dead: float) -> None:
    rng = np.random.default_rng(round(leak_rate + dead + 1))
    clip = rng.uniform(21, 250, (5, 1, 6)).astype(np.float32)
    times = [0, 1_500_000, 2_250_000, 5_000_000, 5_800_000]
    on, off = rng.uniform(0.03, 0.2, (2, 1, 6)).astype(np.float32)
    factor = rng.uniform(0.5, 1.5, (1, 6)).astype(np.float32)
    config = exact(
        leak_rate_hz=leak_rate, leak_jitter=0.0, refractory_period_us=max(dead, 0.0), precision="float64"
    )
    events = watch(Simulator(config, (6, 1), fields=RandomFields(on, off, factor)), clip, times)
    for x in range(6):
        leak = leak_rate * 1e-6 * float(factor[0, x]) * float(on[0, x])
        expected = plain_pixel(
            [float(v) for v in clip[:, 0, x]],
            [t / 1000 for t in times],
            float(on[0, x]),
            float(off[0, x]),
            leak,
            dead,
        )
        one = events[events.x == x]
        np.testing.assert_array_equal(one.p, [p for _, p in expected])
        np.testing.assert_allclose(one.t, [t for t, _ in expected], rtol=0, atol=1.05)
    assert len(events) >= 20


def test_leak_turns_a_falling_signal_round_inside_an_interval() -> None:
    # The filter falls by 0.15 within a millisecond or so, the leak rises by 0.5 in the whole interval.
    config = exact(leak_rate_hz=12.5, contrast_threshold_off=0.1, leak_jitter=0.0, cutoff_hz=400.0)
    frames = [np.full(SIZE[::-1], dn, np.float32) for dn in (100.0, 100.0 * math.exp(-0.15))]
    events = simulate(config, frames, [0, 200 * MILLISECOND])
    one = events[(events.x == 0) & (events.y == 0)]
    assert one.p.tolist() == [0, 1, 1]
    assert one.label is not None
    assert one.label.tolist() == [0, 2, 2]


def test_v2e_in_many_passes_comes_to_the_same_events() -> None:
    fields: dict[str, Any] = {
        "contrast_threshold_on": 0.1,
        "contrast_threshold_off": 0.1,
        "precision": "float64",
    }
    frames, times = texture(5, SIZE, contrast=90.0).astype(np.float32), times_ns(5, 200.0)
    closed = simulate(exact(**fields), frames, times)
    steps = 400
    parts = [frames[0]] + [frame for frame in frames[1:] for _ in range(steps)]
    moments = [0] + [
        t0 + (t1 - t0) * (k + 1) // steps for t0, t1 in itertools.pairwise(times) for k in range(steps)
    ]
    stepped = simulate(ideal(cutoff_hz=100.0, float_full_scale=255.0, **fields), parts, moments)
    assert len(closed) > 100
    assert abs(len(stepped) - len(closed)) <= 0.01 * len(closed)
    first, second = (np.array(sorted(map(tuple, columns(e)[:, [1, 2, 3]]))) for e in (closed, stepped))
    if len(first) == len(second):
        np.testing.assert_array_equal(first, second)


NOISY = exact(
    contrast_threshold_spread=0.03,
    cutoff_hz=1000.0,
    leak_rate_hz=5.0,
    shot_noise_rate_hz=50.0,
    refractory_period_us=60.0,
    float_full_scale=1.0,
)


def test_threads_and_saved_states_do_not_change_events() -> None:
    frames, times = texture(7, (60, 40)), times_ns(7, 500.0, start=987_654)
    first = simulate(NOISY, frames, times, seed=5)
    assert {0, 1} <= set(first.label if first.label is not None else ())
    assert_same(simulate(NOISY, frames, times, seed=5, threads=3), first)
    simulator = Simulator(NOISY, (60, 40), seed=5)
    early = watch(simulator, frames[:3], times[:3])
    late = watch(Simulator.from_state(simulator.state(), threads=2), frames[3:], times[3:])
    np.testing.assert_array_equal(np.concatenate([columns(early), columns(late)]), columns(first))


def test_shot_noise_keeps_its_rate() -> None:
    config = exact(shot_noise_rate_hz=200.0, contrast_threshold_spread=0.0)
    frame = np.full((60, 80), 100.0, np.float32)
    events = simulate(config, [frame] * 11, times_ns(11, 20.0))
    mean = 200 * (1 - 0.75 * 120 / 275) * 60 * 80 * 0.5
    # Four standard deviations of a Poisson number: a right sensor fails once in 16000 seeds.
    assert abs(len(events) - mean) < 4 * math.sqrt(mean)


def test_given_fields_of_a_pass_are_taken() -> None:
    config = exact(leak_rate_hz=100.0, leak_jitter=0.5)
    frame = np.full(SIZE[::-1], 100.0, np.float32)
    z = np.linspace(-1, 1, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE[::-1])
    simulator = Simulator(config, SIZE)
    simulator.step(frame, 0)
    simulator.step(frame, MILLISECOND, fields=FrameFields(leak_jitter=z))
    expected = math.log(100) - 0.1 * 0.2 * (1 - 0.5 * z)
    np.testing.assert_allclose(simulator.probe()["base"], expected, atol=1e-6)


@pytest.mark.parametrize(
    "fields",
    [
        {"cutoff_hz": 0.0},
        {"clock": "grid"},
        {"scidvs": True},
        {"surround_distance_px": 2.0},
        {"input": "log", "float_full_scale": 1.0},
        {"model": "idslpf"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_has_no_closed_form_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"low_pass|exact"):
        exact(**fields)
