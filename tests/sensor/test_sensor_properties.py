"""Invariances that hold for any clip: shift in time, threads, chunks, order of clips, seed, polarity."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sensor_scenes import SIM2REAL, assert_same, columns, ideal, simulate

from evsim.events import Events
from evsim.sensor import SensorConfig, Simulator

CONFIGS = [
    ideal(),
    ideal(contrast_threshold_on=0.02, refractory_period_us=37.0),
    SensorConfig(**SIM2REAL),
    SensorConfig(**{**SIM2REAL, "leak_rate_hz": 200.0, "shot_noise_rate_hz": 2000.0}),
    ideal(
        low_pass="exact",
        cutoff_hz=200.0,
        leak_rate_hz=50.0,
        shot_noise_rate_hz=200.0,
        refractory_period_us=37.0,
    ),
    SensorConfig(
        **{**SIM2REAL, "shot_noise_rate_hz": 500.0},
        latency_us=900.0,
        latency_jitter_us=300.0,
        dead_pixel_fraction=0.1,
        hot_pixel_fraction=0.1,
    ),
]


class Clip(NamedTuple):
    """Frames, their times, and a sensor to watch them."""

    config: SensorConfig
    frames: NDArray[np.uint8]
    times: list[int]
    seed: int


@st.composite
def clips(draw: Any) -> Clip:
    """A clip of 2 to 6 small random frames at irregular times."""
    count = draw(st.integers(2, 6))
    width, height = draw(st.integers(1, 70)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([2, 40, 256]))
    frames = (rng.integers(0, spread, (count, height, width)) + draw(st.integers(0, 256 - spread))).astype(
        np.uint8
    )
    gaps = draw(st.lists(st.integers(1000, 40_000_000), min_size=count - 1, max_size=count - 1))
    start = draw(st.integers(-(10**12), 10**15))
    times = [int(t) for t in start + np.concatenate([[0], np.cumsum(gaps)])]
    return Clip(draw(st.sampled_from(CONFIGS)), frames, times, draw(st.integers(0, 2**63)))


@settings(max_examples=40, deadline=None)
@given(clips(), st.integers(-(10**9), 10**9))
def test_shift_in_time_only_shifts_events(clip: Clip, shift_us: int) -> None:
    first = columns(simulate(clip.config, clip.frames, clip.times, seed=clip.seed))
    later = [t + 1000 * shift_us for t in clip.times]
    second = columns(simulate(clip.config, clip.frames, later, seed=clip.seed))
    first[:, 0] += shift_us
    np.testing.assert_array_equal(first, second)


@settings(max_examples=40, deadline=None)
@given(clips(), st.integers(2, 9))
def test_threads_do_not_change_events(clip: Clip, threads: int) -> None:
    first = simulate(clip.config, clip.frames, clip.times, seed=clip.seed)
    assert_same(simulate(clip.config, clip.frames, clip.times, seed=clip.seed, threads=threads), first)


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("recycle", [False, True])
def test_threads_do_not_change_events_of_dense_frames(threads: int, recycle: bool) -> None:
    """More events and fewer than threads bring into order together, in memory that has to grow."""
    noise = np.random.default_rng(3).integers(0, 256, (3, 200, 260)).astype(np.uint8)
    frames = [*noise, noise[-1], noise[-1], noise[0], noise[-1]]
    one, several = (
        Simulator(SensorConfig(**SIM2REAL), (260, 200), seed=1, threads=count, recycle=again)
        for count, again in ((1, False), (threads, recycle))
    )
    counts = []
    for k, frame in enumerate(frames):
        expected = one.step(frame, k * 520_833)
        assert_same(several.step(frame, k * 520_833), expected)
        counts.append(len(expected))
    assert min(counts[1:]) < 1 << 16 < max(counts)


@settings(max_examples=40, deadline=None)
@given(clips(), st.integers(0, 5))
def test_a_saved_state_does_not_change_events(clip: Clip, at: int) -> None:
    whole = simulate(clip.config, clip.frames, clip.times, seed=clip.seed)
    simulator = Simulator(clip.config, clip.frames.shape[:0:-1], seed=clip.seed)
    parts = []
    for k, (frame, t) in enumerate(zip(clip.frames, clip.times)):
        if k == at:
            simulator = Simulator.from_state(simulator.state())
        parts.append(simulator.step(frame, t))
    assert_same(Events.concatenate(parts), whole)


@settings(max_examples=25, deadline=None)
@given(clips(), clips())
def test_clips_do_not_depend_on_each_other(first: Clip, second: Clip) -> None:
    """Neither on the order in which they are simulated, nor on being simulated alternately."""
    alone = [simulate(clip.config, clip.frames, clip.times, seed=clip.seed) for clip in (second, first)]
    sensors = [Simulator(clip.config, clip.frames.shape[:0:-1], seed=clip.seed) for clip in (second, first)]
    parts: list[list[Events]] = [[], []]
    for k in range(6):
        for clip, sensor, found in zip((second, first), sensors, parts):
            if k < len(clip.frames):
                found.append(sensor.step(clip.frames[k], clip.times[k]))
    for events, found in zip(alone, parts):
        assert_same(Events.concatenate(found), events)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**62), st.sampled_from(CONFIGS[2:]))
def test_seed_and_clip_decide_the_noise(seed: int, config: SensorConfig) -> None:
    frames = [np.full((40, 60), 100, np.uint8)] * 6
    times = [k * 40_000_000 for k in range(6)]
    first = simulate(config, frames, times, seed=seed)
    assert_same(simulate(config, frames, times, seed=seed), first)
    for other in (
        simulate(config, frames, times, seed=seed + 1),
        simulate(config, frames, times, seed=seed, clip="b"),
    ):
        assert not np.array_equal(other.t[:50], first.t[:50])


@pytest.mark.parametrize("name", ["v2e", "exact", "dead time", "esim", "log input"])
def test_inverted_light_swaps_polarities(name: str) -> None:
    """Where logarithms change their sign, ON becomes OFF, at the same time to a microsecond."""
    config = {
        "v2e": ideal(float_full_scale=255.0),
        "exact": ideal(low_pass="exact", cutoff_hz=1e8, float_full_scale=255.0),
        "dead time": ideal(refractory_period_us=211.0, float_full_scale=255.0),
        "esim": SensorConfig(
            model="esim",
            contrast_threshold_spread=0.0,
            refractory_period_us=0.0,
            log_offset=1e-9,
            float_full_scale=255.0,
        ),
        "log input": ideal(input="log"),
    }[name]
    rng = np.random.default_rng(3)
    logs = np.clip(4.4 + np.cumsum(rng.normal(0, 0.3, (9, 20, 30)), axis=0), 3.3, 5.5)
    times = [k * 2_000_000 for k in range(9)]
    both = []
    for frames in (logs, 8.8 - logs):
        light = frames if name == "log input" else np.exp(frames)
        events = simulate(config, light.astype(np.float32), times)
        order = np.lexsort((events.t, events.x, events.y))
        both.append(columns(events)[order])
    assert len(both[0]) > 1500
    np.testing.assert_array_equal(both[0][:, 1:3], both[1][:, 1:3])
    np.testing.assert_array_equal(both[0][:, 3], 1 - both[1][:, 3])
    assert np.abs(both[0][:, 0] - both[1][:, 0]).max() <= 1
