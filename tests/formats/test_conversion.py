"""Between formats: nothing changes without being said; RLED's memory map to the byte; what `info` reports."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from format_conformance import assert_same, content, make_events
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats import FORMATS, NativeWriter, convert, create_events, describe, open_events, save_events
from evsim.formats.rled_memmap import grey

LOSSY = "interval_frames"
WRITTEN = sorted(name for name, format in FORMATS.items() if format.create)
OPTIONS = {"gem_npz": {"exposures": ((0, 50_000), (60_000, 110_000))}}


@pytest.mark.needs_data
def test_memory_map_of_rled_has_the_published_bytes(data: Path, tmp_path: Path) -> None:
    convert(data / "rled_tiny.h5", tmp_path / "rled_tiny")
    wanted = content(data / "rled_tiny_memmap" / "rled_tiny")
    found = content(tmp_path / "rled_tiny")
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert found[name] == wanted[name], name


@pytest.mark.needs_data
def test_published_memory_map_reads_like_its_source(data: Path) -> None:
    with (
        open_events(data / "rled_tiny.h5") as source,
        open_events(data / "rled_tiny_memmap" / "rled_tiny") as recording,
    ):
        assert_same(recording.events(), source.events())
        np.testing.assert_array_equal(recording.event_windows, source.event_windows)
        for found, wanted in zip(recording.images(), source.images(), strict=True):
            np.testing.assert_array_equal(found.image, wanted.image)
            assert found[1:] == wanted[1:]


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_memory_map_files_are_what_numpy_saves(tmp_path: Path, n: int) -> None:
    events = make_events(n)
    save_events(events, tmp_path / "m")
    np.save(tmp_path / "xy.npy", np.stack((events.x.astype(np.int16), events.y.astype(np.int16))).T)
    np.save(tmp_path / "t.npy", events.t.astype(np.float64)[:, None])
    for name in ("xy.npy", "t.npy"):
        assert (tmp_path / "m" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_grey_rounds_as_opencv_does() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    image[:2, :2] = 255
    np.testing.assert_array_equal(grey(image), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def test_colour_simulation_becomes_a_grey_memory_map_with_interval_windows(tmp_path: Path) -> None:
    events = make_events(1000, width=20, height=10, start=1, span=20_000)
    image = np.random.default_rng(0).integers(0, 256, (10, 20, 3), np.uint8)
    with NativeWriter(tmp_path / "a.h5", 20, 10, seed=5, config={"a": 1}, t_origin=77) as writer:
        events = Events(events.t, events.x, events.y, events.p, 20, 10, 77)
        writer.append(events)
        for t_us in (0.0, 10_000.0, 20_000.0):
            writer.append_image(image, t_us)
    changes = convert(tmp_path / "a.h5", tmp_path / "m")
    assert any("3 colour images became grey" in change for change in changes)
    with open_events(tmp_path / "m") as recording:
        assert_same(recording.events(), events)
        middle = int(np.searchsorted(events.t, 10_000, "right"))
        assert recording.event_windows is not None
        assert recording.event_windows.tolist() == [[0, 0], [0, middle], [middle, 1000]]
        assert recording.attributes["seed"] == 5
        assert recording.attributes["sensor_resolution"] == [10, 20]
        assert next(recording.images()).image.shape == (10, 20)


@pytest.mark.parametrize("source", [name for name in WRITTEN if name != LOSSY])
def test_every_pair_of_formats_keeps_the_events(tmp_path: Path, source: str) -> None:
    """Times lie beyond 2^32 us: a target with a shorter clock keeps them as t + t_origin."""
    short = FORMATS[source].create.largest_time <= 2**32
    events = make_events(3000, start=5_000_000 if short else 2**32 + 5_000_000, span=20_000)
    path = tmp_path / f"a{FORMATS[source].suffixes[0]}"
    save_events(events, path, format=source, **OPTIONS.get(source, {}))
    for target in WRITTEN:
        if target == LOSSY:
            continue
        found = tmp_path / f"b{FORMATS[target].suffixes[0]}"
        said = convert(path, found, format=target, size=(346, 260), overwrite=True, **OPTIONS.get(target, {}))
        with open_events(found, size=(346, 260)) as recording:
            read = recording.events()
        assert recording.format == target
        np.testing.assert_array_equal(read.t + read.t_origin, events.t)
        assert any("went to t_origin" in sentence for sentence in said) == (read.t_origin > 0)
        for name in "xyp":
            np.testing.assert_array_equal(getattr(read, name), getattr(events, name))


PAIRS = [(a, b) for a in WRITTEN for b in WRITTEN if LOSSY not in (a, b)]


@settings(max_examples=40, deadline=None)
@given(
    pair=st.sampled_from(PAIRS),
    n=st.sampled_from([0, 1, 40]),
    start=st.sampled_from([0, 1, 2**32 - 3, 2**32 + 7, 2**44]),
    size=st.sampled_from([(1, 1), (346, 260), (2048, 3)]),
    images=st.integers(0, 2),
    seed=st.integers(0, 99),
)
@example(pair=("zarr", "v2e_hdf5"), n=0, start=2**32 - 3, size=(1, 1), images=2, seed=0)
def test_a_pair_of_formats_keeps_what_both_hold(
    pair: tuple[str, str], n: int, start: int, size: tuple[int, int], images: int, seed: int
) -> None:
    """Events at any time and the farthest pixel; labels and images where source and target have a place."""
    source, target = (FORMATS[name] for name in pair)
    width, height = size
    start = 1000 if source.create.largest_time <= 2**32 else start
    events = make_events(
        n, width=width, height=height, start=start, span=5000, labels=source.labels, seed=seed
    )
    colour = np.random.default_rng(seed).integers(0, 256, (images, *size[::-1], 3), np.uint8)
    options = {name: OPTIONS.get(name, {}) for name in pair}
    with tempfile.TemporaryDirectory() as folder:
        a, b = (Path(folder) / f"{key}{form.suffixes[0]}" for key, form in (("a", source), ("b", target)))
        with create_events(
            a, width, height, format=source.name, labels=source.labels, **options[source.name]
        ) as writer:
            writer.append(events)
            for number in range(images if source.images else 0):
                writer.append_image(colour[number], float(start + 1000 * number))
        convert(a, b, format=target.name, size=size, **options[target.name])
        with open_events(b, size=size) as recording:
            found, read = recording.events(), list(recording.images())
    assert recording.format == target.name
    np.testing.assert_array_equal(found.t + found.t_origin, events.t)
    for name in "xyp":
        np.testing.assert_array_equal(getattr(found, name), getattr(events, name))
    kept = source.labels and target.labels
    assert (found.label is not None) == kept
    if kept:
        np.testing.assert_array_equal(found.label, events.label)
    assert len(read) == (images if source.images and target.images else 0)
    for number, image in enumerate(read):
        wanted = colour[number] if source.colour and target.colour else grey(colour[number])
        np.testing.assert_array_equal(image.image, wanted)
        assert image.t_us + recording.t_origin == start + 1000 * number


def test_conversion_says_what_it_changed(tmp_path: Path) -> None:
    plain = make_events(100, labels=True)
    events = Events(plain.t, plain.x, plain.y, plain.p, 346, 260, 10**9, plain.label)
    with NativeWriter(
        tmp_path / "a.h5", 346, 260, t_origin=10**9, labels=True, seed=1, config={"a": 2}
    ) as writer:
        writer.append(events)
        writer.append_image(np.zeros((260, 346), np.uint8), 0.0)
    assert convert(tmp_path / "a.h5", tmp_path / "same.h5") == []
    assert (tmp_path / "same.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()
    said = "\n".join(convert(tmp_path / "a.h5", tmp_path / "b.npy"))
    for words in ("bool and is coded -1/1", "t_origin = 1000000000", "labels", "1 images", "seed and config"):
        assert words in said
    assert "were in us and are in s" in "\n".join(convert(tmp_path / "a.h5", tmp_path / "b.txt"))
    with pytest.raises(InputError, match="labels"):
        save_events(events, tmp_path / "c.npy")


def test_sub_pixel_coordinates_are_rounded_only_when_asked(tmp_path: Path) -> None:
    t = np.arange(4)
    x = np.array([0.25, 1.5, 9.75, 3.0], np.float32)
    events = Events(t, x, np.zeros(4, np.float32), np.ones(4, np.uint8), 10, 10)
    save_events(events, tmp_path / "a.npz")
    with pytest.raises(InputError, match="--round"):
        convert(tmp_path / "a.npz", tmp_path / "b.h5")
    assert not (tmp_path / "b.h5").exists()
    said = convert(tmp_path / "a.npz", tmp_path / "b.h5", round_coordinates=True)
    assert "3 events were moved by rounding their coordinates to whole pixels" in said
    assert any(change.startswith("1 of them would have left the sensor") for change in said)
    with open_events(tmp_path / "b.h5") as recording:
        assert recording.events().x.tolist() == [0, 2, 9, 3]


def test_times_rounded_to_microseconds_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("10 10\n0.000001000 1 1 1\n0.000002400 1 1 0\n0.000002600 1 1 0\n")
    said = convert(tmp_path / "a.txt", tmp_path / "b.h5")
    assert "2 times were rounded to whole microseconds" in said
    with open_events(tmp_path / "b.h5") as recording:
        assert recording.events().t.tolist() == [1, 2, 3]


def test_unusable_requests_are_refused(tmp_path: Path) -> None:
    path = save_events(make_events(3), tmp_path / "a.h5")
    with pytest.raises(InputError, match="the same"):
        convert(path, path, overwrite=True)
    with pytest.raises(InputError, match=r"no format is written to \*\.xyz"):
        convert(path, tmp_path / "a.xyz")
    with pytest.raises(InputError, match="no option 'compression'"):
        convert(path, tmp_path / "a.txt", compression="blosc")
    with pytest.raises(InputError, match="did you mean 'native'"):
        convert(path, tmp_path / "b.h5", format="natvie")
    with pytest.raises(InputError, match="unit 'minutes'"):
        open_events(save_events(make_events(3), tmp_path / "a.npy"), size=(346, 260), unit="minutes")


@pytest.mark.parametrize(
    ("text", "size", "unit"),
    [
        ("0.5 1 2 1\n", (9, 9), None),
        ("9 9\n0.5 1 2 1\n", None, None),
        ("# made by hand\n\n0.500000000 1 2 1\n# in between\n\n", (9, 9), None),
        ("t x y p\n5e-1 1 2 1\n", (9, 9), None),
        ("500000 1 2 1\n", (9, 9), "us"),
        ("500 1 2 +1\r\n", (9, 9), "ms"),
        ("0.5 1.0 2.0 1", (9, 9), None),
    ],
)
def test_text_of_many_hands_is_read(
    tmp_path: Path, text: str, size: tuple[int, int] | None, unit: str | None
) -> None:
    path = tmp_path / "events.txt"
    path.write_bytes(text.encode())
    with open_events(path, size=size, unit=unit) as recording:
        assert len(recording) == 1
        events = recording.events()
    assert (events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist()) == (
        [500_000],
        [1],
        [2],
        [1],
    )


@pytest.mark.parametrize(
    "bad", ["0.2 1 1", "0.2 1 1 1 1", "0.2 a 1 1", "0.2 1 1 2", "nan 1 1 1", "0.2 1 -1 1"]
)
def test_a_bad_line_is_named(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "events.txt"
    path.write_text(f"# comment\n9 9\n0.1 1 1 1\n\n{bad}\n0.3 1 1 1\n")
    with pytest.raises(FormatError, match="line") as caught, open_events(path) as recording:
        recording.events()
    assert "line 5" in str(caught.value) or "lines 3..6" in str(caught.value)


def test_text_without_unit_or_columns_in_order_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.txt"
    path.write_text("500000 1 2 1\n")
    with pytest.raises(InputError, match="--unit"):
        open_events(path, size=(9, 9))
    path.write_text("x y p t\n1 2 1 0.5\n")
    with pytest.raises(FormatError, match="no known format"):
        open_events(path, size=(9, 9))


def test_text_written_for_others_is_plain(tmp_path: Path) -> None:
    zeros = np.array([1, 2], np.uint16)
    t = np.array([-1_500_000, 1_500_001])
    events = Events(t, zeros, zeros, np.array([0, 1], np.uint8), 9, 8)
    save_events(events, tmp_path / "a.txt", header="none")
    assert (tmp_path / "a.txt").read_text() == "-1.500000000 1 1 0\n1.500001000 2 2 1\n"
    save_events(events, tmp_path / "b.txt", header="size")
    assert (tmp_path / "b.txt").read_text().startswith("9 8\n-1.5")


def test_npy_in_seconds_needs_its_unit_again(tmp_path: Path) -> None:
    events = make_events(1000)
    path = save_events(events, tmp_path / "a.npy", unit="s")
    rows = np.load(path)
    assert (rows.dtype, rows.shape) == (np.float64, (1000, 4))
    assert set(rows[:, 3]) == {-1.0, 1.0}
    with pytest.raises(InputError, match="--unit"):
        open_events(path, size=(346, 260))
    with open_events(path, size=(346, 260), unit="s") as recording:
        assert_same(recording.events(), events)


def test_compressed_npz_of_numpy_is_read(tmp_path: Path) -> None:
    events = make_events(1000)
    np.savez_compressed(tmp_path / "a.npz", t=events.t, x=events.x, y=events.y, p=events.p.astype(bool))
    with pytest.raises(InputError, match="--unit"):
        open_events(tmp_path / "a.npz", size=(346, 260))
    with open_events(tmp_path / "a.npz", size=(346, 260), unit="us") as recording:
        assert_same(recording.events(), events)


def test_description_tells_counts_times_labels_and_hot_pixel(tmp_path: Path) -> None:
    t = np.array([1000, 1000, 2000, 9000, 9500])
    x = np.array([3, 3, 3, 1, 0], np.uint16)
    y = np.array([2, 2, 2, 1, 0], np.uint16)
    events = Events(
        t, x, y, np.array([1, 0, 1, 1, 1], np.uint8), 8, 4, 50, np.array([0, 0, 1, 2, 0], np.uint8)
    )
    with create_events(
        tmp_path / "a.h5", 8, 4, t_origin=50, labels=True, seed=9, config={"preset": "ideal"}
    ) as writer:
        writer.append(events)
    with open_events(tmp_path / "a.h5") as recording:
        facts = json.loads(json.dumps(describe(recording)))
    assert facts["events"] == 5
    assert (facts["on"], facts["off"], facts["on_share"]) == (4, 1, 0.8)
    assert (facts["t_first_us"], facts["t_last_us"], facts["t_origin"]) == (1000, 9500, 50)
    assert (facts["duration_s"], facts["mean_rate_hz"]) == (0.0085, pytest.approx(5 / 0.0085))
    assert facts["labels"] == {"signal": 0.6, "shot noise": 0.2, "leak": 0.2}
    assert facts["busiest_pixel"] == {"x": 3, "y": 2, "events": 3, "share": 0.6}
    assert facts["largest_gap"] == {"us": 7000, "after_us": 2000}
    assert facts["attributes"]["seed"] == 9
    assert facts["attributes"]["config"] == {"preset": "ideal"}


@pytest.mark.parametrize("name", WRITTEN)
def test_description_of_nothing_is_still_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    save_events(Events.empty(5, 4), path, format=name, **OPTIONS.get(name, {}))
    with open_events(path, size=(5, 4)) as recording:
        facts = describe(recording)
    assert (facts["events"], facts["on_share"], facts["mean_rate_hz"]) == (0, None, None)
