"""How the files of this folder were written; see README.md. Kept to be read, not to be run again.

    python tests/frozen/write.py

It refuses to touch a folder that is there. New files belong into a new folder, written by a script of their
own. Everything is made under /srv/frozen, so that no path of the writer's machine is recorded; the machine's
name is replaced. values.json holds what the tests expect, worked out from the arrays here and never from a
file read back.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file

from evsim import models
from evsim.cli.conventions import Progress
from evsim.cli.main import main as evsim_main
from evsim.events import Events
from evsim.formats import create_events, open_events

HERE = Path(__file__).resolve().parent
SCRATCH = Path("/srv/frozen")
FOLDERS = ("inputs", "layouts", "packed", "weights", "training", "fit", "runs", "stages", "indexes")
WIDTH, HEIGHT, EVENTS, ORIGIN = 24, 16, 300, 1_600_000_000_000_000
IMAGE_TIMES_US = (20_000, 40_000, 60_000, 80_000)
STAMP_NS = 1_600_000_000_000_000_000
"""Time of change of every input: runs and indexes compare it."""
LARGE = 34 << 20
"""Size to which files are padded for their index: smaller ones have none."""

Values = dict[str, Any]


def digest(array: Any, kind: str) -> str:
    """SHA-256 of the values as little-endian `kind`, row by row."""
    return hashlib.sha256(np.ascontiguousarray(array).astype(kind).tobytes()).hexdigest()


def evsim(*words: object) -> None:
    """One command, in this process."""
    with mock.patch.object(sys, "argv", ["evsim", *map(str, words)]):
        try:
            evsim_main()
        except SystemExit as stop:
            if stop.code not in (0, None, 143):
                raise


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Facts of the machine replaced by words that say nothing."""
    with (
        mock.patch("socket.gethostname", return_value="machine"),
        mock.patch("platform.platform", return_value="Linux"),
    ):
        yield


# What is in the files


def make_events(seed: int, *, t_origin: int = 0, labels: bool = False, subpixel: bool = False) -> Events:
    """Events in order of time, several at some times, one at the time of every image."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 100_000, EVENTS))
    t[[60, 120, 180, 240]] = IMAGE_TIMES_US
    t = np.sort(t).astype(np.int64)
    if subpixel:
        x = rng.uniform(0, WIDTH - 1, EVENTS).astype(np.float32)
        y = rng.uniform(0, HEIGHT - 1, EVENTS).astype(np.float32)
    else:
        x = rng.integers(0, WIDTH, EVENTS).astype(np.uint16)
        y = rng.integers(0, HEIGHT, EVENTS).astype(np.uint16)
    p = rng.integers(0, 2, EVENTS).astype(np.uint8)
    label = rng.integers(0, 3, EVENTS).astype(np.uint8) if labels else None
    return Events(t, x, y, p, WIDTH, HEIGHT, t_origin, label)


def make_images(seed: int, *, colour: bool) -> list[NDArray[np.uint8]]:
    """One image at every time of IMAGE_TIMES_US, RGB or grey."""
    shape = (len(IMAGE_TIMES_US), HEIGHT, WIDTH, *([3] if colour else []))
    return list(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RLED's grey of an RGB image, by its published formula."""
    if image.ndim == 2:
        return image
    r, g, b = (image[..., k].astype(np.int64) for k in range(3))
    return ((9798 * r + 19235 * g + 3735 * b + 16384) >> 15).astype(np.uint8)


def expected(events: Events, images: list[NDArray[np.uint8]] | None = None, **options: Any) -> Values:
    """What a reader must find. options: size and unit with which it must be opened."""
    pixel = "<f4" if events.x.dtype.kind == "f" else "<u2"
    return {
        "options": options,
        "size": [events.width, events.height],
        "t_origin": events.t_origin,
        "events": len(events),
        "t": digest(events.t, "<i8"),
        "x": digest(events.x, pixel),
        "y": digest(events.y, pixel),
        "p": digest(events.p, "u1"),
        "label": None if events.label is None else digest(events.label, "u1"),
        "images": [digest(image, "u1") for image in images or ()],
        "image_sums": [int(image.sum(dtype=np.int64)) for image in images or ()],
        "image_times": list(IMAGE_TIMES_US) if images else [],
    }


