"""Events of one interval as pixels list them, and the counting sort that orders them by (t, y, x, p).

Blocks of rows list their events pixel by pixel, row after row, so that a stable sort by time alone leaves
them in order of row and column; only events of one pixel in one microsecond still have to be put in order of
polarity. The result does not depend on the number of blocks.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evsim.kernels.compiled import INLINE, LOOP
from evsim.kernels.threads.bands import RowBands
from evsim.sensor.sorting import Columns

COLUMN_TYPES = (np.int64, np.uint16, np.uint16, np.uint8, np.uint8)
SLOTS_PER_EVENT = 8
FEW_SLOTS = 4096


class Listing(NamedTuple):
    """Where the blocks of rows leave their events.

    slot: int64 (blocks, capacity), microseconds after the first of the interval. key: uint64, the same shape,
    y << 32 | x << 16 | p << 2 | label. used: int64[blocks]. row, column: int64[blocks], the next pixel;
    column is -1 at the start of a row. stopped: bool[blocks], out of room before that pixel.
    """

    slot: NDArray[np.int64]
    key: NDArray[np.uint64]
    used: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    stopped: NDArray[np.bool_]


@njit(**INLINE)
def put(block: Any, place: Any, slot: Any, y: Any, x: Any, kind: Any, listing: Listing) -> Any:
    """Write one event to `place` if there is room; returns the next place. kind: p << 2 | label."""
    if place < listing.slot.shape[1]:
        listing.slot[block, place] = slot
        listing.key[block, place] = (np.uint64(y) << np.uint64(32)) | np.uint64((x << 16) | kind)
    return place + 1


@njit(**INLINE)
def slot_at(time_us: float, offset_us: float, slots: int) -> int:
    """Slot of a time in microseconds since the interval began, clamped to the interval."""
    return np.int64(min(max(np.floor(time_us + offset_us), 0.0), slots - 1.0))


@njit(**LOOP)
def _tally(slots: int, listing: Listing, places: NDArray[np.int64], first: int, last: int) -> None:
    for block in range(first, last):
        counts = places[block]
        for slot in range(slots):
            counts[slot] = 0
        used = listing.slot[block][: listing.used[block]]
        for i in range(used.size):
            counts[used[i]] += 1


@njit(**LOOP)
def _place(slots: int, places: NDArray[np.int64], starts: NDArray[np.int64]) -> None:
    placed = 0
    for slot in range(slots):
        starts[slot] = placed
        for block in range(places.shape[0]):
            count = places[block, slot]
            places[block, slot] = placed
            placed += count
    starts[slots] = placed


@njit(**LOOP)
def _scatter(
    listing: Listing, places: NDArray[np.int64], merged: NDArray[np.uint64], first: int, last: int
) -> None:
    for block in range(first, last):
        place = places[block]
        slots, keys = listing.slot[block], listing.key[block]
        for i in range(listing.used[block]):
            merged[place[slots[i]]] = keys[i]
            place[slots[i]] += 1


@njit(**LOOP)
def _unpack(
    origin: int,
    starts: NDArray[np.int64],
    merged: NDArray[np.uint64],
    columns: Columns,
    first: int,
    last: int,
) -> None:
    for slot in range(first, last):
        times = columns.t[starts[slot] : starts[slot + 1]]
        for i in range(times.size):
            times[i] = origin + slot
        _order_pixels(merged[starts[slot] : starts[slot + 1]])
    _split(merged, columns, starts[first], starts[last])


@njit(**INLINE)
def _order_pixels(keys: NDArray[np.uint64]) -> None:
    """Put keys that are in order of pixels in order of polarity as well."""
    for i in range(1, keys.size):
        key, j = keys[i], i
        while j > 0 and keys[j - 1] > key:
            keys[j] = keys[j - 1]
            j -= 1
        keys[j] = key


@njit(**LOOP)
def _split(merged: NDArray[np.uint64], columns: Columns, start: int, end: int) -> None:
    keys = merged[start:end]
    x, y, p, label = (
        columns.x[start:end],
        columns.y[start:end],
        columns.p[start:end],
        columns.label[start:end],
    )
    for i in range(keys.size):
        x[i] = (keys[i] >> np.uint64(16)) & np.uint64(0xFFFF)
        y[i] = keys[i] >> np.uint64(32)
        p[i] = (keys[i] >> np.uint64(2)) & np.uint64(1)
        label[i] = keys[i] & np.uint64(3)


class Sorter:
    """Lists of events and the memory to sort them; `recycle`: columns are valid until the next interval."""

    def __init__(self, blocks: int, height: int, capacity: int, recycle: bool) -> None:
        self.listing = _make_listing(blocks, capacity)
        self._first_rows = [block * height // blocks for block in range(blocks)]
        self._places = np.empty((blocks, 0), np.int64)
        self._starts = np.empty(1, np.int64)
        self._merged = np.empty(0, np.uint64)
        self._outputs = make_columns(0) if recycle else None

    def clear(self) -> None:
        """Begin the lists of a new interval."""
        self.listing.used[:] = 0
        self.listing.row[:] = self._first_rows
        self.listing.column[:] = -1
        self.listing.stopped[:] = False

    def grow(self) -> None:
        """Make room for blocks that stopped."""
        blocks, capacity = self.listing.slot.shape
        larger = _make_listing(blocks, 2 * capacity)
        larger.slot[:, :capacity] = self.listing.slot
        larger.key[:, :capacity] = self.listing.key
        self.listing = larger._replace(
            used=self.listing.used, row=self.listing.row, column=self.listing.column
        )

    def sort(self, bands: RowBands, origin_us: int, slots: int) -> Columns:
        """Columns of all events listed, in order; `origin_us`: time of slot 0; `slots`: how many."""
        listing = self.listing
        total, blocks = int(listing.used.sum()), len(listing.used)
        columns = self._take_columns(total)
        if len(self._merged) < total:
            self._merged = np.empty(total + total // 4, np.uint64)
        if slots > max(FEW_SLOTS, SLOTS_PER_EVENT * total):
            return self._sort_sparse(origin_us, columns)
        if self._places.shape[1] < slots:
            self._places = np.empty((blocks, slots), np.int64)
            self._starts = np.empty(slots + 1, np.int64)
        bands.split(_tally, blocks, blocks, slots, listing, self._places)
        _place(slots, self._places, self._starts)
        bands.split(_scatter, blocks, blocks, listing, self._places, self._merged)
        bands.split(_unpack, slots, blocks, origin_us, self._starts, self._merged, columns)
        return columns

    def _sort_sparse(self, origin_us: int, columns: Columns) -> Columns:
        """Few events in a long interval: no table of slots."""
        used = [slice(0, n) for n in self.listing.used]
        slot = np.concatenate([row[part] for row, part in zip(self.listing.slot, used)])
        key = np.concatenate([row[part] for row, part in zip(self.listing.key, used)])
        order = np.lexsort((key, slot))
        columns.t[:] = origin_us + slot[order]
        _split(key[order], columns, 0, len(order))
        return columns

    def _take_columns(self, count: int) -> Columns:
        if self._outputs is None:
            return make_columns(count)
        if len(self._outputs.t) < count:
            self._outputs = make_columns(count + count // 4)
        return Columns._make(column[:count] for column in self._outputs)


def make_columns(count: int) -> Columns:
    """Columns for `count` events, in one piece of memory."""
    sizes = [np.dtype(kind).itemsize for kind in COLUMN_TYPES]
    memory = np.empty(count * sum(sizes), np.uint8)
    ends = [count * end for end in itertools.accumulate(sizes)]
    return Columns._make(
        memory[end - count * size : end].view(kind) for kind, size, end in zip(COLUMN_TYPES, sizes, ends)
    )


def _make_listing(blocks: int, capacity: int) -> Listing:
    return Listing(
        np.empty((blocks, capacity), np.int64),
        np.empty((blocks, capacity), np.uint64),
        np.zeros(blocks, np.int64),
        np.zeros(blocks, np.int64),
        np.zeros(blocks, np.int64),
        np.zeros(blocks, np.bool_),
    )
