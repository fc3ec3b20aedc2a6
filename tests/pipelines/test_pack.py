"""`pack_rled`: the split, the layout, and the bytes of the published converter."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from evsim.errors import InputError
from evsim.events import Events
from evsim.formats import NativeWriter, open_events
from evsim.pipelines.packing.rled import case_sensitive_order, pack_rled


def write_sequence(path: Path, n: int = 50) -> Path:
    """A simulated file of two images around `n` events."""
    t = np.arange(1, n + 1)
    zeros = np.zeros(n, np.uint16)
    with NativeWriter(path, 8, 6, seed=1, config={"a": 1}) as writer:
        writer.append_image(np.zeros((6, 8), np.uint8), 0.0)
        writer.append(Events(t, zeros, zeros, np.ones(n, np.uint8), 8, 6))
        writer.append_image(np.ones((6, 8), np.uint8), float(n))
    return path


def tree(folder: Path, count: int) -> Path:
    for k in range(count):
        write_sequence(folder / ("night" if k % 2 else "day") / f"city_{k}.h5")
    return folder


def lines(path: Path) -> list[Path]:
    return [Path(line) for line in path.read_text().splitlines()]


@pytest.mark.needs_data
def test_memory_map_of_rled_is_the_published_one(data: Path, tmp_path: Path) -> None:
    summary = pack_rled(data / "rled_tiny.h5", tmp_path / "out", memmap=True)
    packed = tmp_path / "out" / "rled_tiny"
    for published in (data / "rled_tiny_memmap" / "rled_tiny").iterdir():
        assert (packed / published.name).read_bytes() == published.read_bytes(), published.name
    assert summary.sequences == (packed,)
    assert (summary.events, summary.images) == (5000, 5)


@pytest.mark.needs_data
def test_rled_stays_rled_without_memmap(data: Path, tmp_path: Path) -> None:
    pack_rled(data / "rled_tiny.h5", tmp_path / "out", memmap=False)
    with h5py.File(data / "rled_tiny.h5") as source, h5py.File(tmp_path / "out" / "rled_tiny.h5") as packed:
        for name in ("events/xs", "events/ys", "events/ts", "events/ps", "event_indices"):
            np.testing.assert_array_equal(packed[name][:], source[name][:])
            assert packed[name].dtype == source[name].dtype
        for name, value in source.attrs.items():
            np.testing.assert_array_equal(packed.attrs[name], value, err_msg=name)
        for name, image in source["images"].items():
            np.testing.assert_array_equal(packed["images"][name][:], image[:])
            for key, value in image.attrs.items():
                np.testing.assert_array_equal(packed["images"][name].attrs[key], value, err_msg=key)


def test_every_tenth_sequence_in_natural_order_validates(tmp_path: Path) -> None:
    source = tree(tmp_path / "source", 12)
    summary = pack_rled(source, tmp_path / "out", memmap=True)
    order = [path.relative_to(tmp_path / "out").as_posix() for path in summary.sequences]
    assert order == [f"day/city_{k}" for k in range(0, 12, 2)] + [f"night/city_{k}" for k in range(1, 12, 2)]
    assert lines(tmp_path / "out" / "val_memmap.txt") == [summary.sequences[0], summary.sequences[10]]
    trained = lines(tmp_path / "out" / "train_memmap.txt")
    assert trained == [path for k, path in enumerate(summary.sequences) if k % 10]
    assert summary.train == tuple(trained)
    for path in trained:
        with open_events(path) as recording:
            assert len(recording) == 50
            assert recording.event_windows is not None
            assert recording.event_windows.tolist() == [[0, 0], [0, 50]]


def test_a_single_sequence_trains(tmp_path: Path) -> None:
    summary = pack_rled(write_sequence(tmp_path / "a.h5"), tmp_path / "out", memmap=True)
    assert summary.train == summary.sequences
    assert (tmp_path / "out" / "val_memmap.txt").read_text() == ""
    assert summary.notes


def test_validation_share_is_drawn_with_the_seed(tmp_path: Path) -> None:
    source = tree(tmp_path / "source", 10)
    splits = [
        pack_rled(source, tmp_path / f"out{k}", memmap=True, val_fraction=0.3, seed=seed)
        for k, seed in enumerate((1, 1, 2))
    ]
    names = [[path.name for path in summary.validation] for summary in splits]
    assert [len(split) for split in names] == [3, 3, 3]
    assert names[0] == names[1] != names[2]
    assert all(set(summary.train).isdisjoint(summary.validation) for summary in splits)


def test_hdf5_output_gets_image_windows_at_the_same_place(tmp_path: Path) -> None:
    source = tree(tmp_path / "source", 2)
    summary = pack_rled(source, tmp_path / "out", memmap=False)
    assert summary.sequences == (tmp_path / "out/day/city_0.h5", tmp_path / "out/night/city_1.h5")
    with h5py.File(summary.sequences[1]) as packed:
        assert packed["event_indices"][:].tolist() == [[0, 0], [0, 50]]
        assert packed.attrs["seed"] == 1
    assert (summary.train, summary.validation) == ((), ())


def test_unusable_requests_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = tree(tmp_path / "source", 2)
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"holds no \*\.h5"):
        pack_rled(tmp_path / "empty", out, memmap=True)
    with pytest.raises(InputError, match="no such"):
        pack_rled(tmp_path / "missing", out, memmap=True)
    with pytest.raises(InputError, match="its own source"):
        pack_rled(source, source, memmap=False, overwrite=True)
    with pytest.raises(InputError, match="comma"):
        pack_rled(source, tmp_path / "a,b", memmap=True)
    with pytest.raises(InputError, match="share"):
        pack_rled(source, out, memmap=True, val_fraction=1.0)
    (source / "day" / "city_0.hdf5").write_bytes((source / "day" / "city_0.h5").read_bytes())
    with pytest.raises(InputError, match="more than one source"):
        pack_rled(source, out, memmap=True)
    assert not out.exists()


def test_existing_outputs_are_replaced_only_when_asked(tmp_path: Path) -> None:
    source = write_sequence(tmp_path / "a.h5")
    pack_rled(source, tmp_path / "out", memmap=True)
    with pytest.raises(InputError, match="--overwrite"):
        pack_rled(source, tmp_path / "out", memmap=True)
    write_sequence(tmp_path / "b" / "a.h5", 70)
    summary = pack_rled(tmp_path / "b" / "a.h5", tmp_path / "out", memmap=True, overwrite=True)
    with open_events(summary.sequences[0]) as recording:
        assert len(recording) == 70


def test_natural_order_counts() -> None:
    names = ["b_10.h5", "b_9.h5", "a_2/x.h5", "a_10/x.h5"]
    assert sorted(names, key=lambda name: case_sensitive_order(Path(name))) == [
        "a_2/x.h5",
        "a_10/x.h5",
        "b_9.h5",
        "b_10.h5",
    ]


@pytest.mark.parametrize("memmap", [True, False])
def test_images_of_another_size_are_refused_before_anything_is_written(tmp_path: Path, memmap: bool) -> None:
    with NativeWriter(tmp_path / "a.h5", 8, 6) as writer:
        writer.append_image(np.zeros((3, 4), np.uint8), 0.0)
    with pytest.raises(InputError, match="image 0 is 4x3 pixels on a sensor of 8x6, and RLED"):
        pack_rled(tmp_path / "a.h5", tmp_path / "out", memmap=memmap)
    assert not (tmp_path / "out").exists()


def test_exposures_have_no_place_in_a_memory_map(tmp_path: Path) -> None:
    with NativeWriter(tmp_path / "a.h5", 8, 6) as writer:
        writer.append_image(np.zeros((6, 8), np.uint8), 5.0, exposure_us=5.0, kind="blurry")
    notes = pack_rled(tmp_path / "a.h5", tmp_path / "out", memmap=True).notes
    assert any("exposures of 1 images were dropped" in note for note in notes)
