"""A batch of clips gives what its clips give one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

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

ForkedCode = Callable[[Callable[[], object]], int]


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


def same_state(first: Any, second: Any) -> bool:
    """Whether two saved states are alike to the last bit, arrays within included."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same_state(first[k], second[k]) for k in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same_state, first, second))
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and first.tobytes() == second.tobytes()
    return bool(first == second)


@pytest.mark.parametrize("refused", ["light", "window", "options", "interval", "cut"])
def test_what_one_clip_cannot_take_leaves_every_clip_as_it_was(refused: str) -> None:
    configs = [
        ideal(),
        SensorConfig(model="v2e", scidvs=True, scidvs_as_v2e=True),
        SensorConfig(model="idslpf", step_rate_hz=1e6),
        SensorConfig(model="icns", refractory_period_us=100.0),
    ]
    batch = SimulatorBatch(configs, SIZE, threads=2)
    frames = (FRAMES[:, :4] / 255).astype(np.float32)
    batch.step(frames[0], 0)
    before = batch.state()
    bad = frames[1].copy()
    bad[3] = 1e20
    grids = np.zeros((4, 5, *SIZE[::-1]), np.float32)
    windows = [(0.0, 1000.0)] * 3 + [(0.0, 10.0)]
    with pytest.raises(InputError, match=r"clip \d of the batch"):
        if refused == "light":
            batch.step(bad, 10**6)
        elif refused == "cut":
            batch.step(bad, 10**6, cuts=[True] * 4)
        elif refused == "window":
            batch.add(frames[1], 10**6, [EventSum.voxels(*pair) for pair in zip(grids, windows)])
        elif refused == "options":
            batch.step(frames[1], 10**11)
        else:  # passes of less than a microsecond, in one of the clips
            batch.step(frames[1], [10**6, 10**6, 10**6 + 400, 10**6])
    assert same_state(batch.state(), before)
    assert not grids.any()


def test_counts_of_a_refused_step_leave_what_they_would_overwrite() -> None:
    simulator, counts = Simulator(ideal(), SIZE), np.full((2, *SIZE[::-1]), 7, np.int32)
    simulator.step(FRAMES[0, 0], 1000)
    with pytest.raises(InputError):
        simulator.count(FRAMES[1, 0], 1000, out=counts)
    assert (counts == 7).all()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_forked_while_a_batch_steps_can_step_it(exit_code_of_fork: ForkedCode) -> None:
    batch, stop, began = SimulatorBatch(CONFIGS, SIZE, threads=2), threading.Event(), threading.Event()

    def keep_busy() -> None:
        t = 0
        while not stop.is_set():
            batch.step(FRAMES[t % 6], t * 10**6)
            t += 1
            began.set()

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        assert began.wait(60)
        codes = [
            exit_code_of_fork(lambda: len(batch.step(FRAMES[0], 10**15, cuts=[True] * 5)) == 5)
            for _ in range(4)
        ]
    finally:
        stop.set()
        thread.join()
    assert codes == [0] * 4


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_batch_goes_on_as_the_one_it_was_forked_from(exit_code_of_fork: ForkedCode) -> None:
    batch = SimulatorBatch(CONFIGS, SIZE, SEEDS, threads=2)
    for k in range(2):
        batch.step(FRAMES[k], k * 10**6)
    wanted = SimulatorBatch.from_state(batch.state()).step(FRAMES[2], 2 * 10**6)

    def child() -> bool:
        for events, expected in zip(batch.step(FRAMES[2], 2 * 10**6), wanted):
            assert_same(events, expected)
        return True

    assert exit_code_of_fork(child) == 0


def test_a_batch_of_nothing_or_of_lists_that_differ_is_refused() -> None:
    with pytest.raises(InputError, match="a batch of no clips"):
        SimulatorBatch([], SIZE)
    with pytest.raises(InputError, match="2 seeds for 5 configurations"):
        SimulatorBatch(CONFIGS, SIZE, [1, 2])
    states = [Simulator(ideal(), size).state() for size in ((3, 4), (4, 3))]
    with pytest.raises(InputError, match=r"sizes \[\(3, 4\), \(4, 3\)\], expected one size"):
        SimulatorBatch.from_state(states)
