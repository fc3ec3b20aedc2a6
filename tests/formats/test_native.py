"""evsim's own HDF5 file: what plain h5py sees, and files of the same family from other writers."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from format_conformance import assert_same, make_events
from hypothesis import given, settings
from hypothesis import strategies as st

from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.files import EarlyFlush
from evsim.formats import NativeWriter, check, convert, describe, open_events, save_events, sniff
from evsim.formats.native_writer import LARGEST_INDEX
from evsim.formats.storage.excerpt import Excerpt
from evsim.formats.storage.hdf5 import SurvivingFile
from evsim.formats.storage.recording import BLOCK


def write_simulation(path: Path, events: Events, *, colour: bool = True, **options: Any) -> Path:
    """Events in intervals of 10 ms with an image at the start and at each end."""
    with NativeWriter(
        path, events.width, events.height, seed=3, config={"b": 1, "a": [0.5]}, **options
    ) as writer:
        for k in range(6):
            writer.append(events.between(10_000 * (k - 1) + 1, 10_000 * k + 1))
            image = np.full((events.height, events.width, *((3,) if colour else ())), k, np.uint8)
            if colour:
                image[..., 0] = 200
            writer.append_image(image, 10_000.0 * k)
    return path


@pytest.fixture
def events() -> Events:
    return make_events(5000, width=40, height=30, start=1, span=50_000, labels=True)


def test_plain_h5py_sees_the_documented_layout(tmp_path: Path, events: Events) -> None:
    with h5py.File(write_simulation(tmp_path / "a.h5", events, labels=True)) as file:
        kinds = {name: file[f"events/{name}"].dtype.str for name in file["events"]}
        assert kinds == {"xs": "<i2", "ys": "<i2", "ts": "<f8", "ps": "|b1", "labels": "|u1"}
        assert all(file[f"events/{name}"].compression is None for name in kinds)
        for name, column in (("xs", events.x), ("ys", events.y), ("ts", events.t), ("ps", events.p)):
            np.testing.assert_array_equal(file[f"events/{name}"][:], column)
        np.testing.assert_array_equal(file["events/labels"][:], events.label)
        assert list(file["images"]) == [f"image{k:09d}" for k in range(6)]
        assert file["images"].attrs["num_images"] == 6
        image = file["images/image000000002"]
        assert image.dtype == np.uint8
        assert image[0, 0].tolist() == [2, 2, 200]  # blue first on disk
        assert image.attrs["type"] == "color_bgr"
        assert image.attrs["size"].tolist() == [30, 40, 3]
        assert image.attrs["timestamp"] == 20_000.0
        on = int(events.p.sum())
        attributes = dict(file.attrs)
        assert attributes.pop("sensor_resolution").tolist() == [40, 30]
        assert json.loads(attributes.pop("config")) == {"a": [0.5], "b": 1}
        assert attributes == {
            "num_events": 5000,
            "num_pos": on,
            "num_neg": 5000 - on,
            "duration": float(events.duration_us),
            "t0": float(events.t[0]),
            "tk": float(events.t[-1]),
            "num_imgs": 6,
            "num_flow": 0,
            "format": "evsim.events",
            "version": 1,
            "time_unit": "us",
            "t_offset": 0,
            "seed": 3,
        }


def test_images_come_back_as_rgb_with_global_event_index(tmp_path: Path, events: Events) -> None:
    with open_events(write_simulation(tmp_path / "a.h5", events)) as recording:
        images = list(recording.images())
    assert [image.image[0, 0].tolist() for image in images] == [[200, k, k] for k in range(6)]
    for image in images:
        assert image.event_index == max(0, int(np.searchsorted(events.t, image.t_us)) - 1)


def write_timed_images(path: Path, events: Events) -> Path:
    """Blurry images of half the sensor's size, each after the sharp one of twice its size at its middle."""
    draws = np.random.default_rng(0)
    height, width = events.height // 2, events.width // 2
    with NativeWriter(path, events.width, events.height, labels=events.label is not None) as writer:
        writer.append(events)
        for k in range(3):
            sharp = draws.integers(0, 256, (2 * height, 2 * width, 3), np.uint8)
            writer.append_image(sharp, 5000.0 + 10_000 * k, kind="sharp")
            blurry = draws.integers(0, 256, (height, width), np.uint8)
            writer.append_image(blurry, 10_000.0 * (k + 1), exposure_us=8000.0 + k, kind="blurry")
    return path