def last_polarities(events: Events, edges: list[int]) -> Events:
    """The last event of each pixel in each interval (a, b], at its end, row by row."""
    rows = []
    for start, end in itertools.pairwise(edges):
        frame = np.zeros((HEIGHT, WIDTH), np.int8)
        for t, x, y, p in zip(events.t, events.x, events.y, events.p):
            if start < t <= end:
                frame[y, x] = 1 if p else -1
        rows += [(end, x, y, frame[y, x] > 0) for y, x in zip(*np.nonzero(frame))]
    t, x, y, p = (np.array(column) for column in zip(*rows))
    return Events(
        t.astype(np.int64), x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8), WIDTH, HEIGHT
    )


# The layouts


def write_one(
    path: Path, events: Events, images: list[NDArray[np.uint8]] | None = None, **options: Any
) -> None:
    """Events in two parts and the images between them, as a simulator writes."""
    given = {"t_origin": events.t_origin, "labels": events.label is not None, **options}
    with create_events(path, events.width, events.height, **given) as writer:
        half = len(events) // 2
        writer.append(events[:half])
        writer.append(events[half:])
        for image, t_us in zip(images or (), IMAGE_TIMES_US):
            writer.append_image(image, t_us)


def write_layouts(root: Path) -> Values:
    """One file or folder of everything that evsim writes."""
    plain, labelled = make_events(1), make_events(2, labels=True, t_origin=ORIGIN)
    dated, between = make_events(3, t_origin=ORIGIN), make_events(4, subpixel=True, t_origin=ORIGIN)
    colour, dull = make_images(5, colour=True), make_images(6, colour=False)
    told = {"seed": 7, "config": {"sensor": {"contrast_threshold_on": 0.2}, "clip": "a/b"}}
    size = {"size": [WIDTH, HEIGHT]}
    root.mkdir()
    values: Values = {}

    def add(name: str, events: Events, images: Any = None, wanted: Any = None, **options: Any) -> None:
        opening = {key: options.pop(key) for key in ("opened_size", "opened_unit") if key in options}
        write_one(root / name, events, images, **options)
        found, shown = wanted or (events, images)
        opening = {key.removeprefix("opened_"): value for key, value in opening.items()}
        values[name] = expected(found, shown, **opening)

    add("native.h5", plain)
    # Without ms_to_idx, as all that span more than 4.6 hours.
    far = make_events(9)
    add("native_long.h5", Events(far.t * 200_000, far.x, far.y, far.p, WIDTH, HEIGHT))
    add("native_full.h5", labelled, colour, event_windows="interval", **told)
    add("native_blosc.hdf5", labelled, dull, compression="blosc", **told)
    add("rled", plain)
    add(
        "rled_full",
        dated,
        colour,
        (dated, [grey(image) for image in colour]),
        event_windows="interval",
        **told,
    )
    add("store.zarr", labelled, colour, **told)
    add("plain.npz", plain)
    add("full.npz", labelled, colour, **told)
    add("subpixel.npz", between, dull)
    add("rows_us.npy", plain, opened_size=size["size"])
    add("rows_s.npy", plain, opened_size=size["size"], opened_unit="s", unit="s")
    add("rows_subpixel.npy", make_events(8, subpixel=True), opened_size=size["size"])
    add("comment.txt", dated)
    add("comment.txt.gz", dated)
    add("size.txt", plain, header="size")
    add("bare.txt", plain, header="none", opened_size=size["size"])
    add("subpixel.txt", between)
    add("dvs.v2e.txt", dated)
    add("dvs.v2e.h5", dated, dull)
    add("sequence.evreal", dated, dull)
    add("camera.dsec.h5", dated)
    add("camera_blosc.dsec.h5", dated, compression="blosc")
    add("camera.raw", dated)
    add("camera.dat", dated)
    add("frames.timelens", between, colour)
    add("gaps.timelens", plain, gap_us=25_000)
    add("signed.timelens", plain, dull, signed=True)
    inside = plain[(plain.t > IMAGE_TIMES_US[0]) & (plain.t <= IMAGE_TIMES_US[-1])]
    add("pairs.timelens", plain, dull, (inside, dull), pairing="sim2real")
    edges = [*range(0, 100_001, 10_000)]
    later = plain[plain.t > 0]
    add("edges.intervals", later, None, (last_polarities(later, edges), None), edges_us=edges)
    add("regular.intervals", later, None, (last_polarities(later, edges), None), interval_us=10_000)
    exposures = ((10_000, 30_000), (60_000, 90_000))
    frames = {"sharp_images": np.stack(colour), "sharp_times": np.array(IMAGE_TIMES_US, np.int64)}
    write_one(root / "sample.gem.npz", dated, exposures=exposures, blurry=colour[:2], **frames)
    values["sample.gem.npz"] = {**expected(dated, colour[:2]), "image_times": [30_000, 90_000]}
    values["sample.gem.npz"]["sharp"] = [digest(image, "u1") for image in colour]
    write_one(root / "bare.gem.npz", between, exposures=exposures)
    values["bare.gem.npz"] = expected(between, size=[WIDTH, HEIGHT])
    return values


