"""Events to images: what a scene looks like afterwards, padding, windows, outputs and the two verbs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import evsim
from evsim import models
from evsim.cli.conventions import Settings
from evsim.cli.reconstruct import reconstruct
from evsim.cli.weights import weights
from evsim.errors import BackendError, CheckpointError, InputError
from evsim.events import Events
from evsim.formats import NativeWriter, open_events
from evsim.models.device import choose_device
from evsim.models.prediction.parts import predictor_of
from evsim.models.prediction.windows import VoxelRecurrent, WindowPredictor, crop_padding, pad_to_multiple
from evsim.pipelines.reconstruct import ReconstructionConfig, reconstruct_to_file

Run = Callable[..., str]


def moving_texture(count: int, width: int, height: int) -> np.ndarray:
    """(T, H, W) uint8: bright and dark patches that move two pixels a frame."""
    rs = np.random.RandomState(3)
    texture = cv2.GaussianBlur(rs.randn(height, width + 2 * count), (0, 0), 6.0)
    texture = np.clip(120 + 60 * texture / texture.std(), 10, 250).astype(np.uint8)
    return np.stack([texture[:, 2 * k : 2 * k + width] for k in range(count)])


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A simulated recording with its frames every 10 ms, and the frames."""
    frames = moving_texture(30, 120, 90)
    times = np.arange(len(frames)) * 10_000_000
    events = evsim.simulate(frames, times, preset="ideal")
    path = tmp_path_factory.mktemp("simulated") / "events.h5"
    with NativeWriter(path, 120, 90) as writer:
        writer.append(events)
        for frame, t in zip(frames, times):
            writer.append_image(frame, t / 1000)
    return path, frames


@pytest.mark.needs_data
def test_a_simulated_scene_is_recognised_in_the_reconstruction(
    simulated: tuple[Path, np.ndarray], data: Path, tmp_path: Path
) -> None:
    path, frames = simulated
    predictor = predictor_of(models.load("firenet", data / "firenet_plus.pth"))
    with open_events(path) as recording:
        result = reconstruct_to_file(recording, predictor, tmp_path / "images.npy")
    images = np.load(tmp_path / "images.npy")
    assert (result.images, result.windows) == (29, "frames")
    assert result.events + result.events_outside == len(open_events(path))
    assert images.dtype == np.float32
    correlations = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(images, frames[1:])]
    assert np.mean(correlations[10:]) > 0.6
    # The picture moves with the scene: it resembles its own frame more than one eight frames away.
    assert np.corrcoef(images[20].ravel(), frames[13].ravel())[0, 1] < correlations[20] - 0.2


