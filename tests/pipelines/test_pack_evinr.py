"""`evsim pack evinr`: what EvINR's published code would read, and that our fit reads it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from evsim.cli.conventions import Settings
from evsim.cli.pack import evinr
from evsim.events import Events
from evsim.formats import open_events, save_events


def test_all_events_in_seconds_with_the_options_of_the_data_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 10**6, 500))
    x, y, p = (rng.integers(0, n, 500) for n in (306, 408, 2))
    events = Events(t, x.astype("u2"), y.astype("u2"), p.astype("u1"), 306, 408)
    save_events(events, tmp_path / "events.h5")
    out = tmp_path / "packed"
    words = [str(tmp_path / "events.h5"), "-o", str(out), "--dataset", "aed", "--json"]
    done = CliRunner().invoke(evinr, words, obj=Settings(), standalone_mode=False)
    assert done.exception is None
    assert json.loads(done.stdout)["events"] == 500
    rows = np.load(out / "events.npy")
    np.testing.assert_array_equal(rows, np.stack([t / 1e6, x, y, 2.0 * p - 1], 1))
    assert "event_threshold: 0.25" in (out / "fit.yaml").read_text()
    assert {path.name for path in out.iterdir()} == {"events.npy", "fit.yaml"}
    with open_events(out / "events.npy", size=(306, 408), unit="s") as recording:
        np.testing.assert_array_equal(recording.events().t, t)


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    """A folder of the Event Camera Dataset with one image of 240x180."""
    folder = tmp_path / "shapes_6dof"
    (folder / "images").mkdir(parents=True)
    (folder / "events.txt").write_text("0.001 3 4 1\n0.002000 5 6 0\n0.003 7 8 1\n")
    cv2.imwrite(str(folder / "images" / "frame_00000000.png"), np.full((180, 240), 9, np.uint8))
    (folder / "images.txt").write_text("0.002500 images/frame_00000000.png\n")
    return folder


def pack(*words: object) -> Any:
    return CliRunner().invoke(evinr, [str(word) for word in words], obj=Settings(), standalone_mode=False)


def test_a_sequence_of_the_event_camera_dataset_comes_with_its_images(sequence: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    assert pack(sequence, "-o", out, "--dataset", "ecd").exception is None
    assert len(np.load(out / "events.npy")) == 3
    time, name = (out / "images.txt").read_text().split()
    assert float(time) == 0.0025
    assert cv2.imread(str(out / name), cv2.IMREAD_GRAYSCALE).mean() == 9


def test_what_fails_leaves_nothing_and_only_our_folders_are_replaced(sequence: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    refused = pack(sequence, "-o", out, "--dataset", "ced")
    assert "240x180" in str(refused.exception)
    assert not out.exists()
    assert pack(sequence, "-o", out).exception is None
    assert "--overwrite" in str(pack(sequence, "-o", out).exception)
    assert pack(sequence, "-o", out, "--overwrite").exception is None
    (out / "fit.yaml").unlink()
    assert "not packed by evsim" in str(pack(sequence, "-o", out, "--overwrite").exception)
