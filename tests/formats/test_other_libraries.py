"""What other libraries write we read, and what we write they read, where they tell the truth."""

from __future__ import annotations

from pathlib import Path

import dv_processing
import expelliarmus
import foreign_files
import h5py
import hdf5plugin
import numpy as np
import pytest
from format_conformance import assert_same, make_events

from evsim.errors import InputError
from evsim.events import Events
from evsim.formats import open_events, save_events

EPOCH = 1_700_000_000_000_000


@pytest.fixture(scope="module")
def events() -> Events:
    return make_events(20_000, width=640, height=480, start=3, span=3_000_000)


@pytest.mark.parametrize(("encoding", "suffix"), [("dat", ".dat"), ("evt2", ".raw")])
def test_expelliarmus_reads_ours_and_we_read_its(
    tmp_path: Path, events: Events, encoding: str, suffix: str
) -> None:
    wizard = expelliarmus.Wizard(encoding=encoding)
    theirs = wizard.read(save_events(events, tmp_path / f"ours{suffix}"))
    for name in "txyp":
        np.testing.assert_array_equal(theirs[name], getattr(events, name), err_msg=name)
    wizard.save(fpath=tmp_path / f"theirs{suffix}", arr=theirs)
    with open_events(tmp_path / f"theirs{suffix}", size=(640, 480)) as recording:
        assert recording.format == encoding
        assert_same(recording.events(), events)


@pytest.mark.parametrize("vectors", [True, False])
def test_expelliarmus_and_we_read_the_same_evt3(tmp_path: Path, vectors: bool) -> None:
    """Rows of neighbours make vectors of 12 and 8 pixels.

    expelliarmus adds 4096 us wherever the upper time steps on and the lower steps back, which the words do
    not say: times are compared without the upper part.
    """
    rng = np.random.default_rng(0)
    t = np.repeat(np.sort(rng.integers(0, 1 << 24, 500)), 30)
    x = np.tile(np.arange(0, 60, 2), 500) + np.repeat(rng.integers(0, 500, 500), 30)
    y, p = (np.repeat(rng.integers(0, high, 500), 30) for high in (480, 2))
    events = Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8), 640, 480)
    path = foreign_files.write_evt3(events, tmp_path / "a.raw", vectors=vectors)
    theirs = expelliarmus.Wizard(encoding="evt3").read(path)
    with open_events(path) as recording:
        ours = recording.events()
    assert_same(ours, events)
    for name in "xyp":
        np.testing.assert_array_equal(theirs[name], getattr(ours, name), err_msg=name)
    np.testing.assert_array_equal(theirs["t"] % 4096, ours.t % 4096)


def test_aedat4_of_dv_processing_has_its_events_frames_and_absolute_times(tmp_path: Path) -> None:
    plain = make_events(9000, start=1000, span=50_000)
    events = Events(plain.t, plain.x, plain.y, plain.p, 346, 260, EPOCH)
    colour = np.random.default_rng(0).integers(0, 256, (260, 346, 3), np.uint8)
    images = [(colour[..., 0].copy(), EPOCH + 10_000), (colour, EPOCH + 30_000)]
    path = foreign_files.write_aedat4(events, tmp_path / "a.aedat4", images)
    with open_events(path) as recording:
        assert (recording.image_count, recording.t_origin) == (2, EPOCH)
        assert_same(recording.events(), events)
        assert_same(recording.between(20_000, 30_000), events.between(20_000, 30_000))
        grey, rgb = recording.images()
    np.testing.assert_array_equal(grey.image, images[0][0])
    np.testing.assert_array_equal(rgb.image, colour[..., ::-1])  # cameras write blue first
    assert (grey.t_us, rgb.t_us) == (10_000.0, 30_000.0)
    assert rgb.event_index == np.searchsorted(events.t, 30_000) - 1


@pytest.mark.needs_data
def test_real_aedat4_is_read_as_dv_processing_reads_it(data: Path) -> None:
    path = data / "recordings" / "sample.aedat4"
    reader = dv_processing.io.MonoCameraRecording(str(path))
    theirs = []
    while (batch := reader.getNextEventBatch()) is not None:
        theirs.append(batch.numpy())
    wanted = np.concatenate(theirs)
    with open_events(path) as recording:
        assert len(recording) == 111_954
        assert (recording.width, recording.height) == (320, 240)
        assert recording.t_origin == 1_605_537_493_000_000
        found = recording.events()
    np.testing.assert_array_equal(found.t + found.t_origin, wanted["timestamp"])
    for name, column in (("x", "x"), ("y", "y"), ("p", "polarity")):
        np.testing.assert_array_equal(getattr(found, name), wanted[column])


