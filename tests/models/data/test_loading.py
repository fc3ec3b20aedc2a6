"""Batches of what does not stack, and loaders whose processes start in any way."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from lightning_fabric.utilities.apply_func import move_data_to_device
from recorded import drawn_events, write_recording
from torch.utils.data import ConcatDataset

from evsim.errors import InputError
from evsim.events import Events
from evsim.models.data.augmentation import AugmentationConfig
from evsim.models.data.collate import (
    EventSequences,
    PaddedImages,
    RaggedEvents,
    collate_ragged,
    pad_images,
    ragged_events,
)
from evsim.models.data.dataset import FirstSamples, Share, StepSampler, describe_sample, make_loader
from evsim.models.data.sequences import SequenceConfig, SequenceDataset
from evsim.models.data.simulation import SimulatedDataset, SimulationData
from evsim.models.data.stretch import NO_IMAGE, Stretch
from evsim.models.data.triplets import TripletDataset


def stretch(seed: int, windows: int, begin: float = 0.0, count: int = 200) -> Stretch:
    events = drawn_events(seed, count)
    events = replace(events, t=events.t + int(begin))
    edges = begin + np.arange(windows + 1) * 90_000.0 / windows
    rows = np.searchsorted(events.t, np.stack([edges[:-1], edges[1:]], 1))
    none = np.full(windows, NO_IMAGE)
    return Stretch(events, (), rows, np.stack([edges[:-1], edges[1:]], 1), none, key=f"drawn {seed}")


# Batches


def test_events_of_a_batch_are_those_of_its_stretches_to_the_microsecond() -> None:
    hour = 3_600e6
    stretches = [stretch(0, 3), stretch(1, 1, hour + 0.25, count=50), stretch(2, 2, count=0)]
    batch = ragged_events(stretches)
    assert batch.t.dtype == torch.float64
    assert batch.origin_us.tolist() == [0, int(hour), 0]
    assert batch.offsets.tolist() == [0, 200, 250, 250]
    assert batch.batch_index().tolist() == [0] * 200 + [1] * 50
    assert batch.counts.tolist() == [3, 1, 2]
    for number, source in enumerate(stretches):
        inside = batch.batch_index() == number
        times = batch.t[inside].long() + batch.origin_us[number]
        assert times.tolist() == source.events.t.tolist()
        for name in "xyp":
            assert getattr(batch, name)[inside].tolist() == getattr(source.events, name).tolist()
        edges = batch.edges_us[number, : len(source)] + batch.origin_us[number]
        assert edges.tolist() == source.edges_us.tolist()
    for number in range(3):
        window = batch.window(number)
        lists = [s.window(number).x.tolist() if number < len(s) else [] for s in stretches]
        assert window.x.tolist() == list(itertools.chain(*lists))
        assert window.offsets.diff().tolist() == list(map(len, lists))
        assert window.counts.tolist() == [int(number < len(s)) for s in stretches]
        assert window.window(0).t.tolist() == window.t.tolist()
    with pytest.raises(InputError, match=r"events of 4x4, 20x16 pixels in one batch, expected one size"):
        ragged_events([stretches[0], replace(stretches[2], events=Events.empty(4, 4))])


def test_images_of_several_sizes_are_padded_and_masked() -> None:
    images = [torch.full((2, 1, 3, 5), 7.0), torch.full((2, 1, 4, 2), 9.0)]
    padded = pad_images(images)
    assert padded.images.shape == (2, 2, 1, 4, 5)
    for number, image in enumerate(images):
        mask = padded.mask()[number]
        assert mask.sum() == image.shape[-1] * image.shape[-2]
        assert torch.equal(padded.images[number][..., mask].reshape(image.shape), image)
        assert not padded.images[number][..., ~mask].any()
    with pytest.raises(InputError, match="expected the same but for height and width"):
        pad_images([images[0], images[1][0]])


def test_samples_are_collated_by_what_they_hold() -> None:
    samples = [
        {"events": stretch(k, 2), "same": torch.ones(3), "image": torch.ones(1, 2 + k, 4), "t": 0.5}
        for k in range(2)
    ]
    batch = collate_ragged(samples)
    assert isinstance(batch["events"], RaggedEvents)
    assert batch["same"].shape == (2, 3)
    assert isinstance(batch["image"], PaddedImages)
    assert batch["t"].tolist() == [0.5, 0.5]
    moved = move_data_to_device(batch, torch.device("meta"))
    assert moved["events"].t.device == moved["events"].edges_us.device == moved["image"].images.device
    assert (moved["events"].device.type, moved["events"].width) == ("meta", 20)
    with pytest.raises(InputError, match="expected the same"):
        collate_ragged([{"a": 1}, {"b": 1}])


# Loaders


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> ConcatDataset[Any]:
    """Recordings, clips and triplets in one, of the same keys and sizes; files are open."""
    folder = tmp_path_factory.mktemp("data")
    write_recording(folder / "one.h5", 1, images=4)
    rs = np.random.RandomState(0)
    np.save(
        folder / "clip.npy",
        cv2.blur(rs.randint(0, 256, (16, 20, 5)).astype(np.uint8), (3, 3)).transpose(2, 0, 1),
    )
    (folder / "triplet").mkdir()
    for k in range(3):
        cv2.imwrite(str(folder / "triplet" / f"{k}.png"), rs.randint(0, 256, (16, 20)).astype(np.uint8))
    varied = AugmentationConfig(crop=(12, 12), flip_y=0.5, quarter_turns=0.5, reverse_time=0.5)
    config = SequenceConfig(length=1, augmentation=varied)
    simulation = SimulationData(upsample={"method": "none"}, settle=0)
    simulation = replace(simulation, selection=replace(simulation.selection, fps=50.0))
    transform = EventSequences()
    datasets = [
        SequenceDataset(folder / "one.h5", config, transform=transform),
        SimulatedDataset(folder / "clip.npy", simulation, config, transform=transform),
        TripletDataset(folder / "triplet", varied, transform=transform),
    ]
    found = ConcatDataset(datasets)
    found.collate = datasets[0].collate  # type: ignore[attr-defined]
    for dataset in datasets:
        assert dataset[0]["images"].shape == (1, 1, 12, 12)
    return found


def batches(dataset: Any, workers: int, start: str | None) -> list[dict[str, Any]]:
    keys = StepSampler(len(dataset), 7, Share(batch_size=3), 0, 6)
    return list(make_loader(dataset, keys, 7, workers=workers, start=start))


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_batches_are_the_same_however_loader_processes_start(
    everything: ConcatDataset[Any], start: str
) -> None:
    alone, shared = batches(everything, 0, None), batches(everything, 2, start)
    assert sum(len(batch["events"].t) for batch in alone) > 1000
    for a, b in zip(alone, shared, strict=True):
        assert torch.equal(a["images"], b["images"])
        for name in ("t", "x", "y", "p", "offsets", "origin_us", "windows", "edges_us", "counts"):
            assert torch.equal(getattr(a["events"], name), getattr(b["events"], name)), name


def test_a_transform_brings_its_way_of_making_a_batch(everything: ConcatDataset[Any]) -> None:
    recorded = everything.datasets[0]
    (batch,) = make_loader(recorded, StepSampler(3, 7, Share(batch_size=2), 0, 1), 7)
    assert isinstance(batch["events"], RaggedEvents)
    assert batch["images"].shape == (2, 1, 1, 12, 12)
    assert len(batch["events"].t) == batch["events"].window(0).offsets[-1]


def test_samples_are_named_without_being_loaded(everything: ConcatDataset[Any], tmp_path: Path) -> None:
    recorded, simulated, triplets = everything.datasets
    assert describe_sample(recorded, 2).endswith("one.h5, windows 2 to 2")
    assert describe_sample(simulated, 1).endswith("clip.npy, frames 1 to 2")
    assert describe_sample(triplets, 0).endswith("triplet")
    assert describe_sample(FirstSamples(recorded, 1), 0).endswith("one.h5, windows 0 to 0")
    assert describe_sample(everything, 3) == "sample 3"
