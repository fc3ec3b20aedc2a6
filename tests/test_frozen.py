"""Files that earlier versions wrote open for ever, and what earlier versions began can be finished."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from evsim import models
from evsim.cli.main import main
from evsim.formats import FORMATS, check, open_events

FROZEN = Path(__file__).resolve().parent / "frozen"
VALUES: dict[str, Any] = json.loads((FROZEN / "values.json").read_text())
LAYOUTS = {f"layouts/{name}": values for name, values in VALUES["layouts"].items()} | VALUES["packed"]
STAMP_NS = 1_600_000_000_000_000_000
WEIGHTS_DIFFER_BY = 1e-4
"""Resumed from undisturbed weights, on another processor; on the one that wrote them they are equal."""

Evsim = Callable[..., str]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def evsim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Evsim:
    """Call `evsim`, which must succeed; what it printed."""

    def call(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["evsim", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        streams = capsys.readouterr()
        assert not stop.value.code, streams.err
        return streams.out

    return call


@pytest.fixture
def thaw(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a frozen file or folder, HDF5 unpacked, every time of change as it was."""

    def copy(name: str) -> Path:
        source, target = FROZEN / name, tmp_path / "thawed" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.is_file():
            shutil.copy(source, target)
        else:
            shutil.copy(packed(source), packed(target))
        for path in (target, *target.rglob("*")) if target.is_dir() else (packed(target), target):
            if path.name.endswith((".h5.gz", ".hdf5.gz")) and path.is_file():
                path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
                path.unlink()
        for path in (target, *target.rglob("*")):
            os.utime(path, ns=(STAMP_NS, STAMP_NS))
        return target

    return copy


def packed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def digest(array: Any, kind: str) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).astype(kind).tobytes()).hexdigest()


def assert_holds(path: Path, values: dict[str, Any]) -> None:
    """The file at `path` has the columns and images that were written."""
    options = dict(values["options"])
    if "size" in options:
        options["size"] = tuple(options["size"])
    with open_events(path, **options) as recording:
        events, images = recording.events(), list(recording.images())
        assert [recording.width, recording.height] == values["size"]
        assert (recording.t_origin, len(recording)) == (values["t_origin"], values["events"])
    pixel = "<f4" if events.x.dtype.kind == "f" else "<u2"
    found = {"t": digest(events.t, "<i8"), "x": digest(events.x, pixel), "y": digest(events.y, pixel)}
    found |= {"p": digest(events.p, "u1")}
    assert found == {name: values[name] for name in "txyp"}
    assert (None if events.label is None else digest(events.label, "u1")) == values["label"]
    assert [int(image.image.sum(dtype=np.int64)) for image in images] == values["image_sums"]
    assert [digest(image.image, "u1") for image in images] == values["images"]
    assert [image.t_us for image in images] == values["image_times"]
    assert check(path, **options) == []


# Layouts


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_a_layout_opens(name: str, thaw: Callable[[str], Path]) -> None:
    assert_holds(thaw(name), LAYOUTS[name])


def test_every_format_that_is_written_is_frozen(thaw: Callable[[str], Path]) -> None:
    found = set()
    for name, values in VALUES["layouts"].items():
        options = {key: tuple(v) if key == "size" else v for key, v in values["options"].items()}
        with open_events(thaw(f"layouts/{name}"), **options) as recording:
            found.add(recording.format)
    assert found == {name for name, format in FORMATS.items() if format.create is not None}


@pytest.mark.parametrize(
    "name", ["native_full.h5", "native_blosc.hdf5", "store.zarr", "full.npz", "rled_full"]
)
def test_a_layout_says_what_its_content_came_from(name: str, thaw: Callable[[str], Path]) -> None:
    with open_events(thaw(f"layouts/{name}")) as recording:
        told = dict(recording.attributes)
    config = told["config"]
    config = json.loads(config) if isinstance(config, (str, bytes)) else config
    assert (int(told["seed"]), config) == (7, {"clip": "a/b", "sensor": {"contrast_threshold_on": 0.2}})


@pytest.mark.parametrize("name", ["layouts/native_full.h5", "layouts/rled_full", "packed/memmap/s0"])
def test_windows_of_images_are_read(name: str, thaw: Callable[[str], Path]) -> None:
    with open_events(thaw(name)) as recording:
        events, windows, times = recording.events(), recording.event_windows, recording.image_times()
    assert windows is not None
    ends = np.searchsorted(events.t, times, "right")
    assert windows.tolist() == np.stack([np.concatenate([[0], ends[:-1]]), ends], 1).tolist()