def write_packed() -> Values:
    """`pack rled --memmap` of three sequences with its lists, and `pack evinr`."""
    values: Values = {}
    for number in range(3):
        events, images = make_events(20 + number), make_images(30 + number, colour=False)
        write_one(Path(f"sequences/s{number}.h5"), events, images, event_windows="interval")
        values[f"packed/memmap/s{number}"] = expected(events, images)
        if number == 0:
            write_one(Path("recording.h5"), events, images)
            values["packed/evinr/events.npy"] = expected(events, size=[WIDTH, HEIGHT], unit="s")
    evsim("pack", "rled", "sequences", "-o", "packed/memmap", "--memmap")
    evsim("pack", "evinr", "recording.h5", "-o", "packed/evinr")
    return values


# Networks


def weights_of(path: Path) -> Values:
    """Shape and digest of every tensor."""
    return {
        name: [list(tensor.shape), digest(tensor.numpy(), "<f4")] for name, tensor in load_file(path).items()
    }


def write_weights(root: Path) -> Values:
    """One file of every network in the registry, with what it computes for a fixed input."""
    kinds: dict[str, tuple[str, Values]] = {
        "firenet.safetensors": ("firenet", {"bins": 3, "channels": 4}),
        "firenet_normalized.safetensors": ("firenet", {"bins": 5, "channels": 4, "normalize_voxels": True}),
    }
    small = {"width": 8, "height": 6, "hidden_layers": 1, "hidden_width": 12, "neck_width": 8}
    kinds["evinr.safetensors"] = ("evinr", {**small, "window_us": (0.0, 1000.0)})
    kinds["evinr_color.safetensors"] = ("evinr", {**small, "window_us": (5.0, 9.0), "color": True})
    kinds["evinr_upright.safetensors"] = (
        "evinr",
        {**small, "width": 6, "height": 8, "window_us": (0.0, 1000.0), "transposed": True},
    )
    root.mkdir()
    values: Values = {}
    for seed, (name, (network, hyper)) in enumerate(kinds.items()):
        torch.manual_seed(seed)
        made = models.create(network, **hyper).eval()
        models.save(made, root / name)
        state = {key: value.detach() for key, value in made.state_dict().items()}
        values[name] = {
            "network": network,
            "config": hyper,
            "tensors": {
                key: [list(value.shape), digest(value.numpy(), "<f4")] for key, value in state.items()
            },
        }
    return values


def stop_at(step: int) -> type[Progress]:
    """A progress bar that ends the run with SIGTERM after a step."""

    class Stopping(Progress):
        def __call__(self, done: int, total: int | None, note: str = "") -> None:
            if done == step:
                os.kill(os.getpid(), signal.SIGTERM)

    return Stopping


def write_training(root: Path, clips: Path) -> Values:
    """Runs of six steps stopped after four, the data they learn, and the weights of undisturbed ones."""
    root.mkdir()
    for number, name in enumerate(("train/a.npz", "train/b.npz", "val/c.npz")):
        write_one(root / "data" / name, make_events(40 + number), make_images(50 + number, colour=False))
    settings = {
        "network": {"channels": 4, "bins": 3},
        "data": {"sequences": {"length": 3, "augmentation": {"crop": [16, 16]}}},
        "training": {
            "steps": 6,
            "batch_size": 2,
            "learning_rate": 0.001,
            "optimizer": "adamw",
            "schedule": "cosine",
            "log_every": 1,
            "validate_every": 2,
            "checkpoint_every": 2,
            "pictures": 1,
        },
    }
    (root / "settings.yaml").write_text(yaml.safe_dump(settings))
    recorded = [root / f"data/train/{name}.npz" for name in "ab"]
    recorded += ["--validation", root / "data/val/c.npz"]
    simulated = [clips / "train", "--simulate", "v2e-random", "--set", "data.simulation.upsample.method=none"]
    values: Values = {}
    for kind, data in (("recorded", recorded), ("simulated", simulated)):
        words = ["train", "firenet", *data, "--config", root / "settings.yaml", "--device", "cpu"]
        with mock.patch("evsim.cli.train.Progress", stop_at(4)):
            evsim(*words, "-o", root / kind)
        evsim(*words, "-o", f"whole_{kind}")
        shutil.rmtree(root / kind / "tensorboard", ignore_errors=True)
        shutil.copy(f"whole_{kind}/last.safetensors", root / f"{kind}_undisturbed.safetensors")
        shutil.copy(f"whole_{kind}/metrics.csv", root / f"{kind}_undisturbed.csv")
        values[kind] = {
            path.name: weights_of(path) for path in sorted(root.glob(f"{kind}/[bl]*.safetensors"))
        }
    return values