def test_exposures_and_kinds_are_attributes_that_plain_frames_do_not_have(
    tmp_path: Path, events: Events
) -> None:
    usual = {"event_idx", "size", "timestamp", "type"}
    with h5py.File(write_simulation(tmp_path / "plain.h5", events)) as file:
        assert {name for image in file["images"].values() for name in image.attrs} == usual
    with h5py.File(write_timed_images(tmp_path / "timed.h5", events)) as file:
        assert file.attrs["sensor_resolution"].tolist() == [40, 30]
        sharp, blurry = (file[f"images/image{k:09d}"] for k in range(2))
        assert (sharp.shape, blurry.shape) == ((30, 40, 3), (15, 20))
        assert set(sharp.attrs) == {*usual, "kind"}
        assert set(blurry.attrs) == {*usual, "kind", "exposure"}
        assert (sharp.attrs["kind"], blurry.attrs["kind"]) == ("sharp", "blurry")
        assert blurry.attrs["exposure"] == 8000.0
        assert blurry.attrs["exposure"].dtype == np.float64


def test_timed_images_survive_a_conversion_to_the_byte(tmp_path: Path, events: Events) -> None:
    path = write_timed_images(tmp_path / "a.h5", events)
    assert convert(path, tmp_path / "b.h5") == []
    assert (tmp_path / "b.h5").read_bytes() == path.read_bytes()


def test_info_tells_what_is_not_plain_of_images(tmp_path: Path, events: Events) -> None:
    with open_events(write_simulation(tmp_path / "plain.h5", events)) as recording:
        assert "image_kinds" not in describe(recording)
    with open_events(write_timed_images(tmp_path / "timed.h5", events)) as recording:
        assert describe(recording)["image_kinds"] == {
            "sharp": {"images": 3, "sizes": ["40x30"], "exposure_us": [0.0, 0.0]},
            "blurry": {"images": 3, "sizes": ["20x15"], "exposure_us": [8000.0, 8002.0]},
        }


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("exposure", -1.0, "exposure"), ("exposure", np.nan, "exposure"), ("exposure", "long", "exposure"),
     ("kind", "blury", "kind"), ("kind", 3, "kind")],
)  # fmt: skip
def test_damaged_exposures_and_kinds_are_told_with_their_place(
    tmp_path: Path, events: Events, name: str, value: Any, words: str
) -> None:
    path = write_timed_images(tmp_path / "a.h5", events)
    with h5py.File(path, "r+") as file:
        file["images/image000000003"].attrs[name] = value
    with open_events(path) as recording, pytest.raises(FormatError, match=words):
        list(recording.images())
    assert [defect.place for defect in check(path)] == ["images/image000000003"]


def test_an_image_of_another_size_than_its_kind_is_a_defect(tmp_path: Path, events: Events) -> None:
    path = write_timed_images(tmp_path / "a.h5", events)
    with h5py.File(path, "r+") as file:
        kept = dict(file["images/image000000003"].attrs)
        del file["images/image000000003"]
        file.create_dataset("images/image000000003", data=np.zeros((15, 21), np.uint8)).attrs.update(kept)
    (defect,) = check(path)
    assert defect.place == "image 3"
    assert "(15, 21)" in defect.message


def test_an_excerpt_keeps_what_is_known_of_its_images(tmp_path: Path, events: Events) -> None:
    with open_events(write_timed_images(tmp_path / "a.h5", events)) as recording:
        excerpt = Excerpt(recording, 9_000, 16_000)
        assert list(excerpt.image_facts()) == [(20, 15, 8000.0, "blurry"), (40, 30, 0.0, "sharp")]
        assert [image.kind for image in excerpt.images()] == ["blurry", "sharp"]


