"""What single formats promise beyond the contract: clocks that start again, repairs, folders, fixtures."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import foreign_files
import h5py
import numpy as np
import pytest
from format_conformance import assert_same, make_events

from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats import convert, create_events, open_events, save_events
from evsim.formats.evreal import EvrealRecording
from evsim.formats.gem_npz import GemRecording
from evsim.formats.storage.sidecar import index_path

EPOCH = 1_700_000_000_000_000


def column_events(t: Any, **options: Any) -> Events:
    """Events at the given times, walking along the diagonal of a 40x30 sensor."""
    times = np.asarray(t, np.int64)
    x = (np.arange(len(times)) % 30).astype(np.uint16)
    return Events(times, x, x, (x % 2).astype(np.uint8), 40, 30, **options)


@pytest.mark.parametrize(
    ("suffix", "times"),
    [
        (".dat", [5, 2**31, 2**32 - 1, 2**32 + 3, 3 * 2**31, 2**33 - 7, 2**33 + 1]),
        (".raw", [5, 2**34 - 1, 2**34, 2**35 + 9, 2**36]),
        (".raw", [2**40 + 1, 2**40 + 2**33, 2**40 + 2**34]),
    ],
)
def test_a_clock_that_starts_again_runs_on_and_is_reported(
    tmp_path: Path, suffix: str, times: list[int]
) -> None:
    events = column_events(times)
    path = save_events(events, tmp_path / f"a{suffix}")
    with open_events(path) as recording:
        assert_same(recording.events(), events)
        assert sum(recording.repairs.values()) >= 1
        assert_same(recording.between(times[-2], times[-1]), events[len(events) - 2 : len(events) - 1])
    assert any("clock started again" in sentence for sentence in convert(path, tmp_path / "b.h5"))


def test_a_pause_that_dat_cannot_tell_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="starts again after 2\\^32 us"):
        save_events(column_events([0, 2**32 + 5]), tmp_path / "a.dat")


def test_evt3_runs_on_beyond_16_seconds_and_across_blocks(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("evsim.formats.storage.words.WORDS", 37)
    events = make_events(3000, width=64, height=48, span=60_000_000)
    path = foreign_files.write_evt3(events, tmp_path / "a.raw")
    with open_events(path) as recording:
        assert_same(recording.events(), events)
        assert list(recording.repairs.values()) == [0, 3]
        assert_same(recording.between(20_000_000, 40_000_000), events.between(20_000_000, 40_000_000))


def test_events_before_the_first_time_are_left_out_and_counted(tmp_path: Path) -> None:
    words = np.array([0x0003, 0x2801, 0x8001, 0x6005, 0x2802], "<u2")
    path = tmp_path / "a.raw"
    path.write_bytes(b"% evt 3.0\n% geometry 8x8\n% end\n" + words.tobytes())
    with open_events(path) as recording:
        events = recording.events()
        assert (events.t.tolist(), events.x.tolist(), events.y.tolist()) == ([4096 + 5], [2], [3])
        assert recording.repairs["events before the first word of time were left out"] == 1


def test_32_bit_formats_get_the_whole_seconds_of_late_times_as_origin(tmp_path: Path) -> None:
    late = column_events([2**40, 2**40 + 10])
    path = save_events(late, tmp_path / "a.h5")
    for name in ("b.dsec.h5", "b.v2e.h5"):
        with pytest.raises(InputError, match="t_origin keeps it"):
            save_events(late, tmp_path / name)
        assert any(
            "went to t_origin; absolute times are unchanged" in s for s in convert(path, tmp_path / name)
        )
        with open_events(tmp_path / name) as recording:
            np.testing.assert_array_equal(recording.events().t + recording.t_origin, late.t)


@pytest.mark.parametrize("name", ["a.h5", "a.npz", "a.npy", "a.txt", "a.evreal", "a.raw_memmap"])
def test_unix_times_go_to_the_origin(tmp_path: Path, name: str) -> None:
    events = column_events(EPOCH + np.arange(100) * 1000 + 77)
    path = tmp_path / name
    if name == "a.h5":
        with h5py.File(path, "w") as file:
            for key, column in (("xs", events.x), ("ys", events.y), ("ts", events.t / 1e6), ("ps", events.p)):
                file[f"events/{key}"] = column
    elif name == "a.npz":
        np.savez(path, t=events.t / 1e6, x=events.x, y=events.y, p=events.p)
    elif name == "a.npy":
        np.save(path, np.stack([events.t / 1e6, events.x, events.y, events.p], 1))
    elif name == "a.txt":
        save_events(events, path, header="none")
    elif name == "a.evreal":
        save_events(events, path)
    else:
        foreign_files.write_raw_memmap(events, path)
        (events.t / 1e6).tofile(path / "t.npy")
    with open_events(path, size=(40, 30), unit="s") as recording:
        assert recording.t_origin == EPOCH
        assert_same(recording.events(), column_events(np.arange(100) * 1000 + 77, t_origin=EPOCH))
        assert len(recording.between(77, 1078)) == 2


def test_old_polarity_of_v2e_is_repaired_and_reported(tmp_path: Path) -> None:
    rows = np.array([[1, 2, 3, 1], [5, 3, 4, 4294967295], [9, 3, 4, 4294967295]], np.uint32)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["events"] = rows
    with pytest.raises(InputError, match="--size"):
        open_events(path)
    with open_events(path, size=(346, 260)) as recording:
        assert recording.format == "v2e_hdf5"
        assert recording.events().p.tolist() == [1, 0, 0]
    said = convert(path, tmp_path / "b.h5", size=(346, 260))
    assert any(sentence.startswith("2 OFF events were written as 4294967295") for sentence in said)


def test_old_polarity_in_text_of_v2e_is_repaired_and_reported_once(tmp_path: Path) -> None:
    path = tmp_path / "events.txt"
    path.write_text("#!events.txt\n0.25 3 4 4294967295\n0.5 3 4 1\n0.75 3 4 4294967295\n")
    with open_events(path, size=(346, 260)) as recording:
        assert len(recording) == 3
        assert recording.between(0, 300_000).p.tolist() == [0]
        assert recording.events().p.tolist() == [0, 1, 0]
        assert list(recording.repairs.values()) == [2]
    path.write_text("0.25 3 4 4294967295\n")
    with pytest.raises(FormatError, match="polarity is 4294967295"):
        open_events(path, size=(346, 260)).events()


def test_clock_of_v2e_runs_on(tmp_path: Path) -> None:
    times = np.array([5, 2**32 - 2, 2**32 + 1, 2**33 - 9, 2**33 + 4])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["events"] = np.stack([times % 2**32, times * 0, times * 0, times * 0], 1).astype(np.uint32)
    with open_events(tmp_path / "a.h5", size=(4, 4)) as recording:
        assert recording.events().t.tolist() == times.tolist()
        assert recording.between(2**32, 2**33).t.tolist() == times[2:4].tolist()


def test_text_of_v2e_with_a_noise_mark_has_labels(tmp_path: Path) -> None:
    path = tmp_path / "v2e-dvs-events.txt"
    path.write_text("#!events.txt\n# made by v2e\n0.25 3 4 1 1\n0.5 3 4 0 0\n")
    with open_events(path, size=(346, 260)) as recording:
        events = recording.events()
    assert events.label is not None
    assert (events.t.tolist(), events.label.tolist()) == ([250_000, 500_000], [0, 1])


def test_frames_of_v2e_are_kept(tmp_path: Path) -> None:
    events = column_events(range(1000))
    frames = np.random.default_rng(0).integers(0, 256, (3, 30, 40), np.uint8)
    with create_events(tmp_path / "a.v2e.h5", 40, 30) as writer:
        writer.append(events)
        for frame, t in zip(frames, (0.0, 300.0, 999.0)):
            writer.append_image(frame, t)
    with h5py.File(tmp_path / "a.v2e.h5") as file:
        assert (file["events"].dtype, file["frame"].dtype) == (np.uint32, np.uint8)
        assert file["frame_ts"][:].tolist() == [0, 300, 999]
        assert file["frame_idx"][:].tolist() == [0, 301, 1000]


@pytest.mark.needs_parity
def test_evreal_folder_is_read_and_written_as_published(parity: Path, tmp_path: Path) -> None:
    arrays = np.load(parity / "evreal_dataset_a.npz")
    published = tmp_path / "published"
    published.mkdir()
    names = ("events_ts", "events_xy", "events_p", "images", "images_ts", "image_event_indices")
    for name in names:
        np.save(published / f"{name}.npy", arrays[name])
    size = {"sensor_resolution": arrays["sensor_resolution"].tolist()}
    (published / "metadata.json").write_text(json.dumps(size))
    said = convert(published, tmp_path / "ours.evreal")
    assert any("rounded to whole microseconds" in sentence for sentence in said)
    for name in names:
        found, wanted = np.load(tmp_path / "ours.evreal" / f"{name}.npy"), arrays[name]
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=0.5e-6 if name.endswith("_ts") else 0)
    with open_events(tmp_path / "ours.evreal") as recording:
        assert isinstance(recording, EvrealRecording)
        last, times = recording.last_events, [image.t_us for image in recording.images()]
    assert last is not None
    # The published windows: from the previous image's last event, the first one empty.
    counts = np.diff(last, prepend=last[0])[: len(times) - 1]
    np.testing.assert_array_equal(counts, arrays["between_frames_meta"][:, 3])
    np.testing.assert_allclose(np.array(times[:-1]) / 1e6, arrays["between_frames_meta"][:, 0], atol=1e-6)


def eger(events: Events, start: int, end: int, target: float, bins: int = 16) -> np.ndarray:
    """GEM's representation for one instant, by its definition: (6 bins, height, width) counts."""
    inside = events.between(start, end)
    bin_of = np.minimum(((inside.t - start) / ((end - start) / bins)).astype(int), bins - 1)
    channel = 6 * bin_of + 2 * np.where(inside.t < target, 0, 2) + inside.p
    counts = np.zeros((6 * bins, events.height, events.width), np.uint8)
    np.add.at(counts, (channel, inside.y, inside.x), 1)
    return counts


