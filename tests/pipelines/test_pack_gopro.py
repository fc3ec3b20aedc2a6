"""The training tree of a run, read as Sim2Real's loader reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from evsim.errors import InputError
from evsim.events import Events
from evsim.formats import open_events
from evsim.pipelines.packing.sim2real_tree import pack_gopro
from evsim.pipelines.runs.executors import Serial
from evsim.pipelines.runs.run import execute_run
from evsim.pipelines.runs.simulation import describe_run

FACTOR = 4
CLIPS = ("train/A", "train/B_2", "test/C")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make_clip: Callable[..., Path]) -> Path:
    root = tmp_path_factory.mktemp("small") / "GOPRO"
    for seed, clip in enumerate(CLIPS):
        make_clip(root / clip, seed=seed, frames=5)
    return root


def simulate(root: Path, run: Path, *overrides: str, frames: str = "source") -> Path:
    # High thresholds, no noise: some intervals stay empty.
    settings = ("sensor.contrast_threshold_on=0.9", "sensor.contrast_threshold_off=0.9", *overrides)
    quiet = ("sensor.shot_noise_rate_hz=0", "sensor.leak_rate_hz=0", f"upsample.factor={FACTOR}")
    asked = describe_run("gopro", root, overrides=(*settings, *quiet), options={"frames": frames})
    assert execute_run(asked, run, executor=Serial(threads=1)).complete
    return run


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that keeps all frames."""
    return simulate(root, tmp_path_factory.mktemp("whole") / "run", frames="all")