@pytest.mark.needs_data
def test_real_dat_is_read_as_expelliarmus_reads_it(data: Path) -> None:
    path = data / "recordings" / "sample_ncars.dat"
    with pytest.raises(InputError, match="--size"):
        open_events(path)
    theirs = expelliarmus.Wizard(encoding="dat").read(path)
    with open_events(path, size=(100, 100)) as recording:
        found = recording.events()
    assert (len(found), int(found.t[-1]), int(found.p.sum())) == (2009, 99_952, 1350)
    for name in "txyp":
        np.testing.assert_array_equal(theirs[name], getattr(found, name))


def test_bag_of_rosbags_has_its_events_images_and_absolute_times(tmp_path: Path) -> None:
    plain = make_events(5000, start=EPOCH + 500, span=100_000)
    raw = np.random.default_rng(0).integers(0, 256, (2, 260, 346), np.uint8)
    stamps = [EPOCH + 20_000, EPOCH + 60_000]
    images = [(image, 1000 * t, "mono8") for image, t in zip(raw, stamps)]
    path = foreign_files.write_rosbag(plain, tmp_path / "a.bag", images)
    with open_events(path) as recording:
        assert (recording.t_origin, recording.image_count) == (EPOCH, 2)
        found = recording.events()
        np.testing.assert_array_equal(found.t + EPOCH, plain.t)
        read = list(recording.images())
    for image, wanted, t in zip(read, raw, stamps):
        np.testing.assert_array_equal(image.image, wanted)
        assert image.t_us == t - EPOCH  # of the header, not of recording
        assert image.event_index == np.searchsorted(plain.t, t) - 1


def test_bag_prefers_colour_and_mends_one_image_time_that_goes_back(tmp_path: Path) -> None:
    events = make_events(1000, width=8, height=6)
    colour = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), np.uint8)
    images = [(image, t, "bgr8") for image, t in zip(colour, (10_000_000, 9_000_000, 30_000_000))]
    images.append((colour[0, ..., 0].copy(), 10_000_000, "mono8"))
    with open_events(foreign_files.write_rosbag(events, tmp_path / "a.bag", images)) as recording:
        assert recording.attributes["image_topic"] == "/dvs/image_color"
        read = list(recording.images())
        assert [image.t_us for image in read] == [10_000.0, 20_000.0, 30_000.0]
        assert list(recording.repairs.values()) == [1]
    np.testing.assert_array_equal(read[0].image, colour[0][..., ::-1])


@pytest.mark.parametrize(("module", "name"), [("aedat", "a.aedat4"), ("rosbags.rosbag1", "a.bag")])
def test_a_missing_package_gives_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"#!AER-DAT4.0\r\n" if name.endswith("4") else b"#ROSBAG V2.0\n")
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(InputError, match=r"pip install 'evsim\[formats\]'"):
        open_events(path)


def test_dsec_is_written_so_that_its_own_slicing_works(tmp_path: Path) -> None:
    """The published reader takes t[ms_to_idx[k]] >= 1000 k > t[ms_to_idx[k] - 1] for granted, and blosc."""
    events = make_events(20_000, start=5_500, span=80_000)
    path = save_events(events, tmp_path / "a.dsec.h5", compression="blosc")
    with h5py.File(path) as file:
        assert {name: file["events"][name].dtype.str for name in "xypt"} == {
            "x": "<u2",
            "y": "<u2",
            "p": "|u1",
            "t": "<u4",
        }
        assert file["events/t"]._filters.keys() == {str(hdf5plugin.Blosc.filter_id)}
        t, index = file["events/t"][:].astype(np.int64), file["ms_to_idx"][:].astype(np.int64)
        assert file["t_offset"][()] == 0
    assert len(index) == events.t[-1] // 1000 + 1
    for k, row in enumerate(index):
        assert t[row] >= 1000 * k
        assert row == 0 or t[row - 1] < 1000 * k