@pytest.mark.needs_parity
def test_published_gem_sample_gives_the_published_representation(parity: Path, tmp_path: Path) -> None:
    expected = np.load(parity / "gem_pack_expected.npz")
    stored = np.load(parity / "gem_pack_sample.npz", allow_pickle=False)
    with open_events(parity / "gem_pack_sample.npz") as recording:
        assert isinstance(recording, GemRecording)
        events, exposures = recording.events(), recording.exposures
        blurry, sharp = list(recording.images()), list(recording.sharp_images())
    assert (recording.width, recording.height) == (48, 32)
    for number, (target, which) in enumerate(
        zip(expected["test_gt_target_ts"], expected["test_gt_which_blur"], strict=True)
    ):
        start, end = exposures[which - 1]
        np.testing.assert_array_equal(
            eger(events, int(start), int(end), target), expected["test_gt_eger"][number]
        )
        assert sharp[number].t_us == target
    np.testing.assert_array_equal(blurry[0].image, stored["blur1"][::-1].transpose(1, 2, 0))
    path = save_events(
        events,
        tmp_path / "a.gem.npz",
        exposures=exposures,
        blurry=[image.image for image in blurry],
        sharp_images=[image.image for image in sharp],
        sharp_times=[image.t_us for image in sharp],
    )
    ours = np.load(path, allow_pickle=False)
    for name in (
        "blur1",
        "blur2",
        "sharp_imgs",
        "sharp_timestamps",
        "exp_start1",
        "exp_end2",
        "scale_factor",
    ):
        np.testing.assert_array_equal(ours[name], stored[name], err_msg=name)
    with open_events(path) as recording:
        assert_same(recording.events(), events)


