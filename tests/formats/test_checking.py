"""`evsim info --check`: every defect, each with its place, and none where there is none."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from format_conformance import make_events
from test_conversion import LOSSY, OPTIONS, WRITTEN

from evsim.cli.main import cli
from evsim.formats import FORMATS, NativeWriter, check, save_events


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A sound file of 5000 events with three images."""
    events = make_events(5000, width=40, height=30, span=20_000)
    with NativeWriter(tmp_path / "a.h5", 40, 30, event_windows="interval") as writer:
        writer.append(events)
        for t in (5_000.0, 10_000.0, 15_000.0):
            writer.append_image(np.zeros((30, 40), np.uint8), t)
    return tmp_path / "a.h5"


@pytest.mark.parametrize("name", [name for name in WRITTEN if name != LOSSY])
def test_what_evsim_writes_is_sound(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    save_events(make_events(3000, start=500), path, format=name, **OPTIONS.get(name, {}))
    size = (346, 260) if name == "npy" else None
    assert check(path, size=size) == []


def test_a_sound_file_has_no_defects(recording: Path) -> None:
    assert check(recording) == []


def test_every_defect_is_reported_with_its_place(recording: Path) -> None:
    with h5py.File(recording, "r+") as file:
        file["events/ts"][4000] = 3.0
        file["events/xs"][1234] = 77
        file["events/ys"][2000:2003] = 30
        file["events/ys"][3000] = 31
        file["events/ts"][4500] = 4.0
        file.attrs["num_events"] = 4999
        file.attrs["num_pos"] = 1
        file["images/image000000001"].attrs["timestamp"] = 2.0
    found = {defect.place: defect.message for defect in check(recording)}
    assert found["event 4000"].startswith("is at 3 us after ")
    assert found["event 1234"] == "x is 77, expected 0..39 (once in events 0..4999)"
    assert found["event 2000"] == "y is 30, expected 0..29 (4 times in events 0..4999)"
    assert found["event 3000"] == "y is 31, expected 0..29"
    assert found["event 4500"].startswith("is at 4 us after ")
    assert found["attribute num_events"] == "is 4999, and the file holds 5000"
    assert "attribute num_pos" in found
    assert found["image 1"] == "is at 2.0 us after 5000.0 us"
    assert "not checked" in found["indices"]


def test_wrong_indices_are_reported(recording: Path) -> None:
    with h5py.File(recording, "r+") as file:
        file["ms_to_idx"][7] = file["ms_to_idx"][6]
        file["images/image000000002"].attrs["event_idx"] = 17
        file["event_indices"][1] = (5, 6000)
        file.attrs["tk"] = 1e6
    places = [defect.place for defect in check(recording)]
    assert places == [
        "attribute tk",
        "ms_to_idx, entry 7",
        "images/image000000002",
        "event_indices, row 1",
    ]


def test_unreadable_parts_are_reported_and_the_rest_is_checked(recording: Path) -> None:
    with h5py.File(recording, "r+") as file:
        file["events/ts"][10] = np.nan
        del file["images/image000000001"].attrs["timestamp"]
    messages = [f"{defect.place}: {defect.message}" for defect in check(recording)]
    assert any("a time is nan" in message for message in messages)
    assert any("images/image000000001: timestamp is None" in message for message in messages)


def test_a_file_that_cannot_be_opened_is_one_defect(recording: Path) -> None:
    recording.write_bytes(recording.read_bytes()[:5000])
    (defect,) = check(recording)
    assert "damaged or cut short" in defect.message


def test_the_command_prints_a_line_for_each_defect_and_exits_with_2(recording: Path) -> None:
    sound = CliRunner().invoke(cli, ["info", str(recording), "--check"])
    assert (sound.exit_code, "none" in sound.output) == (0, True)
    with h5py.File(recording, "r+") as file:
        file["events/xs"][1234] = 77
        file.attrs["num_pos"] = -1
    damaged = CliRunner().invoke(cli, ["info", str(recording), "--check"])
    assert damaged.exit_code == 2
    *_, first, second = (line.strip() for line in damaged.output.splitlines())
    assert "event 1234: x is 77" in first
    assert second.startswith("attribute num_pos: is -1")