def test_event_index_does_not_depend_on_the_order_of_writing(tmp_path: Path) -> None:
    events = make_events(300_000, span=1_000_000)
    image = np.zeros((260, 346), np.uint8)
    times = [0.0, 3.5, 500_000.0, 999_999.0, 2_000_000.0]
    with NativeWriter(tmp_path / "a.h5", 346, 260) as writer:
        for time_us in times:
            writer.append_image(image, time_us)
        writer.append(events)
    with h5py.File(tmp_path / "a.h5") as file:
        found = [image.attrs["event_idx"] for image in file["images"].values()]
    assert found == [max(0, int(np.searchsorted(events.t, time_us)) - 1) for time_us in times]


@settings(max_examples=30, deadline=None)
@given(
    gaps=st.lists(st.sampled_from([0, 1, 400, 999, 1000, 1001, 7777, 2_000_000]), min_size=1, max_size=60),
    start=st.sampled_from([0, 5, 999, 2**33]),
    cut=st.integers(0, 60),
)
def test_millisecond_index_holds_its_promise(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int], start: int, cut: int
) -> None:
    t = start + np.cumsum(gaps).astype(np.int64)
    n = len(t)
    zeros = np.zeros(n, np.uint16)
    events = Events(t, zeros, zeros, np.ones(n, np.uint8), 4, 4)
    path = tmp_path_factory.mktemp("index") / "a.h5"
    with NativeWriter(path, 4, 4) as writer:
        for part in (events[:cut], events[cut:]):
            writer.append(part)
            writer._flush_pending(final=True)
    with h5py.File(path) as file:
        index = file["ms_to_idx"][:].astype(np.int64)
    assert len(index) == (t[-1] - t[0]) // 1000 + 1
    borders = t[0] + 1000 * np.arange(len(index))
    assert np.all(t[index] >= borders)
    assert np.all((index == 0) | (t[np.maximum(index - 1, 0)] < borders))
    with open_events(path) as recording:
        for t0 in (t[0] - 1, t[0], t[n // 2], t[n // 2] + 1, t[-1], t[-1] + 5000):
            assert_same(recording.between(t0, t0 + 1500), events.between(t0, t0 + 1500))


def test_a_layout_of_a_later_program_is_refused(tmp_path: Path, events: Events) -> None:
    path = tmp_path / "later.h5"
    save_events(events, path)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 2
    with pytest.raises(FormatError, match=r"has version 2 .* expected 1"):
        open_events(path)


def test_a_gap_of_hours_goes_without_index(tmp_path: Path) -> None:
    t = np.array([0, 1, 1000 * (LARGEST_INDEX + 1)])
    zeros = np.zeros(3, np.uint16)
    events = Events(t, zeros, zeros, np.ones(3, np.uint8), 4, 4)
    path = save_events(events, tmp_path / "a.h5")
    with h5py.File(path) as file:
        assert "ms_to_idx" not in file
    with open_events(path) as recording:
        assert_same(recording.between(1, int(t[2])), events[1:2])


def test_same_input_gives_the_same_bytes_at_another_time(tmp_path: Path, events: Events) -> None:
    first = write_simulation(tmp_path / "a.h5", events).read_bytes()
    time.sleep(1.1)  # HDF5 time stamps count in seconds
    assert write_simulation(tmp_path / "b.h5", events).read_bytes() == first


def test_interval_windows_follow_the_images(tmp_path: Path, events: Events) -> None:
    path = write_simulation(tmp_path / "a.h5", events, event_windows="interval")
    with open_events(path) as recording:
        windows = recording.event_windows
        assert windows is not None
        for k, (start, stop) in enumerate(windows[1:], 1):
            inside = events.t[start:stop]
            assert 10_000 * (k - 1) < inside.min() <= inside.max() <= 10_000 * k
    assert windows[:, 0].tolist() == [0, *windows[:-1, 1].tolist()]


def test_blosc_is_smaller_and_reads_back(tmp_path: Path) -> None:
    events = make_events(100_000)
    plain = save_events(events, tmp_path / "plain.h5")
    packed = save_events(events, tmp_path / "packed.h5", compression="blosc")
    assert packed.stat().st_size < plain.stat().st_size / 2
    with open_events(packed) as recording:
        assert_same(recording.events(), events)


def test_missing_blosc_names_the_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(InputError, match=r"pip install"):
        save_events(make_events(3), tmp_path / "a.h5", compression="blosc")


def test_wide_sensors_use_unsigned_columns(tmp_path: Path) -> None:
    path = save_events(make_events(3, width=40_000, height=2), tmp_path / "a.h5")
    with h5py.File(path) as file:
        assert file["events/xs"].dtype == np.uint16


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((30, 40), np.float32), "uint8"),
        (np.zeros((40, 30), np.uint8), r"\(30, 40\)"),
        (np.zeros((30, 40, 4), np.uint8), "3 channels"),
    ],
)
def test_other_images_are_refused(tmp_path: Path, image: Any, words: str) -> None:
    with pytest.raises(InputError, match=words), NativeWriter(tmp_path / "a.h5", 40, 30) as writer:
        writer.append_image(image, 0.0)
    assert list(tmp_path.iterdir()) == []


