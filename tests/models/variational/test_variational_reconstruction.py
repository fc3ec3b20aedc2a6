"""The variational reconstruction as users call it: thresholds, times, windows, colour."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_scenes import scene_events, scene_frames
from numpy.typing import NDArray

from evsim.errors import ConfigError, InputError
from evsim.events import Events
from evsim.formats import NativeWriter, open_events, save_events
from evsim.metrics.alignment import aligned_scores
from evsim.models.prediction.parts import make_predictor
from evsim.models.prediction.scene import Scene
from evsim.models.variational.config import VariationalConfig
from evsim.models.variational.thresholds import choose_thresholds
from evsim.models.variational.windows import plan_samples
from evsim.represent.levels import Thresholds


def reconstruct(file: Path, times: Any, **options: Any) -> NDArray[np.float32]:
    with open_events(file) as recording:
        method = make_predictor("variational", {"output": "log", **options})
        return np.stack(list(method.images(Scene(recording=recording), np.asarray(times, np.float64))))


def moving_blocks(frames: int, size: tuple[int, int] = (32, 24), seed: int = 0) -> NDArray[np.float64]:
    """(T, H, W) log intensity of patches of 4x4 pixels that move to the left by half a pixel a frame."""
    width, height = size
    draw = np.random.default_rng(seed)
    wall = np.kron(draw.uniform(-1, 1, (height // 4, (width + frames) // 4 + 2)), np.ones((4, 4)))
    positions = np.arange(width) + 0.5 * np.arange(frames)[:, None]
    left = positions.astype(np.int64)
    share = positions - left
    return (1 - share)[:, None] * wall[:, left].swapaxes(0, 1) + share[:, None] * wall[:, left + 1].swapaxes(
        0, 1
    )


def ideal_events(video: NDArray[np.float64], interval_us: int, threshold: float) -> Events:
    """Events where the straight line between frames crosses levels a threshold apart."""
    level, found = video[0].copy(), []
    for k, (before, after) in enumerate(itertools.pairwise(video)):
        for sign, p in ((1, 1), (-1, 0)):
            while True:
                target = level + sign * threshold
                crossed = sign * (after - target) >= 0
                if not crossed.any():
                    break
                y, x = np.nonzero(crossed)
                share = np.clip((target - before) / np.where(after == before, 1, after - before), 0, 1)
                t = np.round((k + share[crossed]) * interval_us).astype(np.int64)
                found.append((t, x, y, np.full(len(t), p)))
                level[crossed] = target[crossed]
    t, x, y, p = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(t, kind="stable")
    columns = (t[order], x[order].astype("u2"), y[order].astype("u2"), p[order].astype("u1"))
    return Events(*columns, video.shape[2], video.shape[1])


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, NDArray[np.float64], NDArray[np.float64]]:
    """A file of the events of moving patches, its log intensity, and the times of that."""
    video = moving_blocks(60)
    file = tmp_path / "scene.h5"
    save_events(ideal_events(video, 10_000, 0.1), file)
    return file, video, 10_000.0 * np.arange(60)


def correlation(found: NDArray[np.float32], video: NDArray[np.float64]) -> float:
    return float(np.corrcoef(found.ravel(), video.ravel())[0, 1])


@pytest.mark.needs_parity("evinr_e2e.npz", "evinr_e2e_noisy.npz")
@pytest.mark.parametrize(
    ("name", "largest_mse", "least_ssim"), [("evinr_e2e", 0.0055, 0.74), ("evinr_e2e_noisy", 0.0060, 0.72)]
)
def test_published_scenes_come_back(
    parity: Path, tmp_path: Path, name: str, largest_mse: float, least_ssim: float
) -> None:
    frames, times = scene_frames(parity)
    save_events(scene_events(parity, name), tmp_path / "events.h5")
    scores = aligned_scores(reconstruct(tmp_path / "events.h5", times), frames)
    assert scores["mse@log-affine"] <= largest_mse
    assert scores["ssim:evreal@log-affine"] >= least_ssim


def test_the_gain_leaves_only_the_offset_open(scene: Any) -> None:
    file, video, times = scene
    with_gain, without = (
        reconstruct(file, times, event_threshold=0.1, refit_gain=gain) for gain in (True, False)
    )
    error = [np.std((found - found.mean()) - (video - video.mean())) for found in (with_gain, without)]
    assert error[0] < error[1]
    assert correlation(with_gain, video) > 0.7


@pytest.mark.parametrize("threshold", [0.02, 1.0])
def test_another_threshold_scales_the_video_and_nothing_else(scene: Any, threshold: float) -> None:
    file, _, times = scene
    found = reconstruct(file, times, event_threshold=threshold)
    expected = reconstruct(file, times, event_threshold=0.25)
    np.testing.assert_allclose(found * 0.25 / threshold, expected, atol=1e-3 * np.ptp(expected))


def test_the_same_events_played_faster_give_the_same_images(scene: Any, tmp_path: Path) -> None:
    file, _, times = scene
    with open_events(file) as recording:
        events = recording.events()
    save_events(replace(events, t=events.t * 4), tmp_path / "slow.h5")
    slow = reconstruct(tmp_path / "slow.h5", 4 * times)
    np.testing.assert_allclose(slow, reconstruct(file, times), atol=1e-4)


def test_an_image_does_not_depend_on_which_others_are_asked_for(scene: Any) -> None:
    file, _, times = scene
    every = reconstruct(file, times, window_samples=8)
    some = reconstruct(file, times[5::7], window_samples=8)
    np.testing.assert_allclose(some, every[5::7], atol=1e-6)
    # Before the first and after the last event: the image there.
    ends = reconstruct(file, [-1e6, -5.0, 9e6], window_samples=8)
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_allclose(ends[2], reconstruct(file, [10_000.0 * 59], window_samples=8)[0], atol=0.05)


def test_windows_join_without_a_jump(scene: Any) -> None:
    file, video, times = scene
    fine = np.linspace(0, times[-1], 400)
    whole, pieces = (reconstruct(file, fine, window_samples=samples) for samples in (1000, 12))
    steps = [np.abs(np.diff(found, axis=0)).max() for found in (whole, pieces)]
    assert steps[1] < 3 * steps[0]
    assert correlation(reconstruct(file, times, window_samples=24), video) > 0.5


def test_windows_cover_every_sample_and_overlap() -> None:
    for events in (100, 5_000, 60_000):
        samples = plan_samples(1_000, 900_000, events, (10, 8), VariationalConfig(window_samples=16))
        starts, stops = zip(*samples.windows, strict=True)
        assert (starts[0], stops[-1]) == (0, len(samples.times_us))
        assert all(start < stop for start, stop in zip(starts[1:], stops, strict=False))
        assert (samples.times_us[0], samples.times_us[-1]) == (1_000, 900_000)


def test_thresholds_come_from_the_file_unless_told(tmp_path: Path, scene: Any) -> None:
    with open_events(scene[0]) as recording:
        events = recording.events()
    file = tmp_path / "simulated.h5"
    sensor = {"model": "v2e", "contrast_threshold_on": 0.3, "contrast_threshold_off": 0.2}
    with NativeWriter(file, 32, 24, config={"sensor": sensor}) as writer:
        writer.append(events)
    with open_events(file) as recording:
        assert choose_thresholds(recording, VariationalConfig()) == Thresholds(0.3, 0.2)
        assert choose_thresholds(recording, VariationalConfig(event_threshold=0.5)) == Thresholds(0.5, 0.5)
        told = VariationalConfig(event_threshold=0.5, event_threshold_off=0.4)
        assert choose_thresholds(recording, told) == Thresholds(0.5, 0.4)


def test_unequal_thresholds_are_found_where_pixels_would_drift(tmp_path: Path) -> None:
    t = np.arange(20_000)
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 8, 20_000).astype("u2"), draw.integers(0, 6, 20_000).astype("u2")
    p = (draw.uniform(size=20_000) < 0.4).astype("u1")
    save_events(Events(t, x, y, p, 8, 6), tmp_path / "events.h5")
    with open_events(tmp_path / "events.h5") as recording:
        found = choose_thresholds(recording, VariationalConfig())
        assert found.off / found.on == pytest.approx(0.4 / 0.6, rel=0.03)
        assert choose_thresholds(recording, VariationalConfig(balance_thresholds="off")) == (0.25, 0.25)


def test_colour_of_a_mosaic_comes_back(tmp_path: Path) -> None:
    channels = np.stack([moving_blocks(60, seed=seed) for seed in (1, 2, 3)], -1)
    mosaic = channels[..., 1].copy()
    mosaic[:, 0::2, 0::2], mosaic[:, 1::2, 1::2] = channels[:, 0::2, 0::2, 0], channels[:, 1::2, 1::2, 2]
    save_events(ideal_events(mosaic, 10_000, 0.05), tmp_path / "mosaic.h5")
    found = reconstruct(tmp_path / "mosaic.h5", 10_000.0 * np.arange(60), color=True)
    assert found.shape == (60, 24, 32, 3)
    for channel in range(3):
        own, *others = (
            correlation(found[..., channel], channels[..., which % 3])
            for which in range(channel, channel + 3)
        )
        assert own > 0.4
        assert own > max(others) + 0.3


def test_odd_sides_have_no_colour(scene: Any, tmp_path: Path) -> None:
    save_events(Events.from_structured(_one_event(), width=5, height=4), tmp_path / "odd.h5")
    with pytest.raises(InputError, match="expected even sides"):
        reconstruct(tmp_path / "odd.h5", [0.0], color=True)


def test_one_event_is_enough(tmp_path: Path) -> None:
    save_events(Events.from_structured(_one_event(), width=5, height=4), tmp_path / "one.h5")
    assert np.isfinite(reconstruct(tmp_path / "one.h5", [0.0, 10.0])).all()
    assert np.isfinite(reconstruct(tmp_path / "one.h5", [0.0], output="display")).all()


def test_what_is_shown_neither_clips_nor_flickers(scene: Any) -> None:
    file, _, times = scene
    shown = reconstruct(file, times, output="display")
    assert shown.min() > 0
    assert shown.max() < 1
    logs = reconstruct(file, times)
    order = np.argsort(logs, axis=None)
    assert np.all(np.diff(shown.ravel()[order]) >= 0)


@pytest.mark.parametrize("options", [{"event_threshold": 0.0}, {"iterations": 0}, {"softening": 0.0}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        make_predictor("variational", options)


def _one_event() -> NDArray[Any]:
    kinds = [("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "u1")]
    return np.array([(10, 1, 2, 1)], kinds)