class _Command:
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("/nonexistent/run", "w"))


def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path: Path) -> None:
    events = np.array({"x": _Command()}, dtype=object)
    bounds = {"exp_start1": 0, "exp_end1": 1, "exp_start2": 2, "exp_end2": 3}
    np.savez(tmp_path / "a.npz", events=events, **bounds)
    with pytest.raises(FormatError, match="asks to run"):
        open_events(tmp_path / "a.npz", size=(4, 4))
    np.savez(tmp_path / "b.npz", events=np.frombuffer(pickle.dumps({}), np.uint8), **bounds)
    with pytest.raises(FormatError, match="expected one dictionary"):
        open_events(tmp_path / "b.npz", size=(4, 4))


def test_gem_events_out_of_order_are_sorted_and_counted(tmp_path: Path) -> None:
    order = np.array([0, 2, 1, 3])
    columns = {"t": order * 10, "x": order, "y": order, "p": np.array([1, -1, 1, -1])}
    bounds = {"exp_start1": 0, "exp_end1": 1, "exp_start2": 2, "exp_end2": 3}
    np.savez(tmp_path / "a.npz", events=np.array(columns, dtype=object), **bounds)
    with open_events(tmp_path / "a.npz", size=(4, 4)) as recording:
        assert recording.events().t.tolist() == [0, 10, 20, 30]
        assert recording.events().p.tolist() == [1, 1, 0, 0]
        assert sum(recording.repairs.values()) == 1