def test_a_sample_has_its_exposures_and_sharp_images(thaw: Callable[[str], Path]) -> None:
    with open_events(thaw("layouts/sample.gem.npz")) as recording:
        sample: Any = recording
        assert sample.exposures == ((10_000, 30_000), (60_000, 90_000))
        sharp = [digest(image.image, "u1") for image in sample.sharp_images()]
    assert sharp == VALUES["layouts"]["sample.gem.npz"]["sharp"]


@pytest.mark.parametrize("name", ["camera.raw", "comment.txt", "dvs.v2e.h5", "native_long.h5"])
def test_an_index_beside_a_large_file_is_used(name: str, thaw: Callable[[str], Path], tmp_path: Path) -> None:
    large, beside = tmp_path / name, tmp_path / f".{name}.evsim-index.npz"
    pad(thaw(f"layouts/{name}"), large)
    shutil.copy(FROZEN / "indexes" / f"{name}.evsim-index.npz", beside)
    os.utime(beside, ns=(STAMP_NS, STAMP_NS))
    values = VALUES["layouts"][name]
    with open_events(large) as recording:
        part, whole = recording.between(10_000, 60_000_000), recording.events()
    assert digest(whole.t, "<i8") == values["t"]
    assert part.t.tolist() == [t for t in whole.t.tolist() if 10_000 <= t < 60_000_000]
    # One that is not taken is written anew.
    assert beside.stat().st_mtime_ns == STAMP_NS
    assert beside.read_bytes() == (FROZEN / "indexes" / f"{name}.evsim-index.npz").read_bytes()