def write_fit(root: Path) -> Values:
    """EvINR fits of eight steps: one stopped after five, an undisturbed one, and the same with compat."""
    root.mkdir()
    events = make_events(60)
    write_one(root / "recording.npz", events, make_images(61, colour=False))
    fields = ("hidden_layers=1", "hidden_width=12", "neck_width=8", "train_resolution=6")
    words = ["train", "evinr", root / "recording.npz", "--device", "cpu", "--iterations", 8]
    words += [word for field in fields for word in ("--set", f"fit.{field}")]
    values: Values = {}
    for kind, extra in (("default", []), ("compat", ["--compat"])):
        with mock.patch("evsim.cli.fitting.Progress", stop_at(5)):
            evsim(*words, *extra, "-o", root / kind)
        evsim(*words, *extra, "-o", f"whole_{kind}")
        shutil.copy(f"whole_{kind}/evinr.safetensors", root / f"{kind}_undisturbed.safetensors")
        shutil.copy(f"whole_{kind}/metrics.csv", root / f"{kind}_undisturbed.csv")
        values[kind] = weights_of(root / f"{kind}_undisturbed.safetensors")
    return values


# Runs


def write_clips(root: Path) -> None:
    """Two clips of five PNG frames: a texture that moves, one in colour and one grey."""
    for seed, name in enumerate(("train/a", "train/b")):
        rng = np.random.default_rng(70 + seed)
        texture = rng.integers(20, 236, (HEIGHT, WIDTH + 8, 3)[: 3 if seed == 0 else 2], np.uint8)
        folder = root / name
        folder.mkdir(parents=True)
        for k in range(5):
            image = np.ascontiguousarray(texture[:, 2 * k : 2 * k + WIDTH])
            assert cv2.imwrite(str(folder / f"{k:03d}.png"), image)
        (folder / "fps.txt").write_text("50\n")
    set_times(root)


def set_times(root: Path) -> None:
    for path in (root, *root.rglob("*")):
        os.utime(path, ns=(STAMP_NS, STAMP_NS))