def test_labels_are_written_only_when_announced(tmp_path: Path, events: Events) -> None:
    with NativeWriter(tmp_path / "a.h5", 40, 30) as writer:
        writer.append(events)
    with open_events(tmp_path / "a.h5") as recording:
        assert not recording.has_labels
    with (
        pytest.raises(InputError, match="carry none"),
        NativeWriter(tmp_path / "b.h5", 40, 30, labels=True) as writer,
    ):
        writer.append(make_events(3, width=40, height=30))


CHILD = """
    import resource, sys
    import numpy as np
    from evsim.errors import RunError
    from evsim.events import Events
    from evsim.formats import create_events
    n = 300_000
    columns = np.arange(n), np.zeros(n, np.uint16), np.zeros(n, np.uint16), np.ones(n, np.uint8)
    events = Events(*columns, 64, 48)
    for number, case in enumerate(sys.argv[2:]):
        name, limit, what = case.split()
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
        try:
            with create_events(f"{sys.argv[1]}/{number}/{name}", 64, 48) as writer:
                if what == "images":
                    for k in range(2000):
                        writer.append_image(np.zeros((48, 64), np.uint8), float(k))
                else:
                    writer.append(events)
        except RunError as error:
            print(error)
"""


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    cases = [
        "a.h5 0 events",
        "a.h5 1000 events",
        "a.h5 2000000 events",
        "a.h5 3900000 events",
        "a.h5 1000000 images",
        "a.npz 1000000 events",
        "a.npz 3000000 events",
        "a.npy 1000000 events",
        "a.txt 1000000 events",
        "folder 1000000 events",
    ]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path), *cases],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for number, (case, line) in enumerate(zip(cases, done.stdout.splitlines(), strict=True)):
        assert f"{tmp_path}/{number}/" in line, case
        assert "file too large" in line
        assert list((tmp_path / str(number)).iterdir()) == []