def write_gem(path: Path, **columns: Any) -> Path:
    """A published sample of four events on 4x4 pixels, with some columns replaced."""
    events = {"t": np.arange(4) * 10, "x": np.arange(4), "y": np.arange(4), "p": np.array([1, -1, 1, -1])}
    bounds = {"exp_start1": 0, "exp_end1": 1, "exp_start2": 2, "exp_end2": 3}
    blur = np.zeros((3, 4, 4), np.uint8)
    events.update(columns)
    np.savez(path, events=np.array(events, dtype=object), blur1=blur, scale_factor=1, **bounds)
    return path


def test_gem_events_between_pixels_stay_there_and_are_rounded_on_demand(tmp_path: Path) -> None:
    path = write_gem(tmp_path / "a.npz", x=np.array([0, 1.5, 2.25, 3.75]))
    with open_events(path) as recording:
        assert recording.subpixel
        assert recording.events().x.tolist() == [0, 1.5, 2.25, 3.75]
        assert recording.events().y.tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="--round"):
        convert(path, tmp_path / "a.h5")
    said = convert(path, tmp_path / "a.h5", round_coordinates=True)
    assert any("3 events were moved" in line for line in said)
    with open_events(tmp_path / "a.h5") as recording:
        assert recording.events().x.tolist() == [0, 2, 2, 3]  # 3.75 would leave the sensor


def test_whole_gem_coordinates_stored_as_floats_are_pixels(tmp_path: Path) -> None:
    with open_events(write_gem(tmp_path / "a.npz", x=np.arange(4.0), y=np.arange(4.0))) as recording:
        assert not recording.subpixel
        assert recording.events().x.dtype == np.uint16


def test_fractional_gem_times_need_a_unit(tmp_path: Path) -> None:
    path = write_gem(tmp_path / "a.npz", t=np.array([0, 0.25, 0.5000001, 2.0]))
    with pytest.raises(InputError, match="--unit"):
        open_events(path)
    with open_events(path, unit="s") as recording:
        assert recording.events().t.tolist() == [0, 250_000, 500_000, 2_000_000]
        assert recording.rounded_times > 0
        assert recording.exposures == ((0, 1e6), (2e6, 3e6))
        assert [image.t_us for image in recording.images()] == [1e6]
    with open_events(path, unit="us") as recording:
        assert recording.events().t.tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("lines", [["evt 2.1", "format EVT21;height=8;width=8"], ["evt 2.1"]])
