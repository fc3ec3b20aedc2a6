"""Data sets of window sequences: which windows there are, what they hold, what decides a sample."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recorded import drawn_events, write_recording
from torch.utils.data import Dataset

from evsim.errors import ConfigError, InputError
from evsim.formats import NativeWriter, open_events, save_events
from evsim.models.data.augmentation import AugmentationConfig, Placement, draw_placement, published_placement
from evsim.models.data.dataset import FirstSamples, Share, StepSampler, batches_of, make_loader
from evsim.models.data.sequences import SequenceConfig, SequenceDataset, voxel_sequences
from evsim.models.data.sources import Source, find_recordings
from evsim.models.data.stretch import Stretch, reverse
from evsim.models.data.tables import WindowConfig, make_table
from evsim.randomness import RandomDraws
from evsim.represent import voxel_grid

PLAIN = AugmentationConfig(flip_x=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder: split train with clips of 10 and 4 images."""
    root = tmp_path_factory.mktemp("run")
    (root / "train" / "a").mkdir(parents=True)
    write_recording(root / "train" / "a" / "long.h5", 1)
    write_recording(root / "train" / "short.h5", 2, images=4)
    (root / "manifest.jsonl").touch()
    return root


# --- which recordings -------------------------------------------------------------------------------------


def test_a_run_folder_a_split_a_file_and_a_list_name_recordings(folder: Path, tmp_path: Path) -> None:
    long, short = folder / "train" / "a" / "long.h5", folder / "train" / "short.h5"
    assert find_recordings(folder) == find_recordings(folder / "train") == [long, short]
    assert find_recordings([short, long]) == [short, long]
    (tmp_path / "list.txt").write_text(f"{short}\n\n{long}\n")
    assert find_recordings(tmp_path / "list.txt") == [short, long]
    (tmp_path / "windows.txt").write_bytes(f"\ufeff{short} \r\n\r\n{long}\r\n \r\n".encode())
    assert find_recordings(tmp_path / "windows.txt") == [short, long]
    save_events(drawn_events(3), tmp_path / "memmaps" / "one")
    (tmp_path / "memmaps" / "train_memmap.txt").write_text("one\n")
    assert find_recordings(tmp_path / "memmaps" / "train_memmap.txt") == [tmp_path / "memmaps" / "one"]
    assert find_recordings(tmp_path / "memmaps") == [tmp_path / "memmaps" / "one"]


def test_what_is_not_there_or_empty_or_named_twice_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        find_recordings(tmp_path / "gone")
    with pytest.raises(InputError, match="holds no event recording"):
        find_recordings(tmp_path)
    with pytest.raises(InputError, match="named more than once"):
        find_recordings([folder, folder / "train" / "short.h5"])
    (tmp_path / "list.txt").write_text(f"{folder / 'train' / 'short.h5'}\nmissing.h5\n")
    with pytest.raises(InputError, match=r"list\.txt, line 2: missing\.h5"):
        find_recordings(tmp_path / "list.txt")