def pad(source: Path, target: Path, size: int = 34 << 20) -> None:
    """The file as it was when its index was made: words that repeat the time, comments, or nothing."""
    content = source.read_bytes()
    missing = size - len(content)
    if target.suffix == ".raw":
        words = np.frombuffer(content.partition(b"% end\n")[2], "<u4")
        content += np.repeat(words[words >> 28 == 8][-1:], missing // 4).tobytes()
    elif target.suffix == ".txt":
        content += (b"#" * 63 + b"\n") * (missing // 64)
    target.write_bytes(content)
    if target.suffix == ".h5":
        os.truncate(target, size)
    os.utime(target, ns=(STAMP_NS, STAMP_NS))


# Networks


def tensors_of(path: Path) -> dict[str, Any]:
    return {
        name: [list(tensor.shape), digest(tensor.numpy(), "<f4")] for name, tensor in load_file(path).items()
    }


@pytest.mark.parametrize("name", sorted(VALUES["weights"]))
def test_weights_load(name: str, evsim: Evsim) -> None:
    values = VALUES["weights"][name]
    network: Any = models.load(values["network"], FROZEN / "weights" / name)
    state = {key: [list(v.shape), digest(v.numpy(), "<f4")] for key, v in network.state_dict().items()}
    assert state == values["tensors"]
    for field, value in values["config"].items():
        found = getattr(network.config, field)
        assert (list(found) if isinstance(found, tuple) else found) == value
    assert (
        json.loads(evsim("weights", "check", FROZEN / "weights" / name, "--json"))["network"]
        == values["network"]
    )


def assert_near(found: Path, wanted: Path) -> None:
    """Equal weights, but for how processors round."""
    one, other = load_file(found), load_file(wanted)
    assert one.keys() == other.keys()
    assert max(float((one[key] - other[key]).abs().max()) for key in one) < WEIGHTS_DIFFER_BY


def assert_same_rows(found: Path, wanted: Path) -> None:
    one, other = (list(csv.DictReader(path.read_text().splitlines())) for path in (found, wanted))
    names = ("step", "epoch", "phase", "metric")
    assert [[row[name] for name in names] for row in one] == [[row[name] for name in names] for row in other]
    values = [[float(row["value"]) for row in rows] for rows in (one, other)]
    assert values[0] == pytest.approx(values[1], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("kind", ["recorded", "simulated"])
def test_training_goes_on(kind: str, evsim: Evsim, thaw: Callable[[str], Path]) -> None:
    folder, clips = thaw("training"), thaw("inputs/clips")
    for name, tensors in VALUES["training"][kind].items():
        assert tensors_of(folder / kind / name) == tensors
        assert models.load("firenet", folder / kind / name).name == "firenet"
    recorded = [*(folder / f"data/train/{name}.npz" for name in "ab")]
    recorded += ["--validation", folder / "data/val/c.npz"]
    moved = recorded if kind == "recorded" else [clips / "train"]
    evsim("train", "firenet", *moved, "--resume", "-o", folder / kind)
    assert_near(folder / kind / "last.safetensors", folder / f"{kind}_undisturbed.safetensors")
    assert_same_rows(folder / kind / "metrics.csv", folder / f"{kind}_undisturbed.csv")
    done = json.loads(
        evsim("train", "firenet", *moved, "--resume", "-o", folder / kind, "--steps", 8, "--json")
    )
    assert (done["ended"], done["steps"]) == ("finished", 8)


@pytest.mark.parametrize("kind", ["default", "compat"])
def test_a_fit_goes_on(kind: str, evsim: Evsim, thaw: Callable[[str], Path]) -> None:
    folder = thaw("fit")
    done = evsim(
        "train",
        "evinr",
        folder / "recording.npz",
        "--resume",
        "-o",
        folder / kind,
        "--device",
        "cpu",
        "--json",
    )
    assert json.loads(done)["steps"] == 8
    fitted, undisturbed = folder / kind / "evinr.safetensors", folder / f"{kind}_undisturbed.safetensors"
    assert tensors_of(undisturbed) == VALUES["fit"][kind]
    assert_near(fitted, undisturbed)
    assert_same_rows(folder / kind / "metrics.csv", folder / f"{kind}_undisturbed.csv")
    for weights in (fitted, undisturbed):
        images = folder / f"{weights.stem}.npy"
        words = [
            "reconstruct",
            folder / "recording.npz",
            "-o",
            images,
            "--network",
            "evinr",
            "--device",
            "cpu",
        ]
        evsim(*words, "--weights", weights)
    one, other = np.load(folder / "evinr.npy"), np.load(folder / f"{kind}_undisturbed.npy")
    assert one.shape == other.shape
    np.testing.assert_allclose(one, other, atol=1e-2)


# Runs


def assert_output(path: Path, values: dict[str, Any]) -> None:
    """A clip's file holds what an undisturbed run wrote for it."""
    with open_events(path) as recording:
        events, images = recording.events(), [image.image for image in recording.images()]
        config = json.loads(str(recording.attributes["config"]))
    assert events.label is not None
    kinds = {"t": "<i8", "x": "<u2", "y": "<u2", "p": "u1", "label": "u1"}
    assert len(events) == values["events"]
    assert {name: digest(getattr(events, name), kind) for name, kind in kinds.items()} == values["columns"]
    assert [digest(image, "u1") for image in images] == values["images"]
    assert config["sensor"]["contrast_threshold_on"] == values["threshold"]


@pytest.mark.parametrize("way", ["config", "options", "verify", "shard"])
def test_a_run_is_finished(way: str, evsim: Evsim, thaw: Callable[[str], Path]) -> None:
    clips, run = thaw("inputs/clips"), thaw("runs/shards" if way == "shard" else "runs/killed")
    first = (run / "train/a.h5").read_bytes()
    assert hashlib.sha256(first).hexdigest() == VALUES["runs"]["train/a"]["sha256"]
    if way in ("config", "verify"):
        # The data set was moved.
        tree = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**tree, "root": str(clips)}))
        words = ["simulate", "--config", run / "run.json"]
    else:
        words = ["simulate", "folders", clips, "-o", run, "--preset", "v2e-noisy", "--seed", 11]
        words += ["--set", "upsample.method=none", "--set", "sensor.shot_noise_rate_hz=20"]
        words += ["--set", "sensor.contrast_threshold_on=uniform(0.15,0.2)"]
    if way == "verify":
        for path in clips.rglob("*"):
            os.utime(path)
        words.append("--verify")
    if way == "shard":
        words += ["--shard", "2/2"]
    done = json.loads(evsim(*words, "--resume", "--json"))
    assert (done["done"], done["skipped"], done["failed"]) == (1, 0 if way == "shard" else 1, 0)
    assert (run / "train/a.h5").read_bytes() == first
    for name in ("train/a", "train/b"):
        assert_output(run / f"{name}.h5", VALUES["runs"][name])
    if way == "config":
        assert json.loads(evsim(*words, "--resume", "--json"))["skipped"] == 2
        pixel = json.loads(
            evsim("view", run / "train/b.h5", "-o", run / "pixel.png", "--pixel", "5,5", "--json")
        )
        assert pixel


def test_a_finished_run_is_packed(evsim: Evsim, thaw: Callable[[str], Path], tmp_path: Path) -> None:
    run = thaw("runs/killed")
    packed = json.loads(evsim("pack", "gopro", run, "-o", tmp_path / "tree", "--partial", "--json"))
    assert (packed["clips"], packed["intervals"]) == (1, 4)


# Stages