def digest_of_output(path: Path) -> Values:
    """What a run wrote for a clip: its events and images, and the configuration in the file."""
    with open_events(path) as recording:
        events, images = recording.events(), [image.image for image in recording.images()]
        config = json.loads(str(recording.attributes["config"]))
    assert events.label is not None
    return {
        "events": len(events),
        "columns": {
            name: digest(getattr(events, name), kind)
            for name, kind in (("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1"), ("label", "u1"))
        },
        "images": [digest(image, "u1") for image in images],
        "threshold": config["sensor"]["contrast_threshold_on"],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def write_runs(root: Path, clips: Path) -> Values:
    """A run killed after its first clip, and the first of two shards of the same run."""
    words = ["simulate", "folders", clips, "--preset", "v2e-noisy", "--seed", 11, "--threads", 1]
    words += ["--set", "upsample.method=none"]
    words += [
        "--set",
        "sensor.contrast_threshold_on=uniform(0.15,0.2)",
        "--set",
        "sensor.shot_noise_rate_hz=20",
    ]
    root.mkdir()
    evsim(*words, "-o", root / "killed")
    values = {name: digest_of_output(root / "killed" / f"{name}.h5") for name in ("train/a", "train/b")}
    # As SIGKILL leaves it while the second clip is being simulated.
    for suffix in (".h5", ".config.yaml"):
        (root / "killed" / f"train/b{suffix}").unlink()
    manifest = root / "killed" / "manifest.jsonl"
    first, second = manifest.read_text().splitlines(keepends=True)
    manifest.write_text(first + second[:40])
    run = json.loads((root / "killed" / "run.json").read_text())
    run["invocations"][0].update(ended=None, outcome="unfinished")
    (root / "killed" / "run.json").write_text(json.dumps(run, indent=1) + "\n")
    evsim(*words, "-o", root / "shards", "--shard", "1/2")
    for path in root.rglob(".lock*"):
        path.unlink()
    return values


# What single stages write and other verbs read


def write_stages(root: Path, clips: Path) -> Values:
    """Frames with their times, configurations that --config takes, a tree of reconstructions."""
    root.mkdir()
    evsim("upsample", clips / "train/a", "-o", root / "dense", "--factor", 2)
    evsim("unprocess", clips / "train/a", "-o", root / "raw", "--seed", 3)
    simulated = ["simulate", "video", clips / "train/a", "--preset", "v2e-noisy", "--threads", 1]
    simulated += ["--set", "upsample.method=none", "--set", "sensor.contrast_threshold_on=uniform(0.15,0.2)"]
    evsim(*simulated, "-o", root / "single.npz", "--seed", 5)
    weights = ["--weights", "weights/firenet.safetensors", "--device", "cpu"]
    evsim("reconstruct", "recording.h5", "-o", root / "rebuilt", *weights, "--normalize", "robust")
    evsim("evaluate", "firenet", *weights, "--data", "recording.h5", "--metrics", "mse", "-o", "scores")
    shutil.copytree("scores", root / "scores")
    evsim("simulate", "gopro", clips, "-o", "gopro_run", "--factor", 2, "--threads", 1)
    evsim("pack", "gopro", "gopro_run", "-o", root / "tree")
    with np.load(root / "single.npz") as stored:
        events = {
            name: digest(stored[name], kind)
            for name, kind in (("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1"))
        }
    return {"single": {"events": events}}


# Indexes kept beside large files


def enlarge(source: Path, target: Path) -> None:
    """A copy padded to LARGE with what readers pass over, of a fixed time of change."""
    content = source.read_bytes()
    missing = LARGE - len(content)
    if target.name.endswith(".raw"):
        words = np.frombuffer(content.partition(b"% end\n")[2], "<u4")
        last_upper_time = words[words >> 28 == 8][-1:]
        content += np.repeat(last_upper_time, missing // 4).tobytes()
    elif target.name.endswith(".txt"):
        content += (b"#" * 63 + b"\n") * (missing // 64)
    target.write_bytes(content)
    if target.name.endswith(".h5"):
        os.truncate(target, LARGE)
    os.utime(target, ns=(STAMP_NS, STAMP_NS))


def write_indexes(root: Path, layouts: Path) -> None:
    """The index of one large file of every reader that keeps one."""
    root.mkdir()
    for name in ("camera.raw", "comment.txt", "dvs.v2e.h5", "native_long.h5"):
        enlarge(layouts / name, Path(name))
        with open_events(name) as recording:
            recording.between(0, 50_000)
        shutil.move(f".{name}.evsim-index.npz", root / f"{name}.evsim-index.npz")


def pack_hdf5(root: Path) -> None:
    """HDF5 files reserve whole chunks of 65536 rows: gzip leaves a few kilobytes."""
    for path in [*root.rglob("*.h5"), *root.rglob("*.hdf5")]:
        with path.with_name(path.name + ".gz").open("wb") as plain:
            with gzip.GzipFile("", "wb", 9, plain, mtime=0) as packed:
                packed.write(path.read_bytes())
        path.unlink()


def write() -> None:
    """Everything, into new folders beside this script."""
    there = [name for name in (*FOLDERS, "values.json") if (HERE / name).exists()]
    if there:
        sys.exit(f"{', '.join(there)}: already there, and frozen files are never written again")
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    os.chdir(SCRATCH)
    torch.set_num_threads(1)
    clips = Path("inputs/clips")
    with elsewhere():
        write_clips(clips)
        values = {
            "layouts": write_layouts(Path("layouts")),
            "packed": write_packed(),
            "weights": write_weights(Path("weights")),
            "training": write_training(Path("training"), clips),
            "fit": write_fit(Path("fit")),
            "runs": write_runs(Path("runs"), clips),
            "stages": write_stages(Path("stages"), clips),
        }
        write_indexes(Path("indexes"), Path("layouts"))
    Path("values.json").write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
    for name in FOLDERS:
        pack_hdf5(Path(name))
        shutil.copytree(name, HERE / name)
    shutil.copy("values.json", HERE)
    os.chdir(HERE)
    shutil.rmtree(SCRATCH)


if __name__ == "__main__":
    write()
