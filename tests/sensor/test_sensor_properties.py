"""Invariances that hold for any clip: shift in time, threads, chunks, the path over whole planes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
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