def test_a_refused_write_is_kept_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SurvivingFile(tmp_path / "a")
    file.write(b"abcd")

    def refuse(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", refuse)
    file.seek(2)
    file.write(b"XYZ")
    file.seek(0)
    assert file.read(5) == b"abXYZ"
    with pytest.raises(OSError, match="No space"):
        file.raise_failure()
    file.close()


@pytest.mark.parametrize("refused", [False, True])
def test_space_asked_for_ahead_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    asked = []

    def reserve(descriptor: int, start: int, length: int) -> None:
        asked.append(length)
        if refused:
            raise OSError(95, "Operation not supported")
        os.ftruncate(descriptor, start + length)

    save_events(make_events(70_000, width=40, height=30), tmp_path / "plain.h5")
    monkeypatch.setattr("evsim.formats.storage.hdf5.RESERVE", 1 << 16)
    monkeypatch.setattr("os.posix_fallocate", reserve, raising=False)
    save_events(make_events(70_000, width=40, height=30), tmp_path / "reserved.h5")
    assert (len(asked) == 1) == refused
    assert (tmp_path / "reserved.h5").read_bytes() == (tmp_path / "plain.h5").read_bytes()


def write_foreign(path: Path, events: Events, **changes: Any) -> Path:
    """A file as other writers of this family make it, with parts replaced or left out (None)."""
    parts: dict[str, Any] = {
        "events/xs": events.x.astype(np.int16),
        "events/ys": events.y.astype(np.int16),
        "events/ts": events.t.astype(np.float64),
        "events/ps": events.p.astype(bool),
        **{name.replace("__", "/"): value for name, value in changes.items() if "__" in name},
    }
    with h5py.File(path, "w") as file:
        for name, value in parts.items():
            if value is not None:
                file[name] = value
        if "resolution" in changes:
            file.attrs["sensor_resolution"] = changes["resolution"]
        if "image" in changes:
            file["images/image000000000"] = changes["image"]
            file["images/image000000000"].attrs["timestamp"] = changes.get("image_time", 1.0)
    return path


def test_images_decide_which_side_is_the_width(tmp_path: Path, events: Events) -> None:
    image = np.zeros((30, 40), np.uint8)
    for order in ([40, 30], [30, 40]):
        path = write_foreign(tmp_path / f"{order[0]}.h5", events, resolution=order, image=image)
        with open_events(path) as recording:
            assert (recording.width, recording.height) == (40, 30)
    path = write_foreign(tmp_path / "none.h5", events, image=image)
    with open_events(path) as recording:
        assert (recording.width, recording.height) == (40, 30)


def test_an_undecidable_size_is_asked_for(tmp_path: Path, events: Events) -> None:
    path = write_foreign(tmp_path / "a.h5", events, resolution=[30, 40])
    with pytest.raises(InputError, match="--size 30x40 or --size 40x30"):
        open_events(path)
    with open_events(path, size=(40, 30)) as recording:
        assert_same(recording.events(), Events(events.t, events.x, events.y, events.p, 40, 30))
    bare = write_foreign(tmp_path / "b.h5", events)
    with pytest.raises(InputError, match="--size"):
        open_events(bare)


def test_seconds_are_asked_for_and_exact(tmp_path: Path, events: Events) -> None:
    absolute = events.t + 1_468_939_993_000_000
    path = write_foreign(tmp_path / "a.h5", events, events__ts=absolute / 1e6)
    with pytest.raises(InputError, match="--unit"):
        open_events(path, size=(40, 30))
    with open_events(path, size=(40, 30), unit="s") as recording:
        assert recording.t_origin == 1_468_939_993_000_000
        np.testing.assert_array_equal(recording.events().t + recording.t_origin, absolute)
        assert recording.rounded_times == 0


def test_legacy_column_names_are_read(tmp_path: Path, events: Events) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, column in (("x", events.x), ("y", events.y), ("t", events.t), ("p", events.p * 2.0 - 1)):
            file[f"events/{name}"] = column
    with open_events(path, size=(40, 30)) as recording:
        assert recording.polarity == "-1/1"
        assert_same(recording.events(), Events(events.t, events.x, events.y, events.p, 40, 30))


def test_another_layout_with_the_same_columns_is_left_alone(tmp_path: Path, events: Events) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, column in (("x", events.x), ("y", events.y), ("t", events.t), ("p", events.p)):
            file[f"events/{name}"] = column
        file["t_offset"] = 5
    found = sniff(path)
    assert found is not None
    assert found.name == "dsec"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"events__ps": np.zeros(7, bool)}, "one length"),
        ({"events__ts": np.arange(5000.0)[::-1]}, "not sorted"),
        ({"events__ts": np.full(5000, np.nan)}, "time is nan"),
        ({"events__xs": np.full(5000, -1, np.int16)}, "-1"),
        ({"events__ys": np.full(5000, 30, np.int16)}, "outside the sensor"),
        ({"events__ps": np.full(5000, 3, np.int8)}, "polarity is 3"),
        ({"events__ps": np.full(5000, 255, np.uint8)}, "polarity is 255"),
        ({"events__xs": np.array([b"a"] * 5000)}, "expected numbers"),
        ({"image": np.zeros((30, 40), np.uint8), "image_time": np.nan}, "timestamp is nan"),
        ({"image": np.zeros((30, 40), np.float32)}, "expected uint8"),
        ({"resolution": [40, 31], "image": np.zeros((30, 40), np.uint8)}, "--size"),
    ],
)
def test_bad_content_is_named(tmp_path: Path, events: Events, changes: dict[str, Any], words: str) -> None:
    path = write_foreign(tmp_path / "a.h5", events, **changes)
    size = None if "resolution" in changes else (40, 30)

    def read() -> None:
        with open_events(path, size=size, unit="us") as recording:
            recording.events()
            list(recording.images())

    with pytest.raises(FormatError, match=words) as caught:
        read()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unsorted_times_across_blocks_name_the_event(
    tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evsim.formats.storage.recording.BLOCK", 1000)
    t = events.t.copy()
    t[3000:] = 0
    path = write_foreign(tmp_path / "a.h5", events, events__ts=t.astype(float))
    with open_events(path, size=(40, 30)) as recording, pytest.raises(FormatError, match="event 3000 "):
        recording.events()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_damaged_length_is_noticed_before_reading(tmp_path: Path, events: Events, chunked: bool) -> None:
    """The number of rows is patched in the file to something enormous."""
    path = tmp_path / "a.h5"
    n = 4321
    with h5py.File(path, "w") as file:
        for name, column in (("xs", events.x), ("ys", events.y), ("ts", events.t), ("ps", events.p)):
            options = {"chunks": (512,), "maxshape": (None,)} if chunked else {}
            file.create_dataset(f"events/{name}", data=column[:n], **options)
    content = bytearray(path.read_bytes())
    length = n.to_bytes(8, "little")
    assert content.count(length) >= 4
    path.write_bytes(content.replace(length, (1 << 40).to_bytes(8, "little")))
    with pytest.raises(FormatError, match=r"stores|damaged"):
        open_events(path, size=(40, 30))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\0\1\2\3" * 50, "no known format"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "damaged or cut short"),
        (b"PK\x03\x04 nothing", "damaged or cut short"),
    ],
)
def test_what_is_no_event_file_says_so(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=words):
        open_events(path)


