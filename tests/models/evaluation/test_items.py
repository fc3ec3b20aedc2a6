"""Which events, time and reference image each item of a recording has, as EVREAL's protocol says."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from evreal_folders import write_evreal_folder
from hypothesis import given
from hypothesis import strategies as st

from evsim.errors import ConfigError, InputError
from evsim.events import Events
from evsim.formats import open_events
from evsim.models.evaluation.items import (
    Clock,
    cut_items,
    events_in_ranges,
    last_events_before,
    nearest_images,
)
from evsim.models.evaluation.protocol import EvaluationConfig, parse_protocol, scored_interval
from evsim.models.evaluation.sequences import read_clock
from evsim.represent import voxel_grid

METHODS = {"between_frames": "std", "k_events": "k600", "t_seconds": "t100ms"}


@pytest.fixture(scope="module")
def published(parity: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """The folder of a small sequence with a gap in its events, and what EVREAL makes of it."""
    arrays = dict(np.load(parity / "evreal_dataset_a.npz"))
    folder = write_evreal_folder(
        tmp_path_factory.mktemp("published") / "sequence",
        arrays["events_ts"],
        arrays["events_xy"],
        arrays["events_p"],
        arrays["images"],
        arrays["images_ts"].reshape(-1),
        arrays["image_event_indices"].reshape(-1),
    )
    return folder, arrays


@pytest.mark.needs_parity
@pytest.mark.parametrize("method", METHODS)
def test_items_are_those_of_the_published_loader(
    published: tuple[Path, dict[str, np.ndarray]], method: str
) -> None:
    folder, arrays = published
    meta = arrays[f"{method}_meta"]
    with open_events(folder) as recording:
        clock = read_clock(recording)
        items = cut_items(clock, EvaluationConfig(protocol=METHODS[method]))
        ranges = list(zip(items.starts, items.stops))
        windows = list(events_in_ranges(recording.chunks(), ranges, recording.empty()))
    np.testing.assert_array_equal(items.index, np.arange(len(meta)))
    np.testing.assert_array_equal(clock.images[items.frames], meta[:, 0])
    np.testing.assert_allclose(items.times, meta[:, 1], rtol=0, atol=1e-15)
    filled = meta[:, 3] > 0
    np.testing.assert_allclose(items.spans[filled], meta[filled, 2], atol=1e-12)
    np.testing.assert_array_equal([len(window) for window in windows], meta[:, 3])
    sums = [voxel_grid(window, 5).sum() for window in windows]
    np.testing.assert_allclose(sums, arrays[f"{method}_voxel_sum"], atol=1e-4)
    for k, voxel in zip(arrays[f"{method}_indices"], arrays[f"{method}_voxels"]):
        # Times in microseconds instead of float seconds move an event by up to half of one.
        np.testing.assert_allclose(voxel_grid(windows[k], 5), voxel, atol=2e-4)


def clock_of(events: list[float], images: list[float]) -> Clock:
    times, frames = np.array(events, float), np.array(images, float)
    return Clock(events=times, images=frames, last_events=last_events_before(times, frames))


def test_all_frames_takes_the_last_one_and_no_empty_window() -> None:
    clock = clock_of([0.1, 0.2, 0.3, 0.9, 1.5], [0.0, 0.25, 1.0, 1.5])
    std = cut_items(clock, EvaluationConfig())
    np.testing.assert_array_equal(std.frames, [0, 1, 2])
    np.testing.assert_array_equal(np.stack((std.starts, std.stops)), [[0, 0, 1], [0, 1, 3]])
    every = cut_items(clock, EvaluationConfig(all_frames=True))
    np.testing.assert_array_equal(every.frames, [1, 2, 3])
    np.testing.assert_array_equal(every.index, [1, 2, 3])
    np.testing.assert_array_equal(np.stack((every.starts, every.stops)), [[0, 1, 3], [1, 3, 4]])


def test_overlapping_windows_advance_by_the_rest_of_their_length() -> None:
    clock = clock_of(list(np.arange(10) / 100), [])
    items = cut_items(clock, EvaluationConfig(protocol="k4", overlap=1))
    np.testing.assert_array_equal(items.starts, [0, 3, 6])
    np.testing.assert_array_equal(items.stops, [4, 7, 10])
    items = cut_items(clock, EvaluationConfig(protocol="t40ms", overlap=20))
    np.testing.assert_allclose(clock.events[items.starts], [0, 0.02, 0.04])
    assert (items.frames == -1).all()
    assert np.isinf(items.gaps).all()


def test_kept_frames_depend_on_seed_and_sequence_alone() -> None:
    clock = clock_of(list(np.arange(200) / 100), list(np.arange(40) / 20))
    config = EvaluationConfig(protocol="kr0.5", seed=3)
    kept = cut_items(clock, config, "ECD/a").frames
    assert len(kept) == 19
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(kept, cut_items(clock, config, "ECD/a").frames)
    assert not np.array_equal(kept, cut_items(clock, config, "ECD/b").frames)


def test_rates_divide_by_the_window_or_by_the_span_of_its_events() -> None:
    clock = clock_of([0.0, 0.1, 0.2, 0.3, 0.8, 1.2], [0.0, 0.5, 1.0, 1.5])
    items = cut_items(clock, EvaluationConfig())
    np.testing.assert_allclose(items.rates(EvaluationConfig()), [0, 6, 2])
    spans = items.rates(EvaluationConfig(event_rate="events"))
    np.testing.assert_allclose(spans, [0, 3 / 0.2, 0])


def test_nearest_image_of_two_equally_near_is_the_earlier() -> None:
    images = np.array([1.0, 2.0, 4.0])
    np.testing.assert_array_equal(
        nearest_images(images, np.array([0.0, 1.5, 1.6, 3.0, 3.1, 9.0])), [0, 0, 1, 1, 2, 2]
    )
    np.testing.assert_array_equal(nearest_images(images[:1], np.array([0.0, 5.0])), [0, 0])
    np.testing.assert_array_equal(nearest_images(images[:0], np.array([0.0])), [-1])


@given(
    pieces=st.lists(st.integers(0, 7), max_size=8),
    cuts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=8),
)
def test_ranges_of_a_stream_are_slices_of_the_whole(pieces: list[int], cuts: list[tuple[int, int]]) -> None:
    total = sum(pieces)
    column, signs = np.zeros(total, np.uint16), np.ones(total, np.uint8)
    events = Events(np.arange(total), column, column, signs, 100, 1)
    chunks = [events[a:b] for a, b in itertools.pairwise(np.cumsum([0, *pieces]))]
    ranges = sorted((min(a, total), min(a + n, total)) for a, n in cuts)
    found = events_in_ranges(chunks, ranges, events[:0])
    for window, (start, stop) in zip(found, ranges, strict=True):
        np.testing.assert_array_equal(window.t, np.arange(start, stop))


@pytest.mark.parametrize("name", ["st", "t0ms", "t1.2.3ms", "k0k", "kr0", "kr1.5", "40ms"])
def test_an_unknown_protocol_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match="expected std, std_all, t40ms"):
        EvaluationConfig(protocol=name)


def test_protocol_names_say_windows_and_what_is_written() -> None:
    assert parse_protocol("k5k").length == 5000
    assert parse_protocol("t40ms").images
    assert not parse_protocol("t50ms").images
    assert parse_protocol("std_all").infer_all
    with pytest.raises(ConfigError, match="less than the window's length"):
        EvaluationConfig(protocol="t40ms", overlap=40)


def test_published_sequences_have_their_scored_interval() -> None:
    assert scored_interval("ECD", "office_zigzag", EvaluationConfig()) == (5, 12, "EVREAL")
    assert scored_interval("data", "ECD/office_zigzag", EvaluationConfig())[:2] == (5, 12)
    assert scored_interval("HQF", "bike", EvaluationConfig()).origin == ""
    chosen = scored_interval("ECD", "office_zigzag", EvaluationConfig(start_s=1))
    assert chosen == (1, float("inf"), "configuration")


@pytest.mark.parametrize(
    ("events", "images", "protocol", "message"),
    [
        ([], [0.0, 1.0], "std", "no events"),
        ([0.0], [0.0], "std", "holds 1 images"),
        ([0.0, 0.01], [], "t40ms", "less than one window"),
        ([0.0, 0.01], [], "k5k", "fewer than one window"),
    ],
)
def test_a_recording_without_a_window_is_an_error(
    events: list[float], images: list[float], protocol: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        cut_items(clock_of(events, images), EvaluationConfig(protocol=protocol))
