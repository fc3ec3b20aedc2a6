"""What writers of HDF5 layouts share: a file that survives a full disk, resizable columns, equal bytes."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from evsim.formats.storage.hdf5 import SurvivingFile
from evsim.formats.storage.writer import EventWriter

CHUNK = 65536


class Hdf5Writer(EventWriter):
    """Opens, completes and closes the file; subclasses make the layout."""

    _survivor: SurvivingFile | None = None
    _hdf5: h5py.File | None = None

    @abstractmethod
    def _start(self, file: h5py.File) -> None:
        """Make the datasets."""

    @abstractmethod
    def _complete(self, file: h5py.File) -> None:
        """Write what is known only at the end."""

    @property
    def _file(self) -> h5py.File:
        if self._hdf5 is None:
            raise ValueError(f"{self.path}: write inside the writer's `with` block")
        return self._hdf5

    def _open(self, temporary: Path) -> None:
        self._survivor = SurvivingFile(temporary)
        # A fixed library version: the default may differ between installations, and with it the bytes.
        self._hdf5 = h5py.File(self._survivor, "w", libver=("earliest", "v110"), track_order=False)
        self._start(self._hdf5)
        self._check()

    def _finish(self) -> None:
        file = self._file
        self._complete(file)
        self._check()
        file.close()
        self._check()

    def _abandon(self) -> None:
        if self._hdf5 is not None:
            # Whatever HDF5 has to say now, the file is complete or about to be removed.
            with contextlib.suppress(OSError, RuntimeError, ValueError):
                self._hdf5.close()
        if self._survivor is not None:
            self._survivor.close()
        self._hdf5 = self._survivor = None

    def _check(self) -> None:
        if self._survivor is not None:
            self._survivor.raise_failure()


def resizable(
    group: h5py.Group,
    name: str,
    dtype: DTypeLike,
    row_shape: tuple[int, ...] = (),
    *,
    rows: int = CHUNK,
    **filters: Any,
) -> h5py.Dataset:
    """An empty dataset that grows by rows."""
    kind = np.dtype(dtype)
    # The explicit fill value makes HDF5 clear the unused end of the last chunk.
    return group.create_dataset(
        name,
        shape=(0, *row_shape),
        maxshape=(None, *row_shape),
        dtype=kind,
        chunks=(rows, *row_shape),
        fillvalue=np.zeros((), kind)[()],
        track_times=False,
        **filters,
    )


def append_rows(dataset: h5py.Dataset, values: NDArray[Any]) -> None:
    """Add rows at the end of a dataset."""
    low, properties = dataset.id, dataset.id.get_create_plist()
    start, row_shape = low.shape[0], low.shape[1:]
    low.set_extent((start + len(values), *row_shape))
    each, rows = properties.get_chunk()[0], 0
    if not properties.get_nfilters() and not start % each:
        # Whole chunks go to the file as they are: the library would copy and convert each on the way.
        rows = len(values) - len(values) % each
        whole = np.ascontiguousarray(values[:rows], low.dtype)
        for row in range(0, rows, each):
            low.write_direct_chunk((start + row, *(0,) * len(row_shape)), whole[row : row + each].data)
    if rows < len(values):
        dataset[start + rows :] = values[rows:]