def test_a_recording_without_a_window_is_an_error_with_the_counts(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no sequence of 12 windows in 2 recordings.*long\.h5: 9, short"):
        SequenceDataset(folder, SequenceConfig(length=12))
    assert len(SequenceDataset(folder, SequenceConfig(length=9))) == 1


# --- windows ----------------------------------------------------------------------------------------------


@pytest.mark.needs_parity("rled_tiny_items.npz")
@pytest.mark.needs_data
def test_windows_are_those_of_the_published_loader(data: Path, parity: Path) -> None:
    source = Source(data / "rled_tiny_memmap" / "rled_tiny")
    with np.load(parity / "rled_tiny_items.npz") as wanted:
        for prefix, seed in (("train_i0_seed3", 3), ("train_i1_seed4", 4), ("train_i3_seed5", 5)):
            index = int(prefix[7])
            placement = published_placement(seed, source.size, (16, 16))
            top, left, flip_x, flip_y = wanted[f"{prefix}_meta"][2:6]
            assert placement == Placement(
                left=int(left), top=int(top), width=16, height=16, flip_x=bool(flip_x), flip_y=bool(flip_y)
            )
            table = make_table(source, WindowConfig(kind="stored"))
            events = placement.events(source.rows(*map(int, table.rows[index])))
            found = np.stack([events.x, events.y, events.t / 1e6, events.p * 2.0 - 1], 1)
            np.testing.assert_allclose(found, wanted[f"{prefix}_events"], rtol=1e-6)
            image = placement.image(source.image(int(table.images[index]))) / 255
            np.testing.assert_allclose(image[None], wanted[f"{prefix}_frame"], rtol=1e-6)
            assert table.ends_us[index] == wanted[f"{prefix}_meta"][0]


@pytest.mark.needs_parity("rled_tiny_items.npz")
@pytest.mark.needs_data
def test_windows_of_k_events_are_those_of_the_published_loader(data: Path, parity: Path) -> None:
    source = Source(data / "rled_tiny.h5")
    table = make_table(source, WindowConfig(kind="k_events", events=700, overlap=1 / 7))
    with np.load(parity / "rled_tiny_items.npz") as wanted:
        np.testing.assert_array_equal(table.rows, wanted["k700_w100_indices"])


def test_windows_between_frames_partition_the_events_between_the_images(folder: Path) -> None:
    source = Source(folder / "train" / "short.h5")
    table = make_table(source, WindowConfig())
    assert table.images.tolist() == [1, 2, 3]
    assert table.ends_us.tolist() == [10_000, 20_000, 30_000]
    t = source.recording.events().t
    for (start, stop), end in zip(table.rows, table.ends_us):
        assert t[start:stop].tolist() == t[(t > end - 10_000) & (t <= end)].tolist()


def test_windows_of_seconds_overlap_as_told_and_are_whole(folder: Path) -> None:
    source = Source(folder / "train" / "short.h5")
    table = make_table(source, WindowConfig(kind="t_seconds", seconds=0.02, overlap=0.5))
    t = source.recording.events().t
    assert np.diff(table.ends_us).tolist() == [10_000.0] * (len(table) - 1)
    assert t[-1] - 10_000 < table.ends_us[-1] <= t[-1]
    for (start, stop), end in zip(table.rows, table.ends_us):
        assert t[start:stop].tolist() == t[(t >= end - 20_000) & (t < end)].tolist()


def test_windows_may_be_given(folder: Path) -> None:
    path = folder / "train" / "short.h5"
    dataset = SequenceDataset(path, SequenceConfig(length=2, augmentation=PLAIN), tables=[[[0, 5], [3, 9]]])
    stretch = dataset[0]
    with open_events(path) as recording:
        t = recording.events().t
    assert [stretch.window(k).t.tolist() for k in range(2)] == [t[:5].tolist(), t[3:9].tolist()]
    assert stretch.edges_us.tolist() == [[t[0], t[4]], [t[3], t[8]]]
    with pytest.raises(InputError, match=r"window 1 is \[3, 99999\]"):
        SequenceDataset(path, SequenceConfig(length=1), tables=[[[0, 5], [3, 99_999]]])


@pytest.fixture
def blurry(tmp_path: Path) -> Path:
    """Images exposed 0..20 ms and 30..50 ms, twice the size of the sensor, each behind two sharp ones."""
    with NativeWriter(tmp_path / "blurry.h5", 20, 16) as writer:
        writer.append(drawn_events(4))
        for k, begin in enumerate((0.0, 30_000.0)):
            for sharp in (5_000.0, 15_000.0):
                image = np.full((32, 40), 100 * k + sharp / 1000, np.uint8)
                writer.append_image(image, begin + sharp, kind="sharp")
            writer.append_image(
                np.full((32, 40), 200 + k, np.uint8), begin + 20_000, exposure_us=20_000.0, kind="blurry"
            )
    return tmp_path / "blurry.h5"


def test_windows_of_exposures_hold_their_blurry_and_sharp_images(blurry: Path) -> None:
    config = SequenceConfig(length=1, windows=WindowConfig(kind="exposures"), augmentation=PLAIN)
    dataset = SequenceDataset(blurry, config)
    with open_events(blurry) as recording:
        t = recording.events().t
    assert len(dataset) == 2
    for index, begin in enumerate((0, 30_000)):
        stretch: Stretch = dataset[index]
        assert stretch.edges_us.tolist() == [[begin, begin + 20_000]]
        assert stretch.window(0).t.tolist() == t[(t >= begin) & (t < begin + 20_000)].tolist()
        assert [(image.kind, image.t_us - begin, image.exposure_us) for image in stretch.images] == [
            ("sharp", 5_000, 0),
            ("sharp", 15_000, 0),
            ("blurry", 20_000, 20_000),
        ]
        assert stretch.window_image(0) is stretch.opening_image(0) is stretch.images[2]
        assert stretch.image_scale == (2, 2)
        assert int(stretch.images[2].image[0, 0]) == 200 + index


def test_exposures_stay_around_their_sharp_images_when_time_is_reversed(blurry: Path) -> None:
    config = SequenceConfig(length=2, windows=WindowConfig(kind="exposures"), augmentation=PLAIN)
    stretch: Stretch = SequenceDataset(blurry, config)[0]
    backwards = reverse(stretch)
    assert [image[1:] for image in backwards.images] == [image[1:] for image in stretch.images]
    # The last blurry image, with 100 behind it, comes first.
    assert [int(image.image[0, 0]) for image in backwards.images] == [115, 105, 201, 15, 5, 200]
    assert backwards.window_images.tolist() == backwards.opening_images.tolist() == [2, 5]
    again = reverse(backwards)
    assert [int(image.image[0, 0]) for image in again.images] == [5, 15, 200, 105, 115, 201]


def test_sharp_images_behind_blurry_ones_are_no_ends_of_windows(blurry: Path, folder: Path) -> None:
    stretch: Stretch = SequenceDataset(blurry, SequenceConfig(length=1, augmentation=PLAIN))[0]
    assert stretch.edges_us.tolist() == [[20_000, 50_000]]
    assert [image.kind for image in stretch.images] == ["blurry", "sharp", "sharp", "blurry"]
    assert (stretch.opening_images.tolist(), stretch.window_images.tolist()) == ([0], [3])
    with pytest.raises(InputError, match=r"short\.h5 holds 4 images and the exposure of none"):
        SequenceDataset(folder / "train" / "short.h5", SequenceConfig(windows=WindowConfig(kind="exposures")))


def test_crops_of_images_of_another_size_show_what_the_events_show(blurry: Path) -> None:
    config = SequenceConfig(
        length=1,
        windows=WindowConfig(kind="exposures"),
        augmentation=AugmentationConfig(crop=(7, 5), flip_y=0.5),
    )
    stretch: Stretch = SequenceDataset(blurry, config)[0]
    assert (stretch.events.width, stretch.events.height) == (7, 5)
    assert {image.image.shape for image in stretch.images} == {(10, 14)}


def test_images_are_needed_for_windows_between_them(tmp_path: Path) -> None:
    with NativeWriter(tmp_path / "dark.h5", 20, 16) as writer:
        writer.append(drawn_events(1))
    with pytest.raises(InputError, match=r"dark\.h5 holds 0 images.*k_events or t_seconds"):
        SequenceDataset(tmp_path / "dark.h5")
    with pytest.raises(InputError, match="no index table"):
        SequenceDataset(tmp_path / "dark.h5", SequenceConfig(windows=WindowConfig(kind="stored")))
    with pytest.raises(ConfigError, match="overlap = 1"):
        WindowConfig(overlap=1.0)


def test_formats_read_only_as_a_stream_give_the_same_samples(folder: Path, tmp_path: Path) -> None:
    path = folder / "train" / "short.h5"
    with open_events(path) as recording:
        save_events(recording.events(), tmp_path / "events.txt")
    config = SequenceConfig(length=2, windows=WindowConfig(kind="k_events", events=400))
    one = SequenceDataset(path, config, transform=voxel_sequences(3))
    other = SequenceDataset(
        tmp_path / "events.txt", config, transform=voxel_sequences(3), options={"size": (20, 16), "unit": "s"}
    )
    assert len(one) == len(other) == 3
    for a, b in zip(one, other):
        assert torch.equal(a["voxels"], b["voxels"])


# --- crops and flips --------------------------------------------------------------------------------------


@given(
    flips=st.tuples(st.booleans(), st.booleans()),
    left=st.integers(0, 8),
    top=st.integers(0, 6),
)
def test_events_and_image_stay_together(flips: tuple[bool, bool], left: int, top: int) -> None:
    placement = Placement(left=left, top=top, width=12, height=10, flip_x=flips[0], flip_y=flips[1])
    events = drawn_events(5, 300)
    counts = np.zeros((16, 20), np.uint8)
    np.add.at(counts, (events.y, events.x), 1)
    moved = placement.events(events).validate()
    again = np.zeros((10, 12), np.uint8)
    np.add.at(again, (moved.y, moved.x), 1)
    np.testing.assert_array_equal(again, placement.image(counts))
    assert (moved.width, moved.height) == (12, 10)


def test_crops_reach_every_place_and_validation_takes_the_centre() -> None:
    config = AugmentationConfig(crop=(18, 15))
    found = [draw_placement(config, (20, 16), RandomDraws(0, str(k), "test")) for k in range(60)]
    assert {(p.left, p.top) for p in found} == set(itertools.product(range(3), range(2)))
    assert {p.flip_x for p in found} == {True, False}
    centre = draw_placement(config.without_draws(), (20, 16), RandomDraws(0, "", "test"))
    assert centre == Placement(left=1, top=0, width=18, height=15)
    with pytest.raises(InputError, match="crop of 30x10 is larger than the recording of 20x16"):
        draw_placement(AugmentationConfig(crop=(30, 10)), (20, 16), RandomDraws(0, "", "test"))


# --- samples and loaders ----------------------------------------------------------------------------------


def test_a_sample_is_the_windows_of_one_recording_in_order(folder: Path) -> None:
    dataset = SequenceDataset(folder, SequenceConfig(length=3, stride=2, augmentation=PLAIN))
    assert len(dataset) == 4 + 1
    stretch: Stretch = dataset[1]
    assert stretch.edges_us.tolist() == [[20_000, 30_000], [30_000, 40_000], [40_000, 50_000]]
    with open_events(folder / "train" / "a" / "long.h5") as recording:
        images, t = list(recording.images()), recording.events().t
    assert [image.t_us for image in stretch.images] == [20_000, 30_000, 40_000, 50_000]
    for window in range(3):
        begin, end = 20_000 + 10_000 * window, 30_000 + 10_000 * window
        assert stretch.window(window).t.tolist() == t[(t > begin) & (t <= end)].tolist()
        np.testing.assert_array_equal(stretch.opening_image(window).image, images[2 + window].image)
        np.testing.assert_array_equal(stretch.window_image(window).image, images[3 + window].image)
    name = f"{folder / 'train' / 'a' / 'long.h5'}, windows 2 to 4"
    assert (stretch.key, dataset.describe(1)) == (name, name)
    voxels = SequenceDataset(
        folder, SequenceConfig(length=3, stride=2, augmentation=PLAIN), transform=voxel_sequences(4)
    )[1]
    np.testing.assert_array_equal(voxels["voxels"][0], voxel_grid(stretch.window(0), 4))
    np.testing.assert_allclose(voxels["images"][2, 0], images[5].image / 255.0, rtol=1e-6)
    with pytest.raises(IndexError):
        _ = dataset[5]


def batches(dataset: Dataset[Any], workers: int, first: int = 0) -> list[torch.Tensor]:
    keys = StepSampler(len(dataset), 7, Share(batch_size=2), first, 6)  # type: ignore[arg-type]
    found = make_loader(dataset, keys, 7, workers=workers)
    return [batch["voxels"] if isinstance(batch, dict) else batch for batch in found]


def test_batches_do_not_depend_on_the_number_of_loader_processes(folder: Path) -> None:
    config = SequenceConfig(length=2, augmentation=AugmentationConfig(crop=(12, 10), flip_y=0.5))
    dataset = SequenceDataset(folder, config, transform=voxel_sequences(2))
    _ = dataset[0]  # files are open here before the processes are forked, and OpenCV's threads run
    cv2.GaussianBlur(np.zeros((400, 400)), (0, 0), 5.0)
    alone = batches(dataset, 0)
    for shared in (batches(dataset, 2), batches(pickle.loads(pickle.dumps(dataset)), 0)):
        assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(alone[4:], batches(dataset, 0, first=4), strict=True))