def test_hdf5_without_events_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["other"] = [1]
    with pytest.raises(FormatError, match="without event columns"):
        open_events(path)
    with pytest.raises(FormatError, match="events"):
        open_events(path, format="native")
    with pytest.raises(InputError, match="no such"):
        open_events(tmp_path / "missing.h5")


@pytest.mark.needs_data
def test_rled_file_is_read_as_it_is(data: Path) -> None:
    with h5py.File(data / "rled_tiny.h5") as file, open_events(data / "rled_tiny.h5") as recording:
        events = recording.events()
        assert (recording.width, recording.height, len(recording)) == (32, 24, 5000)
        np.testing.assert_array_equal(events.t, file["events/ts"][:])
        np.testing.assert_array_equal(recording.event_windows, file["event_indices"][:])
        for image, (_, stored) in zip(recording.images(), sorted(file["images"].items())):
            np.testing.assert_array_equal(image.image, stored[:])
            assert (image.t_us, image.event_index) == (stored.attrs["timestamp"], stored.attrs["event_idx"])


@pytest.mark.parametrize("layout", [{}, {"chunks": (1000,)}, {"chunks": (1000,), "compression": "gzip"}])
def test_columns_of_any_storage_are_streamed_alike(tmp_path: Path, layout: dict[str, Any]) -> None:
    """Plainly stored rows are read past the HDF5 library when a whole file is streamed."""
    events = make_events(BLOCK + 12_345, width=640, height=480)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, kind in (("xs", np.int16), ("ys", np.int16), ("ts", np.float64), ("ps", bool)):
            file.create_dataset(f"events/{name}", data=getattr(events, name[0]).astype(kind), **layout)
    with open_events(tmp_path / "a.h5", size=(640, 480)) as recording:
        assert_same(Events.concatenate(list(recording.chunks())), events)
        assert_same(recording.between(50_000, 60_000), events.between(50_000, 60_000))


def test_large_outputs_are_sent_to_the_disk_while_they_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the disk refuses then is told, for it would not be told again."""
    early = EarlyFlush(tmp_path / "a", every=10)
    (tmp_path / "a").write_bytes(b"x")
    early.grew(11)
    early.finish()

    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", refuse)
    early.grew(11)
    with pytest.raises(OSError, match="Input/output"):
        early.finish()
