"""Recordings whose file holds t, x, y, p as separate columns that can be sliced, wherever these lie."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError
from evsim.events import LABEL_NAMES, Events
from evsim.formats.storage.npy_stream import release_pages
from evsim.formats.storage.recording import IndexedRecording
from evsim.formats.storage.units import (
    SAMPLE,
    TimeUnit,
    epoch_origin,
    image_time_us,
    polarity_coding,
    to_microseconds,
    to_pixels,
    to_polarity,
)


@dataclass(frozen=True)
class Column:
    """What can be sliced to one column, and what it is called in messages."""

    data: Any
    name: str

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        return np.asarray(self.data[rows])


class ColumnRecording(IndexedRecording):
    """A recording of columns of one length.

    columns: t, x, y, p and perhaps label. t_origin: as the file says it; None where it says nothing: times
    that can only be Unix times then give their whole seconds to t_origin. Raises FormatError for columns of
    different length.
    """

    def __init__(
        self,
        path: Path,
        format: str,
        size: tuple[int, int],
        columns: Mapping[str, Column],
        *,
        unit: TimeUnit = "us",
        t_origin: int | None = 0,
        subpixel: bool = False,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        lengths = {column.name: column.data.shape for column in columns.values()}
        if len(set(lengths.values())) != 1:
            raise FormatError(path, f"columns differ in shape: {lengths}; expected one length")
        self._columns = dict(columns)
        self._length = int(columns["t"].data.shape[0])
        self.path, self.unit, self._shift = path, unit, 0
        if t_origin is None:
            t_origin = self._shift = epoch_origin(self._first() or 0)
        super().__init__(
            path,
            format,
            size,
            t_origin=t_origin,
            unit=unit,
            polarity=polarity_coding(self._slice("p", 0, SAMPLE)),
            has_labels="label" in columns,
            subpixel=subpixel,
            attributes=attributes,
        )

    def _damage(self, place: str) -> AbstractContextManager[None]:
        """What surrounds every slice: a format turns its library's errors into FormatError here."""
        return contextlib.nullcontext()

    def __len__(self) -> int:
        return self._length

    def _first(self) -> int | None:
        return int(self._times(0, 1)[0]) if self._length else None

    def _slice(self, name: str, start: int, stop: int) -> NDArray[Any]:
        column = self._columns[name]
        with self._damage(f"{column.name}, {_place(start, stop)}"):
            return column[start:stop]

    def _read(self, start: int, stop: int) -> Events:
        t, rounded = to_microseconds(
            self._slice("t", start, stop), self.unit, self.path, self._where("t", start, stop)
        )
        self.rounded_times += rounded
        return Events(
            t - self._shift,
            to_pixels(self._slice("x", start, stop), self.path, self._where("x", start, stop)),
            to_pixels(self._slice("y", start, stop), self.path, self._where("y", start, stop)),
            to_polarity(self._polarity(start, stop), self.path, self._where("p", start, stop)),
            self.width,
            self.height,
            self.t_origin,
            self._labels(start, stop) if self.has_labels else None,
        )

    def _release(self) -> None:
        release_pages(*(column.data for column in self._columns.values()))

    def _times(self, start: int, stop: int) -> NDArray[np.int64]:
        place = self._where("t", start, stop)
        return to_microseconds(self._slice("t", start, stop), self.unit, self.path, place)[0] - self._shift

    def _polarity(self, start: int, stop: int) -> NDArray[Any]:
        return self._slice("p", start, stop)

    def _labels(self, start: int, stop: int) -> NDArray[np.uint8]:
        labels = self._slice("label", start, stop)
        if labels.size and not (labels.min() >= 0 and labels.max() < len(LABEL_NAMES)):
            raise FormatError(
                self.path,
                f"labels span {labels.min()}..{labels.max()}, expected one of {LABEL_NAMES}",
                place=self._where("label", start, stop),
            )
        return labels.astype(np.uint8)

    def _where(self, name: str, start: int, stop: int) -> str:
        return f"{self._columns[name].name}, {_place(start, stop)}"

    def _time_us(self, time: float) -> float:
        """A time of an image on the events' clock."""
        return image_time_us(time, self.unit) - self._shift


class IndexedColumnRecording(ColumnRecording):
    """Columns beside an index of milliseconds, which narrows every search."""

    @property
    @abstractmethod
    def _milliseconds(self) -> tuple[NDArray[Any], int] | None:
        """The index and the time of its entry 0; entry k is the first event 1000 k us later."""

    def _bracket(self, t: int) -> tuple[int, int]:
        found = self._milliseconds
        if found is None or not len(found[0]):
            return 0, self._length
        index, first = found
        elapsed = (t - first) // 1000
        if elapsed < 0:
            return 0, int(index[0])
        last = len(index) - 1
        high = int(index[elapsed + 1]) if elapsed < last else self._length
        return int(index[min(elapsed, last)]), high


def checked_index(path: Path, index: NDArray[Any], length: int, place: str) -> NDArray[np.int64]:
    """An index of milliseconds as int64. Raises FormatError where it does not rise within 0..`length`."""
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise FormatError(path, f"is {index.dtype} {index.shape}, expected integers (M,)", place=place)
    found = index.astype(np.int64)
    if len(found) and (found[0] < 0 or found.max() > length or np.any(np.diff(found) < 0)):
        raise FormatError(path, f"does not index {length} events", place=place)
    return found


def _place(start: int, stop: int) -> str:
    return f"events {start}..{stop - 1}"