def test_evt21_is_refused_by_name_with_a_way_out(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes("".join(f"% {line}\n" for line in [*lines, "end"]).encode() + bytes(64))
    for told in (None, "evt2", "evt3"):
        with pytest.raises(InputError, match=r"EVT2\.1.*metavision_file_to_dat"):
            open_events(path, size=(8, 8), format=told)


def test_time_lens_folder_pairs_files_with_images(tmp_path: Path) -> None:
    events = column_events(range(1, 1001))
    colour = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), np.uint8)
    with create_events(tmp_path / "a.timelens", 40, 30) as writer:
        writer.append(events)
        for image, t in zip(colour, (100.0, 500.5, 900.0)):
            writer.append_image(image, t)
    folder = tmp_path / "a.timelens"
    counts = [len(np.load(file)["t"]) for file in sorted((folder / "events").iterdir())]
    assert counts == [100, 400, 400, 100]  # up to each image, and after the last
    assert (folder / "images" / "timestamp.txt").read_text() == "100\n500.5\n900\n"
    with open_events(folder) as recording:
        assert_same(recording.events(), events)
        read = list(recording.images())
    for image, wanted, t in zip(read, colour, (100.0, 500.5, 900.0), strict=True):
        np.testing.assert_array_equal(image.image, wanted)
        assert (image.t_us, image.event_index) == (t, np.searchsorted(events.t, t) - 1)
    said = convert(folder, tmp_path / "b.timelens", pairing="sim2real", signed=True)
    assert any(
        sentence.startswith("200 events before the first or after the last image") for sentence in said
    )
    files = sorted((tmp_path / "b.timelens" / "events").iterdir())
    assert [len(np.load(file)["t"]) for file in files] == [400, 400]
    assert set(np.load(files[0])["p"].tolist()) == {-1, 1}


def test_real_scene_of_sim2real_is_read_without_image_times(tmp_path: Path) -> None:
    folder = tmp_path / "case01" / "RGB-EVS"
    folder.mkdir(parents=True)
    for number in (2, 10):
        t = number * 1000 + np.arange(5)
        np.savez(folder / f"{number}.npz", x=t % 7 + 0.5, y=t % 5 + 0.25, p=np.where(t % 2, 1, -1), t=t)
    with open_events(tmp_path / "case01", size=(8, 6)) as recording:
        assert (recording.format, recording.subpixel, recording.polarity) == ("timelens_npz", True, "-1/1")
        assert recording.events().t.tolist() == [*range(2000, 2005), *range(10_000, 10_005)]


def test_an_ecd_folder_brings_its_images_and_their_size(tmp_path: Path) -> None:
    events = make_events(500, width=40, height=30, span=90_000)
    images = np.random.default_rng(0).integers(0, 256, (3, 30, 40), np.uint8)
    times = [10_000.0, 41_000.0, 41_000.5]
    path = foreign_files.write_ecd_folder(events, tmp_path / "shapes_6dof", images, times)
    with open_events(path) as recording:
        assert (recording.format, recording.width, recording.height) == ("ecd_folder", 40, 30)
        np.testing.assert_array_equal(recording.events().t, events.t)
        np.testing.assert_array_equal(recording.image_times(), times)
        for found, image, time in zip(recording.images(), images, times, strict=True):
            np.testing.assert_array_equal(found.image, image)
            assert found.event_index == max(0, int(np.searchsorted(events.t, time)) - 1)


