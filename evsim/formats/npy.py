"""One float64 array (N, 4) with columns t, x, y, p in a .npy file, as EvINR reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats.catalogue import Format, register
from evsim.formats.storage.npy_stream import MAGIC, NpyColumn, map_npy, release_pages
from evsim.formats.storage.recording import IndexedRecording
from evsim.formats.storage.rled_layout import sensor_size
from evsim.formats.storage.units import (
    EXACT_SECONDS_US,
    SAMPLE,
    decide_unit,
    epoch_origin,
    polarity_coding,
    to_microseconds,
    to_pixels,
    to_polarity,
)
from evsim.formats.storage.writer import EventWriter


def sniff(path: Path, head: bytes) -> bool:
    """True for a .npy array of numbers with four columns."""
    if not head.startswith(MAGIC):
        return False
    array = map_npy(path)
    return array.ndim == 2 and array.shape[1] == 4 and array.dtype.kind in "fiu"


class NpyRecording(IndexedRecording):
    """An array of rows t, x, y, p; it never says the sensor's size, and its unit only by whole numbers.

    Raises FormatError for another shape, InputError when size or unit must be told.
    """

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        self._rows = map_npy(path)
        if self._rows.ndim != 2 or self._rows.shape[1] != 4 or self._rows.dtype.kind not in "fiu":
            raise FormatError(
                path, f"is {self._rows.dtype} {self._rows.shape}, expected numbers (N, 4): t, x, y, p"
            )
        sample = np.array(self._rows[:SAMPLE])
        told = decide_unit(path, sample[:, 0], unit)
        first = to_microseconds(sample[:1, 0], told, path, "row 0, column 0")[0]
        self._shift = epoch_origin(int(first[0])) if len(first) else 0
        super().__init__(
            path,
            "npy",
            sensor_size(path, None, order=None, image_shape=None, given=size),
            t_origin=self._shift,
            unit=told,
            polarity=polarity_coding(sample[:, 3]),
            subpixel=not np.array_equal(sample[:, 1:3], np.rint(sample[:, 1:3])),
        )

    def __len__(self) -> int:
        return len(self._rows)

    def _read(self, start: int, stop: int) -> Events:
        place = f"rows {start}..{stop - 1}"
        t, x, y, p = (np.ascontiguousarray(column) for column in self._rows[start:stop].T)
        times, rounded = to_microseconds(t, self.unit, self.path, f"{place}, column 0")
        self.rounded_times += rounded
        return Events(
            times - self._shift,
            to_pixels(x, self.path, f"{place}, column 1"),
            to_pixels(y, self.path, f"{place}, column 2"),
            to_polarity(p, self.path, f"{place}, column 3"),
            self.width,
            self.height,
            self.t_origin,
        )

    def _release(self) -> None:
        release_pages(self._rows)

    def _times(self, start: int, stop: int) -> NDArray[np.int64]:
        column = np.array(self._rows[start:stop, 0])
        return to_microseconds(column, self.unit, self.path, "column 0")[0] - self._shift


class NpyWriter(EventWriter):
    """Writes float64 (N, 4): t, x, y, p with p in {-1, 1}; see `EventWriter`.

    unit: of the time column, "us" (whole numbers, which a reader can recognise) or "s" (as EvINR has it).
    """

    holds_subpixel = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        width: int,
        height: int,
        *,
        t_origin: int = 0,
        labels: bool = False,
        seed: int | None = None,
        config: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        unit: str = "us",
    ) -> None:
        super().__init__(
            path,
            width,
            height,
            t_origin=t_origin,
            labels=labels,
            seed=seed,
            config=config,
            overwrite=overwrite,
        )
        if unit not in ("us", "s"):
            raise InputError(f"{self.path}: unit {unit!r}, expected us or s")
        if t_origin:
            raise InputError(f"{self.path}: this format has no place for t_origin = {t_origin}")
        self._per_unit = 1.0 if unit == "us" else 1e6
        if unit == "s":
            self.largest_time = EXACT_SECONDS_US

    def _open(self, temporary: Path) -> None:
        self._file = temporary.open("w+b")
        self._rows = NpyColumn(self._file, "<f8", (4,))

    def _write(self, events: Events) -> None:
        rows = np.empty((len(events), 4))
        rows[:, 0] = events.t / self._per_unit
        rows[:, 1], rows[:, 2] = events.x, events.y
        rows[:, 3] = np.where(events.p, 1.0, -1.0)
        self._rows.append(rows)

    def _finish(self) -> None:
        self._rows.finish()
        self._file.close()

    def _abandon(self) -> None:
        abandon_file(self)


def abandon_file(writer: Any) -> None:
    """Close the writer's `_file` if it was opened, ignoring what a full disk says."""
    file = getattr(writer, "_file", None)
    if file is not None:
        try:
            file.close()
        except OSError:
            file = None


register(
    Format(
        name="npy",
        summary="one .npy of rows t, x, y, p (float64, microseconds, p -1/1) as EvINR reads",
        suffixes=(".npy",),
        sniff=sniff,
        open=NpyRecording,
        create=NpyWriter,
        polarity="-1/1",
        subpixel=True,
        options=("unit",),
    )
)