class Drawing(Dataset[torch.Tensor]):
    """Somebody's data set, which draws from the process-wide generators."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.rand(1) + np.random.rand() + index  # noqa: NPY002


def test_data_sets_that_draw_globally_are_seeded_for_each_sample() -> None:
    alone = batches(Drawing(), 0)
    assert all(torch.equal(a, b) for a, b in zip(alone, batches(Drawing(), 2), strict=True))
    assert len({float(value) for batch in alone for value in batch.reshape(-1)}) == 12


@given(
    count=st.integers(1, 9),
    parts=st.integers(1, 3),
    processes=st.integers(1, 3),
    size=st.integers(1, 2),
    first=st.integers(0, 4),
)
def test_processes_and_parts_share_the_samples_of_each_step(
    count: int, parts: int, processes: int, size: int, first: int
) -> None:
    batch_size = parts * processes * size
    whole = list(StepSampler(count, 3, Share(batch_size=batch_size), first, 6))
    shares = [
        list(
            StepSampler(
                count, 3, Share(batch_size=batch_size, parts=parts, process=p, processes=processes), first, 6
            )
        )
        for p in range(processes)
    ]
    for step in range(6 - first):
        pieces = [key for part in range(parts) for share in shares for key in share[step * parts + part]]
        assert pieces == whole[step]
    from_begin = [key for step in StepSampler(count, 3, Share(batch_size=batch_size), 0, 6) for key in step]
    for epoch in range(len(from_begin) // count):
        indices = [key.index for key in from_begin[epoch * count : (epoch + 1) * count]]
        assert sorted(indices) == list(range(count))


def test_all_samples_are_validated_once_over_the_processes() -> None:
    found = [batches_of(Drawing(), 0, batch_size=2, process=p, processes=2) for p in range(2)]
    assert [sizes for _, sizes in found] == [[2, 1], [2]]
    values = [int(v) for loader, _ in found for batch in loader for v in batch.reshape(-1) // 1]
    assert len(values) == 5


def test_samples_to_overfit_are_drawn_once(folder: Path) -> None:
    dataset = SequenceDataset(folder, SequenceConfig(length=2), transform=voxel_sequences(2))
    few = FirstSamples(dataset, 2)
    draws = RandomDraws(0, "anything", "else")
    assert len(few) == 2
    assert torch.equal(few.sample(1, draws)["voxels"], dataset[1]["voxels"])
    with pytest.raises(InputError, match="at least 1"):
        FirstSamples(dataset, 0)