@pytest.fixture(scope="module")
def lean(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that keeps source frames only."""
    return simulate(root, tmp_path_factory.mktemp("lean") / "run")


def naturally_sorted(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)])


def events_of(run: Path, clip: str) -> Events:
    with open_events(run / f"{clip}.h5") as recording:
        return recording.events()


def reference_frames(events: Events, intervals: int, kind: str) -> np.ndarray:
    """Event by event, over intervals that end at k / (240 * FACTOR) seconds."""
    made = np.zeros((intervals, events.height, events.width), np.int64)
    for t, x, y, p in zip(events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist()):
        # The interval whose end, in whole microseconds, is the first not before t.
        k = next(k for k in range(intervals) if t <= int((k + 1) * 1e6 / (240 * FACTOR)))
        sign = 1 if p else -1
        if kind == "last":
            made[k, y, x] = sign
        else:
            made[k, y, x] += 1 if kind == "count" else sign
    return made


@pytest.mark.parametrize("clip", CLIPS)
def test_a_reader_that_pairs_by_position_finds_one_event_frame_fewer_than_images(
    clip: str, whole: Path, tmp_path: Path
) -> None:
    summary = pack_gopro(whole, tmp_path / "packed")
    split, sequence = clip.split("/")
    group = f"{split}_x{FACTOR}interpolated"
    images = naturally_sorted(tmp_path / "packed" / "RGB_dense" / group / sequence)
    events = naturally_sorted(tmp_path / "packed" / group / "EVS" / sequence)
    assert (len(images), len(events)) == (4 * FACTOR + 1, 4 * FACTOR)
    assert [path.stem for path in events] == [path.stem for path in images[1:]]
    assert summary.empty > 0
    assert (summary.clips, summary.intervals, summary.images) == (3, 3 * 4 * FACTOR, 3 * (4 * FACTOR + 1))


@pytest.mark.parametrize(("kind", "dtype"), [("last", np.int8), ("count", np.int16), ("sum", np.int16)])
def test_values_are_those_of_the_events_in_each_interval(
    kind: str, dtype: type, lean: Path, tmp_path: Path
) -> None:
    pack_gopro(lean, tmp_path / "packed", frames=kind)  # type: ignore[arg-type]
    for clip in CLIPS:
        split, sequence = clip.split("/")
        files = naturally_sorted(tmp_path / "packed" / f"{split}_x{FACTOR}interpolated" / "EVS" / sequence)
        frames = np.stack([np.load(path) for path in files])
        events = events_of(lean, clip)
        assert frames.dtype == dtype
        assert len(events) > 50
        assert np.array_equal(frames, reference_frames(events, 4 * FACTOR, kind))


def test_edges_from_source_frames_and_from_all_frames_agree(whole: Path, lean: Path, tmp_path: Path) -> None:
    pack_gopro(whole, tmp_path / "all")
    summary = pack_gopro(lean, tmp_path / "source")
    assert "no RGB_dense was written" in summary.notes[0]
    assert not (tmp_path / "source" / "RGB_dense").exists()
    files = sorted((tmp_path / "source").rglob("*.npy"))
    assert len(files) == 3 * 4 * FACTOR
    for path in files:
        other = tmp_path / "all" / path.relative_to(tmp_path / "source")
        assert path.read_bytes() == other.read_bytes()


def test_every_factorth_image_is_the_source_frame_in_its_colours(
    whole: Path, root: Path, tmp_path: Path
) -> None:
    pack_gopro(whole, tmp_path / "packed")
    images = naturally_sorted(tmp_path / "packed" / "RGB_dense" / f"train_x{FACTOR}interpolated" / "A")
    for packed, source in zip(images[::FACTOR], sorted((root / "train" / "A").iterdir()), strict=True):
        assert np.array_equal(cv2.imread(str(packed)), cv2.imread(str(source)))


def test_the_index_holds_the_run_and_what_was_drawn(lean: Path, tmp_path: Path) -> None:
    pack_gopro(lean, tmp_path / "packed", frames="sum")
    index = json.loads((tmp_path / "packed" / "evsim.json").read_text())
    assert (index["complete"], index["frames"]) == (True, "sum")
    assert index["run"]["configuration"]["upsample"]["factor"] == FACTOR
    assert index["clips"]["train/A"]["parameters"]["isp"]["red_gain"] > 1
    assert index["clips"]["train/A"]["intervals"] == 4 * FACTOR


def test_an_adaptive_factor_needs_all_frames(root: Path, tmp_path: Path) -> None:
    adaptive = simulate(root, tmp_path / "lean", "upsample.adaptive=true")
    with pytest.raises(InputError, match="simulate with --frames all"):
        pack_gopro(adaptive, tmp_path / "packed")
    kept = simulate(root, tmp_path / "kept", "upsample.adaptive=true", frames="all")
    pack_gopro(kept, tmp_path / "packed", overwrite=True)
    group = tmp_path / "packed" / "test_xautointerpolated" / "EVS" / "C"
    images = tmp_path / "packed" / "RGB_dense" / "test_xautointerpolated" / "C"
    assert len(list(group.iterdir())) == len(list(images.iterdir())) - 1 > 0


def test_a_run_without_frames_is_refused(root: Path, tmp_path: Path) -> None:
    bare = simulate(root, tmp_path / "bare", "upsample.method=none", frames="none")
    with pytest.raises(InputError, match="--frames source or all"):
        pack_gopro(bare, tmp_path / "packed")


def test_an_unfinished_run_is_packed_only_in_part_and_on_request(
    root: Path, tmp_path: Path, make_clip: Callable[..., Path]
) -> None:
    broken = tmp_path / "GOPRO"
    make_clip(broken / "train" / "A", frames=3)
    make_clip(broken / "train" / "B", frames=1)
    run = tmp_path / "run"
    assert set(execute_run(describe_run("gopro", broken), run).failures) == {"train/B"}
    with pytest.raises(InputError, match=r"1 of 2 clips are not finished, such as train/B.*--partial"):
        pack_gopro(run, tmp_path / "packed")
    summary = pack_gopro(run, tmp_path / "packed", partial=True)
    assert summary.clips == 1
    assert "train/B" in summary.notes[0]
    assert json.loads((tmp_path / "packed" / "evsim.json").read_text())["complete"] is False


def test_only_a_tree_of_ours_is_overwritten(lean: Path, tmp_path: Path) -> None:
    target = tmp_path / "packed"
    (target / "precious").mkdir(parents=True)
    with pytest.raises(InputError, match="not packed by evsim"):
        pack_gopro(lean, target, overwrite=True)
    (target / "precious").rmdir()
    pack_gopro(lean, target)
    with pytest.raises(InputError, match="--overwrite"):
        pack_gopro(lean, target)
    stale = target / "old_x8interpolated" / "EVS" / "gone"
    stale.mkdir(parents=True)
    pack_gopro(lean, target, overwrite=True)
    assert not stale.exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no run\.json"):
        pack_gopro(tmp_path, tmp_path / "packed")
