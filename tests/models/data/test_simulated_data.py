"""Samples simulated while loading: what is in them, what decides them, and training on them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

import evsim
from evsim.cli.conventions import Settings
from evsim.cli.train import train
from evsim.errors import ConfigError, InputError
from evsim.media import Selection
from evsim.models.data.augmentation import AugmentationConfig
from evsim.models.data.dataset import Share, StepSampler, make_loader
from evsim.models.data.sequences import SequenceConfig, voxel_sequences
from evsim.models.data.simulation import SimulatedDataset, SimulationData, StillData, training_clips
from evsim.models.data.stretch import Stretch
from evsim.models.data.tables import WindowConfig
from evsim.randomness import RandomDraws
from evsim.represent import voxel_grid

PLAIN = AugmentationConfig(flip_x=0.0)
LIGHT: dict[str, Any] = {"upsample": {"factor": 2}, "settle": 0}


def moving(count: int, seed: int) -> np.ndarray:
    noise = np.random.RandomState(seed).standard_normal((36, 40 + 2 * count))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    smooth = np.clip(120 + 55 * smooth / smooth.std(), 5, 250).astype(np.uint8)
    return np.stack([smooth[:, 2 * k : 2 * k + 40] for k in range(count)])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips: a folder of 7 images at 100 per second, a video of 9 frames, and a still picture beside them."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "tree" / "walk").mkdir(parents=True)
    for k, frame in enumerate(moving(7, 0)):
        cv2.imwrite(str(folder / "tree" / "walk" / f"{k:03}.png"), frame)
    (folder / "tree" / "walk" / "fps.txt").write_text("100\n")
    writer = cv2.VideoWriter(
        str(folder / "tree" / "run.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 50.0, (40, 36)
    )
    for frame in moving(9, 1):
        writer.write(cv2.merge([frame] * 3))
    writer.release()
    cv2.imwrite(str(folder / "still.png"), cv2.resize(moving(2, 2)[0], (160, 144)))
    np.save(folder / "stack.npy", moving(4, 3))
    (folder / "stack.timestamps.txt").write_text("0.0\n0.01\n0.02\n0.03\n")
    return folder


def test_clips_are_found_at_any_depth(root: Path) -> None:
    video, folder = root / "tree" / "run.avi", root / "tree" / "walk"
    assert training_clips(root / "tree") == [video, folder]
    assert training_clips([folder, root / "stack.npy", root / "still.png"])[1:] == [
        root / "stack.npy",
        root / "still.png",
    ]
    with pytest.raises(InputError, match="named more than once"):
        training_clips([root / "tree", video])
    with pytest.raises(InputError, match="no such file"):
        training_clips(root / "gone")
    (root / "empty").mkdir(exist_ok=True)
    with pytest.raises(InputError, match="holds no clip"):
        training_clips(root / "empty")


def test_a_sample_is_what_the_chain_gives_for_its_stretch_and_draws(root: Path) -> None:
    data = SimulationData(preset="v2e-noisy", sensor={"cutoff_hz": "uniform(50, 400)"}, **LIGHT)
    dataset = SimulatedDataset(root / "tree" / "walk", data, SequenceConfig(length=3, augmentation=PLAIN))
    assert len(dataset) == 2
    stretch: Stretch = dataset[1]
    drawn, frames = dataset.draws_of(1), moving(7, 0)
    events = evsim.simulate(frames[3:7], np.arange(30, 70, 10) * 10**6, config=drawn.chain, seed=drawn.seed)
    assert 50 < drawn.chain.sensor.cutoff_hz < 400
    assert len(stretch.events) == len(events) > 500
    assert stretch.edges_us.tolist() == [[30_000, 40_000], [40_000, 50_000], [50_000, 60_000]]
    for window, end in enumerate((40_000, 50_000, 60_000)):
        found, wanted = stretch.window(window), events.between(end - 9_999, end + 1)
        assert found.t.tolist() == wanted.t.tolist()
        assert found.x.tolist() == wanted.x.tolist()
        for image, k in ((stretch.opening_image(window), 3), (stretch.window_image(window), 4)):
            assert image is not None
            assert image.t_us == 10_000 * (k + window)
            np.testing.assert_array_equal(image.image, frames[k + window])


def test_settling_intervals_are_simulated_and_left_out(root: Path) -> None:
    config = SequenceConfig(length=3, stride=1, augmentation=PLAIN)
    settled = SimulatedDataset(
        root / "tree" / "walk", SimulationData(preset="ideal", upsample={"factor": 2}, settle=2), config
    )
    assert len(settled) == 2
    at_rest = SimulatedDataset(root / "tree" / "walk", SimulationData(preset="ideal", **LIGHT), config)
    assert len(at_rest) == 4
    first, later = settled[0], at_rest[2]
    assert first.edges_us[:, 1].tolist() == later.edges_us[:, 1].tolist() == [30_000, 40_000, 50_000]
    # A pixel that has been watching fires sooner than one that has just been set to rest.
    assert len(first.window(0)) > len(later.window(0))


def test_direct_voxel_grids_are_those_of_the_events_with_the_window(root: Path) -> None:
    config = SequenceConfig(length=3)
    transform = voxel_sequences(4)
    direct = SimulatedDataset(
        root / "tree", SimulationData(direct=True, **LIGHT), config, transform=transform
    )
    listed = SimulatedDataset(root / "tree", SimulationData(**LIGHT), config)
    assert len(direct) == len(listed) == 4
    for index in range(4):
        found, stretch = direct[index], listed[index]
        for window, (grid, image) in enumerate(zip(found["voxels"], found["images"])):
            wanted = voxel_grid(stretch.window(window), 4, window=tuple(stretch.edges_us[window]))
            np.testing.assert_allclose(grid, wanted, atol=1e-4)
            seen = stretch.window_image(window).image
            seen = seen if seen.ndim == 2 else seen.mean(2)
            np.testing.assert_allclose(image[0] * 255, seen, atol=2)
    with pytest.raises(ConfigError, match="only a transform to voxel grids"):
        SimulatedDataset(root / "tree", SimulationData(direct=True), config)


@pytest.mark.parametrize("change", [{"reverse_time": 1.0}, {"quarter_turns": 1.0}])
def test_clips_are_reversed_and_turned_before_the_sensor(root: Path, change: dict[str, float]) -> None:
    config = SequenceConfig(length=3, augmentation=AugmentationConfig(crop=(32, 32), flip_x=0.0, **change))
    data = SimulationData(preset="ideal", settle=0, upsample={"method": "none"})
    dataset = SimulatedDataset(root / "tree" / "walk", data, config)
    stretch, drawn = dataset[0], dataset.draws_of(0)
    frames = np.stack([image.image for image in stretch.images])
    found = [
        (top, left, turns)
        for top in range(5)
        for left in range(9)
        for turns in range(4)
        for order in [slice(None, None, -1 if "reverse_time" in change else 1)]
        if np.array_equal(
            np.rot90(moving(7, 0)[:4][order, top : top + 32, left : left + 32], turns, axes=(1, 2)), frames
        )
    ]
    assert [turns > 0 for _, _, turns in found] == ["quarter_turns" in change]
    assert stretch.edges_us.tolist() == [[0, 10_000], [10_000, 20_000], [20_000, 30_000]]
    times = np.arange(0, 40, 10) * 10**6
    events = evsim.simulate(frames, times, config=drawn.chain, seed=drawn.seed)
    for name in "txyp":
        assert getattr(stretch.events, name).tolist() == getattr(events, name).tolist()


def test_a_sensor_of_fewer_pixels_sees_blurry_images_being_exposed(root: Path) -> None:
    data = SimulationData(
        preset="ideal", settle=1, upsample={"method": "none"}, sensor_scale=2, blur_frames=3
    )
    config = SequenceConfig(length=2, augmentation=PLAIN)
    dataset = SimulatedDataset(root / "tree" / "walk", data, config)
    assert len(dataset) == 1  # of 7 frames: 1 to settle, twice 3
    stretch, frames = dataset[0], moving(7, 0)
    small = np.stack([cv2.resize(frame, (20, 18), interpolation=cv2.INTER_AREA) for frame in frames])
    assert (stretch.events.width, stretch.events.height, stretch.image_scale) == (20, 18, (2, 2))
    assert stretch.edges_us.tolist() == [[10_000, 30_000], [40_000, 60_000]]
    drawn = dataset.draws_of(0)
    events = evsim.simulate(small, np.arange(0, 70, 10) * 10**6, config=drawn.chain, seed=drawn.seed)
    for window, first in enumerate((1, 4)):
        begin, end = stretch.edges_us[window].astype(int)
        assert stretch.window(window).t.tolist() == events.between(begin + 1, end + 1).t.tolist()
        images = stretch.images[4 * window : 4 * window + 4]
        assert [image.kind for image in images] == ["sharp", "sharp", "sharp", "blurry"]
        for image, frame in zip(images[:3], frames[first:]):
            np.testing.assert_array_equal(image.image, frame)
        blurry = stretch.window_image(window)
        assert blurry is images[3] is stretch.opening_image(window)
        assert (blurry.t_us, blurry.exposure_us) == (end, 20_000)
        np.testing.assert_allclose(blurry.image, frames[first : first + 3].mean(0), atol=0.5)
    with pytest.raises(InputError, match=r"walk, frames 0 to 6: frames of 40x36 pixels, expected mult"):
        _ = SimulatedDataset(root / "tree" / "walk", replace(data, sensor_scale=7), config)[0]
    with pytest.raises(ConfigError, match="its images are the frames that the sensor sees"):
        SimulatedDataset(root, replace(data, direct=True), config, transform=voxel_sequences(3))


def test_frames_keep_their_depth(root: Path, tmp_path: Path) -> None:
    deep = moving(3, 5).astype(np.uint16) * 257
    np.save(tmp_path / "deep.npy", deep)
    data = SimulationData(selection=Selection(fps=50.0), **LIGHT)
    config = SequenceConfig(length=2, augmentation=PLAIN)
    stretch = SimulatedDataset(tmp_path / "deep.npy", data, config)[0]
    for image, frame in zip(stretch.images, deep, strict=True):
        assert image.image.dtype == np.uint16
        np.testing.assert_array_equal(image.image, frame)
    sample = voxel_sequences(3)(stretch, RandomDraws(0, "", ""))
    np.testing.assert_allclose(sample["images"][:, 0] * 255, deep[1:] / 257, atol=1e-4)


def batches(root: Path, workers: int, first: int = 0, last: int = 5) -> list[dict[str, torch.Tensor]]:
    clips = [root / "tree", root / "still.png", root / "stack.npy"]
    data = SimulationData(selection=Selection(size=(36, 30)), **LIGHT)
    dataset = SimulatedDataset(clips, data, SequenceConfig(length=2), transform=voxel_sequences(3))
    keys = StepSampler(len(dataset), 7, Share(batch_size=3), first, last)
    return list(make_loader(dataset, keys, 7, workers=workers))


def test_samples_do_not_depend_on_workers_or_on_what_was_loaded_before(root: Path) -> None:
    wanted = batches(root, 0)
    assert not torch.equal(wanted[0]["voxels"], wanted[3]["voxels"])
    for found in (batches(root, 1), batches(root, 2), batches(root, 0, 0, 2) + batches(root, 2, 2)):
        assert len(found) == len(wanted)
        for a, b in zip(wanted, found):
            assert torch.equal(a["voxels"], b["voxels"])
            assert torch.equal(a["images"], b["images"])


def test_every_sample_of_every_epoch_has_a_sensor_of_its_own(root: Path) -> None:
    sensor = {"contrast_threshold_on": "uniform(0.2, 0.3)", "refractory_period_us": 0.0}
    dataset = SimulatedDataset(
        [root / "tree", root / "still.png"],
        SimulationData(sensor=sensor, selection=Selection(size=(36, 30)), stills=StillData(fps=100.0)),
        SequenceConfig(length=2),
    )
    drawn = [dataset.draws_of(index, epoch=epoch) for epoch in range(20) for index in range(len(dataset))]
    thresholds = [draw.chain.sensor.contrast_threshold_on for draw in drawn]
    assert len(set(thresholds)) == len({draw.seed for draw in drawn}) == len(drawn)
    assert 0.2 < min(thresholds) < 0.21 < 0.29 < max(thresholds) < 0.3
    assert {draw.chain.sensor.refractory_period_us for draw in drawn} == {0.0}
    assert len({draw.motion.path for draw in drawn}) == 5
    again = pickle.loads(pickle.dumps(dataset))
    assert again.draws_of(3, epoch=4) == dataset.draws_of(3, epoch=4) != dataset.draws_of(3, epoch=5)
    picture = dataset[len(dataset) - 1]
    assert picture.edges_us[:, 1].tolist() == [20_000, 30_000]


def test_what_cannot_be_simulated_is_refused_at_once(root: Path) -> None:
    walk = root / "tree" / "walk"
    with pytest.raises(ConfigError, match=r"unknown field 'sensor\.cutof_hz' \(did you mean 'cutoff_hz'"):
        SimulatedDataset(walk, SimulationData(sensor={"cutof_hz": 3}))
    with pytest.raises(InputError, match="no sequence of 10 windows, after 1 to settle, in 1 clips"):
        SimulatedDataset(walk)
    with pytest.raises(ConfigError, match="expected 'between_frames'"):
        SimulatedDataset(walk, config=SequenceConfig(windows=WindowConfig(kind="k_events")))
    with pytest.raises(ConfigError, match=r"still\.png is a still picture: set size"):
        SimulatedDataset(root / "still.png", config=SequenceConfig(length=2))


def test_evsim_train_simulates_while_training_and_resumes_bit_for_bit(root: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(train, ["firenet", *arguments], obj=Settings())
        assert done.exit_code == 0, done.output
        return done.output

    common = [str(root / "tree"), "--simulate", "v2e-random", "--validation", str(root / "tree" / "walk")]
    for field in (
        "network.channels=4",
        "network.bins=3",
        "data.sequences.length=2",
        "data.sequences.augmentation.crop=[24, 20]",
        "data.simulation.sensor.contrast_threshold_on=uniform(0.2,0.3)",
        "data.simulation.upsample.factor=2",
        "training.learning_rate=loguniform(1e-4, 1e-3)",
        "training.batch_size=2",
    ):
        common += ["--set", field]
    common += ["--device", "cpu"]
    run(*common, "-o", str(tmp_path / "whole"), "--steps", "6")
    run(*common, "-o", str(tmp_path / "parts"), "--steps", "3", "--workers", "2")
    run("-o", str(tmp_path / "parts"), "--steps", "6", "--resume")
    for name in ("last.safetensors", "best.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    written = yaml.safe_load((tmp_path / "whole" / "config.yaml").read_text())
    simulation = written["data"]["simulation"]
    assert simulation["preset"] == "v2e-random"
    assert simulation["sensor"] == {"contrast_threshold_on": "uniform(0.2,0.3)"}
    assert 1e-4 < written["training"]["learning_rate"] < 1e-3
