"""A batch of clips gives what its clips give one by one."""

from __future__ import annotations

import numpy as np
import pytest
from sensor_scenes import SIM2REAL, assert_same, ideal, texture, times_ns

from evsim.configuration import build, resolve_draws
from evsim.errors import ConfigError, InputError
from evsim.sensor import EventSum, SensorConfig, Simulator, SimulatorBatch

SIZE = (48, 20)
CONFIGS = [
    SensorConfig(**SIM2REAL),
    ideal(contrast_threshold_on=0.1),
    SensorConfig(model="voltmeter"),
    SensorConfig(model="icns", refractory_period_us=100.0),
    SensorConfig(model="esim", contrast_threshold_spread=0.02),
]
SEEDS = [3, 1, 4, 1, 5]
FRAMES = np.stack([texture(6, SIZE, seed=seed) for seed in range(5)], axis=1)


def singles() -> list[Simulator]:
    return [
        Simulator(config, SIZE, seed, str(k), threads=1)
        for k, (config, seed) in enumerate(zip(CONFIGS, SEEDS))
    ]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_batch_is_its_clips_bit_for_bit(threads: int) -> None:
    batch, alone = SimulatorBatch(CONFIGS, SIZE, SEEDS, threads=threads), singles()
    for k, (frames, t) in enumerate(zip(FRAMES, times_ns(6))):
        times = [t + 1000 * clip for clip in range(5)]
        cuts = [k == 3 and clip == 1 for clip in range(5)]
        if k == 4:
            batch = SimulatorBatch.from_state(batch.state(), threads=threads)
        found = batch.step(frames, times, cuts=cuts)
        for simulator, events, frame, time, cut in zip(alone, found, frames, times, cuts):
            assert_same(events, simulator.step(frame, time, cut=cut))
    assert all(len(events) for events in found)


def test_counts_and_voxel_grids_of_a_batch_are_those_of_its_clips() -> None:
    batch, alone = SimulatorBatch(CONFIGS, SIZE, SEEDS, threads=2), singles()
    window = (0.0, times_ns(6)[-1] / 1000)
    grids, wanted = np.zeros((2, 5, 4, *SIZE[::-1]), np.float32)
    for k, (frames, t) in enumerate(zip(FRAMES, times_ns(6))):
        if k % 2:
            np.testing.assert_array_equal(
                batch.count(frames, t), [one.count(frame, t) for one, frame in zip(alone, frames)]
            )
        else:
            added = batch.add(frames, t, [EventSum.voxels(grid, window) for grid in grids])
            assert added == [
                one.add(frame, t, EventSum.voxels(grid, window))
                for one, frame, grid in zip(alone, frames, wanted)
            ]
    np.testing.assert_array_equal(grids, wanted)


def test_parameters_are_drawn_for_each_clip_by_its_name() -> None:
    tree = {"contrast_threshold_on": "uniform(0.2, 0.3)", "leak_rate_hz": 0.0}
    batch = SimulatorBatch.drawn(tree, SIZE, ["a", "b", "c"], seed=9)
    thresholds = [config.contrast_threshold_on for config in batch.configs]
    assert len(set(thresholds)) == 3
    alone = build(SensorConfig, resolve_draws({"sensor": tree}, 9, "b")["sensor"])
    assert batch.configs[1] == alone
    frames, times = texture(3, SIZE), times_ns(3)
    simulator = Simulator(alone, SIZE, 9, "b")
    for frame, t in zip(frames, times):
        assert_same(batch.step([frame] * 3, t)[1], simulator.step(frame, t))
    with pytest.raises(ConfigError, match=r"unknown field 'sensor\.leak'"):
        SimulatorBatch.drawn({"leak": 1}, SIZE, ["a"])


def test_a_step_that_one_clip_refuses_moves_none() -> None:
    batch, alone = SimulatorBatch(CONFIGS, SIZE, SEEDS), singles()
    first = [batch.step(FRAMES[0], 0), [one.step(frame, 0) for one, frame in zip(alone, FRAMES[0])]]
    assert [len(events) for events in first[0]] == [0] * 5
    with pytest.raises(InputError, match=r"clip 2 of the batch: frame time is 0 ns after 0 ns"):
        batch.step(FRAMES[1], [10**6, 10**6, 0, 10**6, 10**6])
    with pytest.raises(InputError, match="clip 4 of the batch: frame has shape"):
        batch.step([*FRAMES[1][:4], FRAMES[1][4].T], 10**6)
    with pytest.raises(InputError, match="3 frames for 5 clips"):
        batch.step(FRAMES[1][:3], 10**6)
    for events, one, frame in zip(batch.step(FRAMES[1], 10**6), alone, FRAMES[1]):
        assert_same(events, one.step(frame, 10**6))


def test_a_batch_of_nothing_or_of_lists_that_differ_is_refused() -> None:
    with pytest.raises(InputError, match="a batch of no clips"):
        SimulatorBatch([], SIZE)
    with pytest.raises(InputError, match="2 seeds for 5 configurations"):
        SimulatorBatch(CONFIGS, SIZE, [1, 2])
    states = [Simulator(ideal(), size).state() for size in ((3, 4), (4, 3))]
    with pytest.raises(InputError, match=r"sizes \[\(3, 4\), \(4, 3\)\], expected one size"):
        SimulatorBatch.from_state(states)
