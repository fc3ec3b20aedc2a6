"""The chain over one clip: what users rely on when all rooms work together."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import evsim
from evsim.chain import ClipSimulation, count_target, preset_names, read_preset, resolve
from evsim.configuration import has_draws, merge, parse_overrides
from evsim.errors import ConfigError, InputError
from evsim.events import Events
from evsim.media import ArraySource
from evsim.represent import voxel_grid

FPS = 120.0


def texture(seed: int, count: int = 5, *, height: int = 40, width: int = 56, step: int = 1) -> np.ndarray:
    """A smooth random texture moving `step` pixels a frame, (T, H, W) uint8."""
    rs = np.random.RandomState(seed)
    spectrum = np.fft.fft2(rs.randn(height, width + count * step))
    rows, columns = np.meshgrid(*(np.fft.fftfreq(n) for n in spectrum.shape), indexing="ij")
    smooth = np.real(np.fft.ifft2(spectrum * np.exp(-2 * (np.pi * 3) ** 2 * (rows**2 + columns**2))))
    image = np.clip(120 + 50 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    return np.stack([image[:, k * step : k * step + width] for k in range(count)])


def same_events(first: Events, second: Events, shift_us: int = 0) -> bool:
    return all(
        np.array_equal(a, b)
        for a, b in (
            (first.t + shift_us, second.t),
            (first.x, second.x),
            (first.y, second.y),
            (first.p, second.p),
            (first.label, second.label),
        )
    )


@pytest.mark.parametrize("preset", ["sim2real", "v2e-noisy", "ideal"])
def test_a_clip_that_starts_at_a_minute_gives_the_same_events_a_minute_later(preset: str) -> None:
    frames = texture(0)
    t_ns = np.round(np.arange(len(frames)) * 1e9 / FPS).astype(np.int64)
    early = evsim.simulate(frames, t_ns, preset=preset)
    late = evsim.simulate(frames, t_ns + 60_000_000_000, preset=preset)
    assert len(early) > 0
    assert same_events(early, late, shift_us=60_000_000)


def test_seed_and_clip_decide_the_events() -> None:
    frames = texture(0)
    first = evsim.simulate(frames, FPS, seed=1, clip="a")
    assert same_events(first, evsim.simulate(frames, FPS, seed=1, clip="a"))
    assert not same_events(first, evsim.simulate(frames, FPS, seed=2, clip="a"))
    assert not same_events(first, evsim.simulate(frames, FPS, seed=1, clip="b"))


def test_threads_do_not_change_the_events() -> None:
    config = resolve(read_preset("sim2real"), 0, "")
    source = ArraySource(texture(0, height=96, width=128), FPS)
    parts = [
        Events.concatenate(step.events for step in ClipSimulation(source, config, threads=threads))
        for threads in (1, 2)
    ]
    assert same_events(*parts)


@pytest.mark.parametrize("channels", [0, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_static_noise_free_scene_emits_nothing(dtype: str, channels: int) -> None:
    scale = {"uint8": 1, "uint16": 257, "float32": 1 / 255}[dtype]
    frame = (texture(3)[0] * np.float64(scale)).astype(dtype)
    if channels:
        frame = np.stack([frame, frame // 2 if dtype != "float32" else frame / 2, frame], axis=-1)
    assert len(evsim.simulate(np.stack([frame] * 4), FPS, preset="ideal")) == 0


def test_no_burst_crosses_the_join_of_two_clips() -> None:
    one, two = texture(1, height=96, width=128), texture(2, height=96, width=128)
    joined = np.concatenate([one, 255 - two // 2])
    source = ArraySource(joined, FPS)
    simulation = ClipSimulation(source, resolve(read_preset("ideal"), 0, ""))
    steps = list(simulation)
    assert simulation.clock.cuts == 1
    cut = next(step for step in steps if step.frame.cut)
    assert cut.frame.source_index == len(one)
    assert len(cut.events) == 0
    gap = [step for step in steps if one_before(cut.frame.t_ns) < step.frame.t_ns <= cut.frame.t_ns]
    assert sum(len(step.events) for step in gap) == 0
    alone = len(evsim.simulate(one, FPS, preset="ideal"))
    before = sum(len(step.events) for step in steps if step.frame.t_ns < one_before(cut.frame.t_ns) + 1)
    assert before == alone


def one_before(t_ns: int) -> int:
    """The time of the last frame before the cut."""
    return t_ns - round(1e9 / FPS) + 1


def test_without_cut_detection_the_burst_is_there() -> None:
    joined = np.concatenate([texture(1, height=96, width=128), 255 - texture(2, height=96, width=128) // 2])
    overrides = ["upsample.detect_cuts=false", "upsample.method=none"]
    burst = evsim.simulate(joined, FPS, preset="ideal", overrides=overrides)
    calm = evsim.simulate(joined, FPS, preset="ideal", overrides=["upsample.method=none"])
    assert len(burst) > 1.5 * len(calm)


def test_every_event_lies_in_the_interval_of_its_step() -> None:
    simulation = ClipSimulation(ArraySource(texture(0), FPS), resolve(read_preset("sim2real"), 0, ""))
    steps = list(simulation)
    assert len(steps[0].events) == 0
    for before, after in itertools.pairwise(steps):
        t = after.events.validate().t
        assert ((t * 1000 > before.frame.t_ns - 1000) & (t * 1000 <= after.frame.t_ns)).all()
        assert (t > before.frame.t_ns // 1000).all()
    assert sum(len(step.events) for step in steps) == simulation.clock.events
    assert simulation.clock.frames == (len(texture(0)) - 1) * 8 + 1
    assert sum(simulation.clock.labels.values()) == simulation.clock.events


def test_iterating_twice_gives_the_same_events() -> None:
    simulation = ClipSimulation(ArraySource(texture(0), FPS), resolve(read_preset("sim2real"), 0, ""))
    first, second = (Events.concatenate(step.events for step in simulation) for _ in range(2))
    assert same_events(first, second)


def test_darker_light_gives_fewer_signal_events() -> None:
    frames = texture(0)
    signal = [
        np.count_nonzero(evsim.simulate(frames, FPS, overrides=[f"isp.low_light_factor={factor}"]).label == 0)
        for factor in (1, 16)
    ]
    assert signal[1] < 0.7 * signal[0]


def test_brooks_noise_is_drawn_for_each_frame_and_repeatable() -> None:
    frames = np.full((4, 32, 32), 128, np.uint8)
    overrides = ["isp.variant=brooks", "isp.noise=brooks", "sensor.step_rate_hz=null"]
    noisy = [
        evsim.simulate(frames, FPS, preset="ideal", overrides=overrides, seed=seed) for seed in (0, 0, 1)
    ]
    assert len(noisy[0]) > 0
    assert same_events(noisy[0], noisy[1])
    assert not same_events(noisy[0], noisy[2])


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_resolves(name: str) -> None:
    tree = read_preset(name)
    assert resolve(tree, 0, "a") == resolve(tree, 0, "a")
    if has_draws(tree):
        assert resolve(tree, 0, "a") != resolve(tree, 0, "b")


def test_a_drawn_value_can_be_overridden_and_an_unknown_preset_is_named() -> None:
    tree = merge(read_preset("sim2real"), parse_overrides(["sensor.cutoff_hz=loguniform(100, 1000)"]))
    assert 100 <= resolve(tree, 3, "").sensor.cutoff_hz <= 1000
    with pytest.raises(ConfigError, match="did you mean 'sim2real'"):
        evsim.simulate(texture(0), FPS, preset="sim-real")


def test_one_frame_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2"):
        evsim.simulate(texture(0)[:1], FPS)


def test_a_configuration_object_replaces_the_preset() -> None:
    config = resolve(read_preset("ideal"), 0, "")
    frames = texture(0)
    assert same_events(
        evsim.simulate(frames, FPS, config=config), evsim.simulate(frames, FPS, preset="ideal")
    )


@pytest.mark.parametrize(("rule", "polarity"), [("e2vid", None), ("openeb", "split"), ("timelens", None)])
def test_voxels_of_a_clip_are_those_of_its_events(rule: str, polarity: Any) -> None:
    frames = texture(0)
    arguments: dict[str, Any] = {"preset": "sim2real", "overrides": ["upsample.factor=3"], "seed": 4}
    grids = evsim.simulate_voxels(frames, 200.0, 4, rule=rule, polarity=polarity, **arguments)
    events = evsim.simulate(frames, 200.0, **arguments)
    assert len(events) > 1000
    for k, grid in enumerate(grids):
        inside = events.between(5000 * k + 1, 5000 * k + 5001)
        wanted = voxel_grid(inside, 4, rule=rule, polarity=polarity, window=(5000 * k, 5000 * (k + 1)))
        np.testing.assert_allclose(grid, wanted, atol=2e-5)


def test_intervals_of_a_clip_are_counted_also_across_a_cut() -> None:
    frames = np.concatenate([texture(0, 3), 255 - texture(7, 4)[:, ::-1]])
    config = resolve(merge(read_preset("v2e-noisy"), {"upsample": {"factor": 2}}), 0, "")
    simulation = ClipSimulation(ArraySource(frames, 100.0), config)
    size = (frames.shape[2], frames.shape[1])
    counted = [
        (found.target.out.sum((1, 2)), found.events) for found in simulation.intervals(count_target(size))
    ]
    assert simulation.clock.cuts == 1
    assert simulation.clock.events == sum(events for _, events in counted)
    steps = list(ClipSimulation(ArraySource(frames, 100.0), config))[1:]
    for (sums, events), pair in zip(counted, zip(steps[::2], steps[1::2], strict=True), strict=True):
        on = sum(int(step.events.p.sum()) for step in pair)
        assert sums.tolist() == [on, events - on]
        assert events == sum(len(step.events) for step in pair)


def test_a_rule_that_needs_the_events_is_refused() -> None:
    with pytest.raises(InputError, match="rule 'ner' gives zeros for fewer than 3 events"):
        evsim.simulate_voxels(texture(0, 3), 100.0, 4, rule="ner")
