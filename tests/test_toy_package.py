"""A package of somebody else's, installed by pip, adds one thing of every kind; nothing of evsim names it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from evsim import models
from evsim.cli.main import main
from evsim.events import Events
from evsim.files import file_sha256
from evsim.formats import create_events, open_events
from evsim.models.training.record import Recorder

ROOT = Path(__file__).resolve().parent.parent
SHIFT = 4
"""Pixels that the textures move from frame to frame."""


@dataclass
class Outcome:
    """Exit code and both streams of one command."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip installed the package into; from a copy, because building leaves files behind."""
    source, target = tmp_path_factory.mktemp("source") / "toy_package", tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "tests" / "toy_package", source, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--disable-pip-version-check", "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=target)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def evsim(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Call `evsim` in this process, where the package is installed."""
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(ROOT)]))

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["evsim", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        streams = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), streams.out, streams.err)

    return run


def texture(width: int, height: int) -> np.ndarray:
    """A smooth random texture that repeats, uint8."""
    noise = np.random.RandomState(0).randn(height, width)
    smooth = cv2.GaussianBlur(np.tile(noise, (3, 3)), (0, 0), 1.5)[height : 2 * height, width : 2 * width]
    return np.clip(120 + 50 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def write_frames(folder: Path, count: int = 3, size: tuple[int, int] = (32, 24)) -> Path:
    """Frames of a texture that moves to the right, whole pixels, all around."""
    folder.mkdir(parents=True)
    image = texture(*size)
    for k in range(count):
        cv2.imwrite(str(folder / f"{k:03d}.png"), np.roll(image, SHIFT * k, axis=1))
    (folder / "fps.txt").write_text("25\n")
    return folder


def save_network(name: str, path: Path, **hyper: object) -> Path:
    return models.save(models.create(name, **hyper), path)


def test_a_format_is_read_written_and_recognised(evsim: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "a.toy").write_text("toy 5 4\n10,1,2,1\n25,4,3,0\n")
    assert evsim("convert", tmp_path / "a.toy", tmp_path / "a.h5").code == 0
    assert evsim("convert", tmp_path / "a.h5", tmp_path / "b.toy").code == 0
    assert (tmp_path / "b.toy").read_text() == (tmp_path / "a.toy").read_text()
    shown = json.loads(evsim("info", tmp_path / "b.toy", "--json").out)
    assert (shown["format"], shown["events"]) == ("toy_lines", 2)
    (tmp_path / "bad.toy").write_text("toy 5\n")
    wrong = evsim("info", tmp_path / "bad.toy")
    assert wrong.code == 2
    assert "is no toy recording" in wrong.err


def test_a_recipe_is_a_command(evsim: Callable[..., Outcome], tmp_path: Path) -> None:
    write_frames(tmp_path / "data" / "shelf-1")
    write_frames(tmp_path / "data" / "other")
    done = evsim("simulate", "toy_shelf", tmp_path / "data", "-o", tmp_path / "run")
    assert done.code == 0, done.err
    assert [path.name for path in (tmp_path / "run").glob("*.h5")] == ["shelf-1.h5"]
    again = evsim("simulate", "--config", tmp_path / "run" / "run.json", "--resume", "--json")
    assert json.loads(again.out)["skipped"] == 1


def test_a_pixel_model_is_a_value_of_sensor_model(evsim: Callable[..., Outcome], tmp_path: Path) -> None:
    frames = write_frames(tmp_path / "frames", count=2)
    sets = [
        word
        for field in ("sensor.model=toy", "sensor.step_dn=20", "isp.variant=none")
        for word in ("--set", field)
    ]
    done = evsim(
        "simulate", "video", frames, "-o", tmp_path / "a.h5", "--preset", "ideal", "--factor", 1, *sets
    )
    assert done.code == 0, done.err
    before, after = (cv2.imread(str(frames / f"00{k}.png"), 0).astype(int) for k in (0, 1))
    with open_events(tmp_path / "a.h5") as recording:
        assert len(recording) == np.count_nonzero(np.abs(after - before) >= 20)


def write_recording(path: Path, images: int = 9) -> Path:
    """Events whose ON counts are the brightness that the images gain."""
    rng = np.random.default_rng(0)
    with create_events(path, 16, 12) as writer:
        for k in range(images):
            t = np.sort(rng.integers(1000 * k + 1, 1000 * (k + 1), 60 + 40 * (k % 3)))
            x, y = rng.integers(0, 16, len(t)), rng.integers(0, 12, len(t))
            p = rng.integers(0, 2, len(t)).astype(np.uint8)
            writer.append(Events(t, x.astype(np.uint16), y.astype(np.uint16), p, 16, 12))
            writer.append_image(rng.integers(0, 255, (12, 16), np.uint8), 1000.0 * (k + 1))
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread for torch: sums of two are rounded otherwise, and a fork has none of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_a_network_on_event_lists_trains_in_pieces_is_killed_and_resumed(
    evsim: Callable[..., Outcome],
    exit_code_of_fork: Callable[[Callable[[], object]], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording = write_recording(tmp_path / "a.h5", images=17)
    options = [recording, "--config", "short", "--workers", 2, "--set", "training.checkpoint_every=3"]
    done = evsim("train", "toy_leak", *options, "-o", tmp_path / "whole")
    assert done.code == 0, done.err
    write = Recorder.write

    def write_and_die(self: Recorder, step: int, *rest: Any) -> None:
        write(self, step, *rest)
        if step == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "write", write_and_die)
        died = exit_code_of_fork(lambda: evsim("train", "toy_leak", *options, "-o", tmp_path / "killed"))
    assert died == -signal.SIGKILL
    assert "\n4,1,train" in (tmp_path / "killed" / "metrics.csv").read_text()
    resumed = evsim("train", "toy_leak", "--resume", "-o", tmp_path / "killed")
    assert resumed.code == 0, resumed.err
    for name in ("last.safetensors", "metrics.csv", "state.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    with (tmp_path / "whole" / "metrics.csv").open() as file:
        losses = [float(row["value"]) for row in csv.DictReader(file) if row["metric"] == "loss"]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    made = evsim(
        *("reconstruct", recording, "-o", tmp_path / "video.npy", "--network", "toy_leak"),
        *("--weights", tmp_path / "whole" / "last.safetensors"),
    )
    assert made.code == 0, made.err
    assert np.load(tmp_path / "video.npy").shape == (16, 12, 16)


@pytest.fixture
def interpolator(evsim: Callable[..., Outcome], tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """Options that choose the interpolator with its two weight files; the SHA-256 of both."""
    network = save_network("toy_fade", tmp_path / "fade.safetensors")
    flow = save_network("toy_shift", tmp_path / "shift.safetensors")
    fields = ["upsample.method=toy_fade", f"upsample.weights={network}", f"upsample.part_weights.flow={flow}"]
    return [word for field in fields for word in ("--set", field)], {
        "network": file_sha256(network),
        "flow": file_sha256(flow),
    }


def test_an_interpolator_upsamples(
    evsim: Callable[..., Outcome], interpolator: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    frames = write_frames(tmp_path / "frames")
    done = evsim("upsample", frames, "-o", tmp_path / "more", "--factor", 2, *interpolator[0])
    assert done.code == 0, done.err
    made = [cv2.imread(str(path), 0) for path in sorted((tmp_path / "more").glob("*.png"))]
    assert len(made) == 5
    # Half way, both frames have moved by half of the shift and agree.
    np.testing.assert_array_equal(made[1], np.roll(made[0], SHIFT // 2, axis=1))


def test_an_interpolator_is_part_of_a_simulation_and_of_its_record(
    evsim: Callable[..., Outcome], interpolator: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    write_frames(tmp_path / "data" / "a")
    options, files = interpolator
    done = evsim(
        "simulate", "folders", tmp_path / "data", "-o", tmp_path / "run", "--preset", "ideal", *options
    )
    assert done.code == 0, done.err
    (line,) = map(json.loads, (tmp_path / "run" / "manifest.jsonl").read_text().splitlines())
    assert sorted(line["files"].values()) == sorted(files.values())
    assert line["frames"] == 17


def test_an_interpolator_is_scored_on_frames_left_out(
    evsim: Callable[..., Outcome], interpolator: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    write_frames(tmp_path / "data" / "clip", count=5)
    scored = {}
    for name, own in {
        "toy_fade": [
            *("--weights", tmp_path / "fade.safetensors"),
            *("--set", f"options.flow_weights={tmp_path / 'shift.safetensors'}"),
        ],
        "blend": [],
    }.items():
        data = ("--data", tmp_path / "data" / "clip", "--inserted", 2, "--metrics", "mse")
        done = evsim("evaluate", name, *own, *data, "--json")
        assert done.code == 0, done.err
        scored[name] = json.loads(done.out)
    means = {name: found["datasets"][0]["means"]["mse"] for name, found in scored.items()}
    assert means["toy_fade"] < 1e-12
    frames = [np.roll(texture(32, 24), SHIFT * k, axis=1) / 255 for k in range(5)]
    errors = [np.square((frames[k - 1] + frames[k + 1]) / 2 - frames[k]).mean() for k in (1, 3)]
    assert means["blend"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert sorted(scored["toy_fade"]["loaded_files"].values()) == sorted(interpolator[1].values())
    assert scored["toy_fade"]["sequences"][0]["unscored"] == {"inputs of the interpolation": 3}


def test_a_deblurrer_takes_images_of_another_size_than_the_sensor(
    evsim: Callable[..., Outcome], tmp_path: Path
) -> None:
    from evsim.models.prediction.parts import make_predictor
    from evsim.models.prediction.scene import Scene

    weights = save_network("toy_sharpen", tmp_path / "sharpen.safetensors", threshold=0.5)
    # One pixel of the sensor, four of the image, brightens by one threshold in the middle of the exposure.
    events = Events(
        *(
            np.array([value], kind)
            for value, kind in ((5000, np.int64), (3, np.uint16), (2, np.uint16), (1, np.uint8))
        ),
        width=8,
        height=6,
    )
    with create_events(tmp_path / "a.h5", 8, 6) as writer:
        writer.append(events)
        writer.append_image(np.full((12, 16), 100, np.uint8), 10_000.0, exposure_us=10_000.0, kind="blurry")
    predictor = make_predictor("toy_sharpen", weights=weights)
    with open_events(tmp_path / "a.h5") as recording:
        begin, end = predictor.images(Scene(recording=recording), np.array([0.0, 10_000.0]))
    assert begin.shape == (12, 16)
    np.testing.assert_allclose(end[4:6, 6:8] / begin[4:6, 6:8], np.exp(0.5), rtol=1e-5)
    rest = np.ones((12, 16), bool)
    rest[4:6, 6:8] = False
    np.testing.assert_allclose(begin[rest], 100 / 255, rtol=1e-6)
    np.testing.assert_allclose(end[rest], 100 / 255, rtol=1e-6)


def test_a_flow_estimator_finds_the_shift(evsim: Callable[..., Outcome], tmp_path: Path) -> None:
    from evsim.models.prediction.parts import make_flow_estimator

    weights = save_network("toy_shift", tmp_path / "shift.safetensors")
    image = texture(32, 24).astype(np.float32) / 255
    flow = make_flow_estimator("toy_shift", weights=weights).flow(image, np.roll(image, (2, 3), (0, 1)))
    assert flow.shape == (24, 32, 2)
    assert np.unique(flow.reshape(-1, 2), axis=0).tolist() == [[3.0, 2.0]]


def test_a_fresh_process_lists_what_the_package_adds(site: Path, tmp_path: Path) -> None:
    """Nothing of what makes the other tests' process special is needed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    command = [sys.executable, "-m", "evsim", "simulate", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert "toy_shelf" in done.stdout, done.stderr