class Counting(nn.Module):
    """Sums its voxel grids over time; its images show the running sum, and their shape is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.1))
        self.shapes: set[tuple[int, ...]] = set()

    def forward(self, voxel: torch.Tensor, state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        self.shapes.add(tuple(voxel.shape))
        total = voxel.sum(1, keepdim=True) + (0 if state is None else state)
        return total * self.scale, total


def test_the_state_is_kept_and_padding_cropped_away(
    simulated: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    network = Counting()
    predictor = WindowPredictor(VoxelRecurrent(network, bins=4, pad_multiple=16))
    with open_events(simulated[0]) as recording:
        reconstruct_to_file(recording, predictor, tmp_path / "sum.npy", ReconstructionConfig(windows="count"))
        events = recording.events()
    assert network.shapes == {(1, 4, 96, 128)}
    wanted = np.zeros((90, 120))
    np.add.at(wanted, (events.y, events.x), np.where(events.p, 1.0, -1.0))
    np.testing.assert_allclose(np.load(tmp_path / "sum.npy")[-1], 0.1 * wanted, atol=1e-4)


def test_a_sequence_on_another_sensor_needs_a_reset() -> None:
    recurrent = VoxelRecurrent(Counting(), bins=4)
    assert recurrent.step(Events.empty(6, 5)).shape == (5, 6)
    with pytest.raises(InputError, match=r"call reset\(\)"):
        recurrent.step(Events.empty(7, 5))
    recurrent.reset()
    assert recurrent.step(Events.empty(7, 5)).shape == (5, 7)


@pytest.mark.needs_parity
def test_padding_lies_where_the_published_evaluation_puts_it(parity: Path) -> None:
    table = json.loads((parity / "evreal_crop.json").read_text())
    for row in table["rows"]:
        case = dict(zip(table["columns"], row))
        image = torch.ones(1, case["height"], case["width"])
        multiple = 2 ** case["num_encoders"]
        padded = pad_to_multiple(image, multiple)
        assert padded.shape[1:] == (case["padded_height"], case["padded_width"])
        assert padded[0, case["iy0"] : case["iy1"], case["ix0"] : case["ix1"]].all()
        assert padded.sum() == image.sum()
        assert torch.equal(crop_padding(padded, (case["width"], case["height"]), multiple), image)


def test_devices_are_named_or_refused() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="expected cpu, cuda"):
        choose_device("gpu0")
    with pytest.raises(BackendError, match="--device cpu"):
        choose_device("cuda:99")


@pytest.fixture
def run() -> Run:
    def call(command: Any, *arguments: object, code: int = 0) -> str:
        done = CliRunner().invoke(
            command, [str(a) for a in arguments], obj=Settings(), catch_exceptions=False
        )
        assert done.exit_code == code, done.output
        return done.stdout if code == 0 else done.output

    return call


@pytest.fixture
def weight_file(plus_state: Any, tmp_path: Path) -> Path:
    path = tmp_path / "small.pth"
    torch.save({"state_dict": plus_state}, path)
    return path


def test_the_verb_writes_pictures_video_and_stacks(
    run: Run, weight_file: Path, simulated: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    source = simulated[0]
    said = json.loads(run(reconstruct, source, "-o", tmp_path / "out", "--weights", weight_file, "--json"))
    assert (said["windows"], said["images"], said["device"]) == ("frames", 29, said["device"])
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert len(pictures) == 29
    assert cv2.imread(str(pictures[0]), cv2.IMREAD_UNCHANGED).shape == (90, 120)
    times = (tmp_path / "out" / "timestamps.txt").read_text().split()
    assert float(times[0]) == 0.01
    again = run(reconstruct, source, "-o", tmp_path / "b", "--config", said["configuration"], "--json")
    assert {**json.loads(again), "seconds": 0}["clipped_share"] == said["clipped_share"]
    run(reconstruct, source, "-o", tmp_path / "v.avi", "--weights", weight_file, "--window-ms", 50)
    video = cv2.VideoCapture(str(tmp_path / "v.avi"))
    assert video.get(cv2.CAP_PROP_FPS) == 20
    run(
        reconstruct, source, "-o", tmp_path / "s.npy", "--weights", weight_file, "--events-per-window", 9999,
        "--normalize", "robust",
    )  # fmt: skip
    assert np.load(tmp_path / "s.npy").shape[1:] == (90, 120)


def test_a_dry_run_writes_nothing(
    run: Run, weight_file: Path, simulated: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    said = run(
        reconstruct, simulated[0], "-o", tmp_path / "out", "--weights", weight_file, "--dry-run", "--json"
    )
    assert json.loads(said)["images"] == 29
    assert json.loads(said)["fps"] == 100
    assert not (tmp_path / "out").exists()


def test_ways_to_cut_windows_exclude_one_another(run: Run, tmp_path: Path) -> None:
    said = run(reconstruct, "x.h5", "-o", tmp_path / "o", "--window-ms", 5, "--events-per-window", 9, code=2)
    assert "--window-ms and --events-per-window exclude one another" in said


def test_absent_weights_say_where_to_get_them(
    run: Run, simulated: tuple[Path, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVSIM_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match=r"pass --weights FILE, or get pretrained/FireNet\+/model\.pth from"):
        run(reconstruct, simulated[0], "-o", tmp_path / "out")
    with pytest.raises(InputError, match=r"neither a file .*did you mean 'firenet-plus'"):
        run(reconstruct, simulated[0], "-o", tmp_path / "out", "--weights", "firenet-pluss")
    with pytest.raises(InputError, match=r"'firenet-plus' are not at"):
        run(reconstruct, simulated[0], "-o", tmp_path / "out", "--weights", "firenet-plus")


def test_weights_in_their_folder_are_found_by_name(
    run: Run, weight_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVSIM_WEIGHTS", str(tmp_path))
    weight_file.rename(tmp_path / "firenet_plus.pth")
    listed = json.loads(run(weights, "list", "--json", "--network", "firenet"))
    assert listed["folder"] == str(tmp_path)
    assert listed["weights"]["firenet-plus"]["present"] is True
    assert listed["weights"]["firenet"]["present"] is False
    assert all(item["origin"] and item["licence"] for item in listed["weights"].values())
    with pytest.raises(InputError, match="unknown network"):
        run(weights, "list", "--network", "fire")


def test_checking_and_converting_say_what_a_file_is(run: Run, weight_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pass --network"):
        run(weights, "check", weight_file)
    said = json.loads(run(weights, "check", weight_file, "--network", "firenet", "--json"))
    assert (said["format"], said["tensors"], said["config"]["channels"]) == ("torch", 24, 4)
    converted = tmp_path / "small.safetensors"
    run(weights, "convert", weight_file, converted, "--network", "firenet")
    assert json.loads(run(weights, "check", converted, "--json"))["format"] == "evsim"
    assert run(weights, "list").startswith("Published weights")
    torch.save({"a": torch.ones(1)}, weight_file)
    with pytest.raises(CheckpointError, match=r"24 of 24 keys missing: head\.conv2d\.weight"):
        run(weights, "check", weight_file, "--network", "firenet")


@pytest.mark.needs_data
def test_a_published_file_is_recognised_by_its_checksum(run: Run, data: Path) -> None:
    said = json.loads(run(weights, "check", data / "firenet_plus.pth", "--json"))
    assert (said["published"], said["network"], said["parameters"]) == ("firenet-plus", "firenet", 37_777)
