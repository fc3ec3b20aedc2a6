"""Rows of HDF5 columns that are stored as they are, read past the library when a whole file is streamed.

The library copies such rows twice and holds every other thread up meanwhile; a plain read does neither.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError


class StoredRows:
    """A one-dimensional dataset as pieces of equal length in its file.

    offsets: int64 bytes from the beginning of the file to each piece of `each` rows; the last may be shorter.
    """

    def __init__(self, dataset: h5py.Dataset, file: int, offsets: NDArray[np.int64], each: int) -> None:
        self.name: str = dataset.name
        self._dtype = dataset.dtype
        self._file, self._offsets, self._each = file, offsets, each

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop = rows.start, rows.stop
        found = np.empty(stop - start, self._dtype)
        row = start
        while row < stop:
            piece, inside = divmod(row, self._each)
            until = min(stop, (piece + 1) * self._each)
            part = found[row - start : until - start]
            place = int(self._offsets[piece]) + inside * self._dtype.itemsize
            if os.preadv(self._file, [part.data], place) != part.nbytes:
                raise OSError(f"cannot be read at byte {place}")
            row = until
        return found


def stored_rows(path: Path, dataset: h5py.Dataset, file: int) -> StoredRows | None:
    """The rows of a checked dataset, or None where only the library can read them.

    file: a descriptor of the same file. Raises FormatError for pieces outside of it.
    """
    low = dataset.id
    properties, held = low.get_create_plist(), os.fstat(file).st_size
    if (
        dataset.ndim != 1
        or not len(dataset)
        or properties.get_nfilters()
        or dataset.dtype.kind not in "iufb"
        or dataset.file.userblock_size
        or dataset.external
        or not hasattr(os, "preadv")
    ):
        return None
    layout = properties.get_layout()
    if layout == h5py.h5d.CONTIGUOUS:
        offsets, each = np.array([low.get_offset()], np.int64), len(dataset)
    elif layout == h5py.h5d.CHUNKED and hasattr(low, "chunk_iter"):
        each = dataset.chunks[0]
        offsets = np.full(-(-len(dataset) // each), -1, np.int64)

        def note(chunk: Any) -> None:
            number = chunk.chunk_offset[0] // each
            if number < len(offsets):
                offsets[number] = chunk.byte_offset

        low.chunk_iter(note)
    else:
        return None
    ends = offsets + dataset.dtype.itemsize * np.minimum(each, len(dataset) - each * np.arange(len(offsets)))
    if offsets.min() < 0 or ends.max() > held:
        raise FormatError(path, "has rows outside of the file", place=dataset.name.lstrip("/"))
    return StoredRows(dataset, file, offsets, each)