@pytest.mark.parametrize(
    ("line", "words"),
    [("0.02", "line 2"), ("x images/0.png", "line 2"), ("0.001 images/0.png", "0.001 s follows 0.01 s")],
)
def test_a_wrong_list_of_images_is_named_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    image = np.zeros((30, 40), np.uint8)
    path = foreign_files.write_ecd_folder(make_events(9), tmp_path / "a", [image], [10_000.0])
    with (path / "images.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(FormatError, match=words):
        open_events(path)


def test_bs_ergb_overflow_becomes_the_border_and_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    folder.mkdir()
    x = np.array([32, 48, 65536 - 16, 970 * 32], np.uint16)
    np.savez(folder / "0.npz", x=x, y=np.full(4, 33, np.uint16), timestamp=np.arange(4), polarity=x % 2)
    with open_events(tmp_path, size=(970, 625)) as recording:
        assert recording.events().x.tolist() == [1.0, 1.5, 0.0, 969.0]
        assert list(recording.repairs.values()) == [2]
    assert any("went to its border" in s for s in convert(tmp_path, tmp_path / "b.npz", size=(970, 625)))


def test_interval_frames_say_what_they_lose(tmp_path: Path) -> None:
    z = np.zeros(4, np.uint16)
    events = Events(np.array([1, 500, 1000, 3200]), z, z, np.array([1, 1, 0, 1], np.uint8), 4, 3)
    path = save_events(events, tmp_path / "a.h5")
    said = convert(path, tmp_path / "a.intervals")
    assert "2 events were lost: an interval keeps the last event of a pixel" in said
    assert "3 events were moved to the end of their interval" in said
    files = sorted((tmp_path / "a.intervals").iterdir())
    assert [int(np.load(file)[0, 0]) for file in files] == [-1, 0, 0, 1]  # also the empty ones
    with open_events(tmp_path / "a.intervals") as recording:
        assert recording.events().t.tolist() == [1000, 4000]


def test_simulated_frames_of_sim2real_need_their_rate(tmp_path: Path) -> None:
    for number in (1, 2, 4):  # an interval without events has no file
        np.save(tmp_path / f"{number:06d}.npy", np.eye(3, 4, dtype=np.int8))
    with pytest.raises(InputError, match=r"fps\.txt"):
        open_events(tmp_path)
    (tmp_path / "fps.txt").write_text("1920")
    with open_events(tmp_path) as recording:
        assert np.unique(recording.events().t).tolist() == [520, 1041, 2083]


def test_address_layouts_and_image_samples_of_aedat2(tmp_path: Path) -> None:
    events = make_events(100, width=240, height=180)
    marks = np.zeros(100, np.int64)
    marks[:10], marks[10:15] = 1 << 31, 1 << 10
    path = foreign_files.write_aedat2(events, tmp_path / "a.aedat", marks=marks)
    with open_events(path) as recording:
        assert_same(recording.events(), events[15:])
        assert (
            recording.repairs["records that are no events (image samples, special events) were passed over"]
            == 15
        )
    unknown = foreign_files.write_aedat2(make_events(5, width=128, height=128), tmp_path / "b.aedat")
    with pytest.raises(InputError, match="--size"):
        open_events(unknown)
    with pytest.raises(InputError, match="128x128"):
        open_events(unknown, size=(128, 128))


def test_nmnist_overflow_rows_move_the_clock(tmp_path: Path) -> None:
    rows = [[3, 4, 0x80, 0, 9], [0, 240, 0, 0, 0], [5, 6, 0x00, 0, 1]]
    (tmp_path / "a.bin").write_bytes(b"".join(map(bytes, rows)))
    with open_events(tmp_path / "a.bin", size=(34, 34)) as recording:
        events = recording.events()
    assert (events.t.tolist(), events.p.tolist(), events.x.tolist()) == ([9, 8193], [1, 0], [3, 5])


@pytest.mark.parametrize("name", ["a.raw", "a.txt.gz", "a.dat", "a.v2e.h5"])
def test_index_of_a_large_file_is_built_once_and_kept_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("evsim.formats.storage.sidecar.SMALLEST_BYTES", 0)
    monkeypatch.setattr("evsim.formats.storage.words.WORDS", 500)
    monkeypatch.setattr("evsim.formats.text.BLOCK", 500)
    monkeypatch.setattr("evsim.formats.storage.sidecar.STEP", 128)
    monkeypatch.setattr("evsim.formats.v2e_hdf5.STEP", 128)
    events = make_events(3000)
    path = save_events(events, tmp_path / name)
    for _ in range(2):
        with open_events(path) as recording:
            assert_same(recording.between(50_000, 60_000), events.between(50_000, 60_000))
    assert index_path(path).exists()
    kept = index_path(path).stat().st_mtime_ns
    with open_events(path) as recording:
        assert len(recording) == 3000
    assert index_path(path).stat().st_mtime_ns == kept
    other = make_events(2000, seed=1)
    save_events(other, path, overwrite=True)
    with open_events(path) as recording:
        assert_same(recording.between(50_000, 60_000), other.between(50_000, 60_000))
    index_path(path).write_bytes(b"PK\x03\x04 broken")
    with open_events(path) as recording:
        assert len(recording) == 2000


def test_columns_of_a_large_foreign_file_are_checked_and_indexed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evsim.formats.storage.sidecar.SMALLEST_BYTES", 0)
    for module in ("storage.sidecar", "native"):
        monkeypatch.setattr(f"evsim.formats.{module}.STEP", 128)
    times = np.sort(np.random.default_rng(0).integers(0, 900, 5000))  # more equal times than a step
    events = column_events(EPOCH + times)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, column in (("xs", events.x), ("ys", events.y), ("ts", events.t / 1e6), ("ps", events.p)):
            file.create_dataset(f"events/{name}", data=column, chunks=(64,))
    for _ in range(2):
        with open_events(path, size=(40, 30), unit="s") as recording:
            for t0, t1 in ((0, 900), (17, 18), (400, 431), (899, 900), (900, 999)):
                assert len(recording.between(t0, t1)) == np.count_nonzero((times >= t0) & (times < t1))
            assert recording.search(500, after=True) == np.count_nonzero(times <= 500)
        assert index_path(path).exists()
    index_path(path).write_bytes(b"PK")
    with open_events(path, size=(40, 30), unit="s") as recording:
        assert len(recording.between(400, 431)) == np.count_nonzero((times >= 400) & (times < 431))


def test_zarr_stores_shards_and_compresses(tmp_path: Path) -> None:
    described = json.loads(
        (save_events(make_events(3000), tmp_path / "a.zarr") / "t" / "zarr.json").read_text()
    )
    assert described["zarr_format"] == 3
    assert described["codecs"][0]["name"] == "sharding_indexed"
    assert described["codecs"][0]["configuration"]["codecs"][-1]["name"] == "blosc"


def test_images_of_another_size_than_the_sensor_are_kept_or_dropped_and_said(tmp_path: Path) -> None:
    events = column_events(range(100))
    image = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    path = save_events(events, tmp_path / "a.gem.npz", exposures=((0, 50), (60, 99)), blurry=[image, image])
    assert any("2 images were dropped" in sentence for sentence in convert(path, tmp_path / "b"))
    assert not any("dropped" in sentence for sentence in convert(path, tmp_path / "b.h5"))
    with open_events(tmp_path / "b.h5") as recording:
        assert (recording.width, recording.height) == (events.width, events.height)
        first, second = recording.images()
    assert [(found.t_us, found.exposure_us, found.kind) for found in (first, second)] == [
        (50.0, 50.0, "blurry"),
        (99.0, 39.0, "blurry"),
    ]
    np.testing.assert_array_equal(first.image, image)


def test_exposures_that_a_format_has_no_place_for_are_dropped_and_said(tmp_path: Path) -> None:
    events = column_events(range(100))
    image = np.full((events.height, events.width, 3), 7, np.uint8)
    path = save_events(events, tmp_path / "a.gem.npz", exposures=((0, 50), (60, 99)), blurry=[image, image])
    said = convert(path, tmp_path / "b.npz")
    assert "the exposures of 2 images were dropped: npz has no place for them" in said
    assert "the kinds of 2 images were dropped: npz has no place for them" in said
    with open_events(tmp_path / "b.npz") as recording:
        assert [(found.exposure_us, found.kind) for found in recording.images()] == [(0.0, "frame")] * 2
