"""DSEC's HDF5 file: events/x, y, p, t with 32-bit times, an index of milliseconds and a time offset."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError
from evsim.events import Events
from evsim.formats.catalogue import Format, register
from evsim.formats.native_writer import MillisecondIndex
from evsim.formats.storage.columns import Column, IndexedColumnRecording, checked_index
from evsim.formats.storage.hdf5 import (
    checked_dataset,
    compression_filters,
    hdf5_errors,
    holds,
    open_hdf5,
    plain_attributes,
)
from evsim.formats.storage.hdf5_writer import Hdf5Writer, append_rows, resizable
from evsim.formats.storage.index_checks import millisecond_defects
from evsim.formats.storage.recording import Defect
from evsim.formats.storage.rled_layout import sensor_size
from evsim.formats.storage.units import check_unit
from evsim.formats.storage.writer import EventWriter

COLUMNS = {name: f"events/{name}" for name in "txyp"}


def sniff(path: Path, head: bytes) -> bool:
    """True for HDF5 with events/x, y, t, p and t_offset."""
    return holds(path, head, (*COLUMNS.values(), "t_offset"))


class DsecRecording(IndexedColumnRecording):
    """A DSEC file: `t` as stored, t_offset as t_origin.

    The file does not say the sensor's size unless evsim wrote it. Raises FormatError for columns of
    different length or a wrong index, InputError when the size must be told.
    """

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        self._file = open_hdf5(path)
        try:
            with hdf5_errors(path):
                found = {
                    key: Column(checked_dataset(path, self._file[name]), name)
                    for key, name in COLUMNS.items()
                }
                offset = self._file["t_offset"][()]
                attributes = plain_attributes(path, self._file)
            if np.ndim(offset) or np.asarray(offset).dtype.kind not in "iu":
                raise FormatError(path, f"is {offset!r}, expected microseconds", place="t_offset")
            super().__init__(
                path,
                "dsec",
                sensor_size(
                    path, attributes.get("sensor_resolution"), order="wh", image_shape=None, given=size
                ),
                found,
                unit=check_unit(unit) or "us",
                t_origin=int(offset),
                attributes=attributes,
            )
            self._index = self._load_index()
        except BaseException:
            self._file.close()
            raise

    def _load_index(self) -> NDArray[np.int64] | None:
        with hdf5_errors(self.path, "ms_to_idx"):
            if "ms_to_idx" not in self._file:
                return None
            index = checked_dataset(self.path, self._file["ms_to_idx"])[()]
        return checked_index(self.path, np.asarray(index), len(self), "ms_to_idx")

    @property
    def _milliseconds(self) -> tuple[NDArray[Any], int] | None:
        # Entry k counts from t = 0, not from the first event.
        return None if self._index is None or self.unit != "us" else (self._index, 0)

    def own_defects(self) -> Iterator[Defect]:
        if self._index is None:
            yield Defect("ms_to_idx", "is not there: windows are searched for without it")
        else:
            yield from millisecond_defects(self, self._index, 0, whole=False)

    def _damage(self, place: str) -> AbstractContextManager[None]:
        return hdf5_errors(self.path, place)

    def close(self) -> None:
        self._file.close()


class DsecWriter(Hdf5Writer):
    """Writes DSEC's layout; see `EventWriter`. compression: None, or "blosc" as the published files have it.

    The sensor's size, which the layout has no place for, goes to a root attribute sensor_resolution.
    """

    largest_time = 1 << 32
    signed_time = False

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
        compression: str | None = None,
    ) -> None:
        EventWriter.__init__(
            self,
            path,
            width,
            height,
            t_origin=t_origin,
            labels=labels,
            seed=seed,
            config=config,
            overwrite=overwrite,
        )
        self._filters = compression_filters(compression)

    def _start(self, file: h5py.File) -> None:
        kinds = {"x": "<u2", "y": "<u2", "p": "u1", "t": "<u4"}
        events = file.create_group("events")
        self._columns = {name: resizable(events, name, kind, **self._filters) for name, kind in kinds.items()}
        self._index = MillisecondIndex(resizable(file, "ms_to_idx", "<u8", **self._filters), first=0)
        file.create_dataset("t_offset", data=np.int64(self.t_origin), track_times=False)
        file.attrs["sensor_resolution"] = np.array([self.width, self.height], np.int64)

    def _write(self, events: Events) -> None:
        self._index.extend(events.t)
        for name, values in (("x", events.x), ("y", events.y), ("p", events.p), ("t", events.t)):
            append_rows(self._columns[name], values)
        self._check()

    def _complete(self, file: h5py.File) -> None:
        self._index.finish()


register(
    Format(
        name="dsec",
        summary="DSEC HDF5: events/x y p t, ms_to_idx, t_offset",
        suffixes=(".dsec.h5", ".dsec.hdf5"),
        sniff=sniff,
        open=DsecRecording,
        create=DsecWriter,
        origin=True,
        options=("compression",),
    )
)
