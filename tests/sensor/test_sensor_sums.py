"""Counts and voxel grids without a list of events are those of the events that the sensor would list."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sensor_scenes import MILLISECOND, SIM2REAL, assert_same, ideal, texture, times_ns
from test_sensor_properties import CONFIGS, Clip, clips

from evsim.errors import InputError
from evsim.events import Events
from evsim.kernels.voxelize import Placement, PlaneLayout, voxelize
from evsim.represent import voxel_grid
from evsim.sensor import EventSum, SensorConfig, Simulator

MODELS = [
    *CONFIGS,
    SensorConfig(model="esim", contrast_threshold_spread=0.02),
    SensorConfig(model="voltmeter"),
    SensorConfig(model="icns", refractory_period_us=100.0, contrast_threshold_spread=0.01),
    SensorConfig(**{**SIM2REAL, "clock": "grid", "model": "v2e"}),
    ideal(surround_distance_px=2.0),
    SensorConfig(**{**SIM2REAL, "model": "v2e", "low_pass": "exact"}),
    SensorConfig(**SIM2REAL, latency_us=300.0, latency_jitter_us=100.0, hot_pixel_fraction=0.1),
]


def histogram(events: Events) -> NDArray[np.int64]:
    counts = np.zeros((2, events.height, events.width), np.int64)
    np.add.at(counts, (1 - events.p.astype(int), events.y.astype(int), events.x.astype(int)), 1)
    return counts


def simulators(config: SensorConfig, clip: Clip, **options: Any) -> tuple[Simulator, Simulator]:
    size = clip.frames.shape[:0:-1]
    return (
        Simulator(config, size, seed=clip.seed, threads=1),
        Simulator(config, size, seed=clip.seed, **{"threads": 1, **options}),
    )


@settings(max_examples=20, deadline=None)
@given(clips(), st.sampled_from(MODELS), st.integers(1, 3))
def test_counts_are_the_histogram_of_the_events(clip: Clip, config: SensorConfig, threads: int) -> None:
    listing, counting = simulators(config, clip, threads=threads)
    for frame, t in zip(clip.frames, clip.times):
        np.testing.assert_array_equal(counting.count(frame, t), histogram(listing.step(frame, t)))


@settings(max_examples=20, deadline=None)
@given(clips(), st.sampled_from(MODELS), st.integers(1, 7))
def test_a_direct_voxel_grid_is_that_of_the_events(clip: Clip, config: SensorConfig, bins: int) -> None:
    listing, adding = simulators(config, clip)
    window = (clip.times[0] / 1000, clip.times[-1] / 1000)
    grid = np.zeros((bins, *clip.frames.shape[1:]), np.float32)
    target = EventSum.voxels(grid, window)
    added = sum(adding.add(frame, t, target) for frame, t in zip(clip.frames, clip.times))
    events = Events.concatenate([listing.step(frame, t) for frame, t in zip(clip.frames, clip.times)])
    assert added == len(events)
    wanted = voxel_grid(events, bins, window=window, backend="reference")
    most = np.maximum(1, histogram(events).sum(0).max())
    np.testing.assert_allclose(grid, wanted, rtol=0, atol=most * most * 2.0**-23)


@settings(max_examples=15, deadline=None)
@given(clips(), st.sampled_from(MODELS), st.integers(0, 2**6))
def test_adding_moves_the_pixels_as_listing_does(clip: Clip, config: SensorConfig, which: int) -> None:
    listing, mixed = simulators(config, clip)
    for k, (frame, t) in enumerate(zip(clip.frames, clip.times)):
        wanted = listing.step(frame, t)
        if which >> k & 1:
            mixed.count(frame, t)
        else:
            assert_same(mixed.step(frame, t), wanted)


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("edge", ["drop", "clamp"])
@pytest.mark.parametrize("config", [ideal(), SensorConfig(model="esim")], ids=["v2e", "esim"])
def test_any_rule_of_the_voxel_kernel_can_be_followed(config: SensorConfig, edge: Any, linear: bool) -> None:
    frames, times = texture(12, (64, 24)), times_ns(12)
    events = Events.concatenate(
        [Simulator(config, (64, 24), threads=1).step(frames[0], 0)]
        + _steps(Simulator(config, (64, 24), threads=1), frames, times)
    )
    # Bin coordinates from -1.3 to 4.8 for 4 bins, polarities apart.
    placement = Placement(
        np.array([2000.0]), np.array([2500.0]), 4.0, 0.7, "linear" if linear else "nearest", edge
    )
    layout = PlaneLayout(8, 1, 4, 0)
    wanted = np.zeros((8, 24, 64), np.float32)
    voxelize(
        *(events.t, events.x, events.y, events.p),
        bins=4,
        ranges=np.array([[0, len(events)]]),
        placement=placement,
        layout=layout,
        out=wanted,
        backend="reference",
    )
    found = EventSum(np.zeros((8, 24, 64), np.float32), 4, placement, layout)
    simulator = Simulator(config, (64, 24), threads=1)
    for frame, t in zip(frames, times):
        simulator.add(frame, t, found)
    assert np.abs(wanted).sum() > 1000
    np.testing.assert_allclose(found.out, wanted, atol=2e-5)


def _steps(simulator: Simulator, frames: NDArray[np.uint8], times: list[int]) -> list[Events]:
    return [simulator.step(frame, t) for frame, t in zip(frames, times)]


def test_a_row_that_has_no_room_is_finished_with_more() -> None:
    config = ideal(contrast_threshold_on=0.01, contrast_threshold_off=0.01)
    frames = np.zeros((3, 2, 40), np.uint8)
    frames[1] = 255
    listing, counting = Simulator(config, (40, 2), threads=1), Simulator(config, (40, 2), threads=1)
    for k, frame in enumerate(frames):
        counts, events = counting.count(frame, k * MILLISECOND), listing.step(frame, k * MILLISECOND)
        np.testing.assert_array_equal(counts, histogram(events))
    assert len(events) > 2 * 40 * 2 * 40 // 2 + 1024


def test_the_passes_of_a_divided_interval_are_all_added() -> None:
    config = SensorConfig(**{**SIM2REAL, "step_rate_hz": 1920.0})
    frames, times = texture(4, (40, 12)), times_ns(4, rate=240.0)
    listing, counting = (Simulator(config, (40, 12), seed=3, recycle=True) for _ in range(2))
    for frame, t in zip(frames, times):
        np.testing.assert_array_equal(counting.count(frame, t), histogram(listing.step(frame, t)))
    assert counting.passes == listing.passes == 24


def test_threads_do_not_change_a_voxel_grid() -> None:
    frames, times = texture(8, (96, 40)), times_ns(8)
    grids = []
    for threads in (1, 2, 3):
        simulator = Simulator(SensorConfig(**SIM2REAL), (96, 40), threads=threads)
        grid = np.zeros((5, 40, 96), np.float32)
        target = EventSum.voxels(grid, (0, times[-1] / 1000))
        for frame, t in zip(frames, times):
            simulator.add(frame, t, target)
        grids.append(grid)
    np.testing.assert_array_equal(grids[0], grids[1])
    np.testing.assert_array_equal(grids[0], grids[2])


def test_what_cannot_be_added_to_is_refused_before_anything_moves() -> None:
    frames, times = texture(3, (16, 8)), times_ns(3)
    simulator, undisturbed = Simulator(ideal(), (16, 8)), Simulator(ideal(), (16, 8))
    simulator.step(frames[0], times[0])
    grid = np.zeros((5, 8, 16), np.float32)
    with pytest.raises(InputError, match=r"interval from 1 to 520 us does not lie in the window 0\.\.300 us"):
        simulator.add(frames[1], times[1], EventSum.voxels(grid, (0, 300)))
    with pytest.raises(InputError, match="planes of 8x16 pixels, expected those of the sensor of 16x8"):
        simulator.add(frames[1], times[1], EventSum.counts(np.zeros((2, 16, 8), np.int32)))
    with pytest.raises(InputError, match="a start before its end"):
        EventSum.voxels(grid, (3, 3))
    for out in (np.zeros((2, 8, 16), np.int64), np.zeros((1, 8, 16), np.int32), grid[:, :, ::2]):
        with pytest.raises(InputError, match="expected contiguous"):
            EventSum.counts(out)  # type: ignore[arg-type]
    undisturbed.step(frames[0], times[0])
    assert_same(simulator.step(frames[1], times[1]), undisturbed.step(frames[1], times[1]))