def test_written_configurations_give_the_same_again(
    evsim: Evsim, thaw: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages, clips = thaw("stages"), thaw("inputs/clips")
    clip = clips / "train/a"
    evsim("simulate", "video", clip, "-o", stages / "again.npz", "--config", stages / "single.config.yaml")
    with np.load(stages / "again.npz") as found:
        kinds = {"t": "<i8", "x": "<u2", "y": "<u2", "p": "u1"}
        wanted = VALUES["stages"]["single"]["events"]
        assert {name: digest(found[name], kind) for name, kind in kinds.items()} == wanted
    evsim("unprocess", clip, "-o", stages / "raw_again", "--config", stages / "raw.config.yaml")
    evsim("upsample", clip, "-o", stages / "dense_again", "--config", stages / "dense.config.yaml")
    recording = thaw("packed/memmap/s0")
    thaw("weights")
    monkeypatch.chdir(stages.parent)
    words = ["reconstruct", recording, "-o", stages / "rebuilt_again", "--device", "cpu"]
    evsim(*words, "--config", stages / "rebuilt.config.yaml")
    for name, images, levels in (("raw", 5, 1), ("dense", 9, 3), ("rebuilt", 3, 2)):
        pictures = sorted((stages / name).glob("*.png"))
        assert len(pictures) == images
        for picture in pictures:
            one, other = (
                cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(int)
                for path in (picture, stages / f"{name}_again" / picture.name)
            )
            step = 257 if one.max() > 255 else 1
            assert np.abs(one - other).max() <= levels * step, picture


def test_frames_that_a_stage_wrote_are_read(
    evsim: Evsim, thaw: Callable[[str], Path], tmp_path: Path
) -> None:
    stages = thaw("stages")
    words = [
        "simulate",
        "video",
        stages / "dense",
        "-o",
        tmp_path / "dense.h5",
        "--preset",
        "ideal",
        "--factor",
        1,
    ]
    done = json.loads(evsim(*words, "--json"))
    assert (done["source_frames"], done["duration_s"]) == (9, pytest.approx(0.08))


def test_reconstructions_are_scored(evsim: Evsim, thaw: Callable[[str], Path]) -> None:
    stages, recording = thaw("stages"), thaw("packed/memmap/s0")
    recording.rename(recording.with_name("recording"))
    words = ["evaluate", stages / "scores/std/frozen", "--data", recording.with_name("recording")]
    found = json.loads(evsim(*words, "--method", "firenet", "--metrics", "mse", "--json"))
    rows = list(csv.DictReader((stages / "scores/std/firenet.frames.csv").read_text().splitlines()))
    wanted = np.mean([float(row["mse"]) for row in rows])
    # The images were rounded to 8 bits after they were scored.
    assert [one["means"]["mse"] for one in found["datasets"]] == [pytest.approx(wanted, abs=2e-3)]
    assert len(rows) == 3


def test_a_packed_tree_opens(thaw: Callable[[str], Path]) -> None:
    folder = thaw("stages/tree/train_x2interpolated/EVS/a")
    frames = [np.load(path) for path in sorted(folder.glob("*.npy"))]
    (folder / "fps.txt").write_text("480\n")
    with open_events(folder) as recording:
        events = recording.events()
    assert (len(frames), len(events)) == (8, sum(np.count_nonzero(frame) for frame in frames))
    assert int(events.p.sum()) == sum(np.count_nonzero(frame > 0) for frame in frames)


def test_a_list_of_memmap_folders_is_learned_from(
    evsim: Evsim, thaw: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, settings = thaw("packed/memmap"), thaw("training/settings.yaml")
    for name in ("train_memmap.txt", "val_memmap.txt"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("/srv/frozen/packed/memmap", str(folder)))
    words = ["train", "firenet", folder / "train_memmap.txt", "--validation", folder / "val_memmap.txt"]
    words += ["--config", settings, "--steps", 1, "--device", "cpu"]
    plan = json.loads(evsim(*words, "--dry-run", "--json"))
    assert (plan["train_samples"], plan["validation_samples"]) == (2, 1)


def test_packed_events_are_fitted(evsim: Evsim, thaw: Callable[[str], Path], tmp_path: Path) -> None:
    folder = thaw("packed/evinr")
    words = [
        "reconstruct",
        folder / "events.npy",
        "-o",
        tmp_path / "images.npy",
        "--config",
        folder / "fit.yaml",
    ]
    words += ["--unit", "s", "--size", "24x16", "--times", folder / "images.txt", "--device", "cpu"]
    evsim(*words, "--iterations", 1, "--set", "fit.hidden_width=12", "--set", "fit.neck_width=8")
    assert np.load(tmp_path / "images.npy").shape == (4, 16, 24)
