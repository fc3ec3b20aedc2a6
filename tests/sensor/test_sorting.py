"""The counting sort of an interval: any keys come out in order of time, row, column and polarity."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from evsim.sensor.listing import make_columns
from evsim.sensor.sorting import Bins, place_slots, scatter, tally, unpack

ORIGIN = 7_000_000


@pytest.mark.parametrize(
    ("count", "slots", "height", "width"),
    [
        (0, 5, 3, 4),
        (1, 1, 1, 1),
        (40, 3, 2, 30),
        (3000, 1, 1, 8192),  # one slot and row: nothing is in order
        (5000, 20, 6, 300),  # dense: dozens of events of a slot in each row
        (6000, 520, 40, 200),
    ],
)
@pytest.mark.parametrize("blocks", [1, 3])
def test_events_come_out_in_order(count: int, slots: int, height: int, width: int, blocks: int) -> None:
    rng = np.random.default_rng(count)
    y = np.sort(rng.integers(0, height, count))
    slot, x = rng.integers(0, slots, count), rng.integers(0, width, count)
    p, label = rng.integers(0, 2, count), rng.integers(0, 3, count)
    keys = (slot << 16 | x << 3 | p << 2 | label).astype(np.uint32)
    rows = [block * height // blocks for block in range(blocks + 1)]
    filled = np.diff(np.searchsorted(y, rows))
    bins = Bins(
        np.zeros((blocks, count + 1), np.uint32),
        filled,
        np.zeros(height, np.int64),
        *(np.zeros(blocks, np.int64) for _ in range(3)),
        np.zeros((blocks, slots), np.uint32),
        np.zeros(slots + 1, np.int64),
        np.zeros(count, np.uint32),
    )
    for block, (first, last) in enumerate(itertools.pairwise(rows)):
        start = np.searchsorted(y, first)
        bins.keys[block, : filled[block]] = keys[start : start + filled[block]]
        bins.row_end[first:last] = np.searchsorted(y, np.arange(first, last), "right") - start
        tally(block, slots, bins)
    assert place_slots(blocks, slots, bins) == count
    for block, (first, last) in enumerate(itertools.pairwise(rows)):
        scatter(block, first, last, slots, bins)
    columns = make_columns(count)
    unpack(0, slots, ORIGIN, bins, columns)

    order = np.lexsort((label, p, x, y, slot))
    np.testing.assert_array_equal(columns.t, ORIGIN + slot[order])
    for found, expected in zip(columns[1:], (x, y, p, label)):
        np.testing.assert_array_equal(found, expected[order])
