"""Windows of a recording: every event in at most one, in order, whatever the size of the pieces read."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsim.errors import InputError
from evsim.events import Events
from evsim.formats import NativeWriter, open_events
from evsim.formats.storage.windows import (
    split_at,
    windows_between_images,
    windows_by_count,
    windows_by_duration,
)


def events_at(times: list[int]) -> Events:
    n = len(times)
    zero = np.zeros(n, np.uint16)
    return Events(np.array(times, np.int64), zero, zero, np.ones(n, np.uint8), 4, 3)


@given(
    times=st.lists(st.integers(0, 50), max_size=40).map(sorted),
    edges=st.lists(st.integers(0, 60), max_size=6).map(sorted),
    cuts=st.lists(st.integers(0, 40), max_size=5).map(sorted),
)
def test_pieces_end_at_their_edge_however_the_stream_is_cut(
    times: list[int], edges: list[int], cuts: list[int]
) -> None:
    events = events_at(times)
    bounds = [0, *(min(cut, len(times)) for cut in cuts), len(times)]
    chunks = [events[a:b] for a, b in itertools.pairwise(bounds)]
    pieces = list(split_at(chunks, edges, events[:0]))
    assert len(pieces) == len(edges)
    before = -1
    for piece, edge in zip(pieces, edges):
        assert piece.t.tolist() == [t for t in times if before < t <= edge]
        before = edge


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Events at 0, 10, ..., 990 us; images at 100, 300 and 600 us."""
    path = tmp_path / "events.h5"
    with NativeWriter(path, 4, 3) as writer:
        writer.append(events_at(list(range(0, 1000, 10))))
        for t in (100, 300, 600):
            writer.append_image(np.zeros((3, 4), np.uint8), t)
    return path


def test_windows_between_images_are_closed_at_their_end(recording: Path) -> None:
    with open_events(recording) as opened:
        windows = list(windows_between_images(opened))
    assert [(w.events.t[0], w.events.t[-1], w.end_us) for w in windows] == [(110, 300, 300), (310, 600, 600)]


def test_windows_by_duration_begin_at_the_first_event(recording: Path) -> None:
    with open_events(recording) as opened:
        windows = list(windows_by_duration(opened, 400))
    assert [(w.events.t[0], w.events.t[-1], w.end_us) for w in windows] == [
        (0, 390, 400),
        (400, 790, 800),
        (800, 990, 1200),
    ]


def test_windows_by_count_end_at_their_last_event_and_keep_the_rest(recording: Path) -> None:
    with open_events(recording) as opened:
        windows = list(windows_by_count(opened, 30))
    assert [(len(w.events), w.end_us) for w in windows] == [(30, 290), (30, 590), (30, 890), (10, 990)]


def test_ends_of_windows_by_count_increase_within_one_microsecond(tmp_path: Path) -> None:
    with NativeWriter(tmp_path / "burst.h5", 4, 3) as writer:
        writer.append(events_at([5] * 9))
    with open_events(tmp_path / "burst.h5") as opened:
        assert [w.end_us for w in windows_by_count(opened, 3)] == [5, 6, 7]


def test_windows_between_images_need_images(tmp_path: Path) -> None:
    with NativeWriter(tmp_path / "none.h5", 4, 3) as writer:
        writer.append(events_at([1, 2]))
    with open_events(tmp_path / "none.h5") as opened:
        with pytest.raises(InputError, match=r"holds 0 images.*--window-ms"):
            next(windows_between_images(opened))
