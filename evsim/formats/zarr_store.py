"""A Zarr version 3 folder: the columns t, x, y, p in sharded chunks, for clusters and object stores."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import EvsimError, FormatError
from evsim.events import Events
from evsim.formats.catalogue import Format, register
from evsim.formats.native_writer import LARGEST_INDEX
from evsim.formats.storage.columns import Column, IndexedColumnRecording, checked_index
from evsim.formats.storage.index_checks import millisecond_defects
from evsim.formats.storage.recording import Defect, RecordedImage
from evsim.formats.storage.rled_layout import (
    FORMAT_ATTRIBUTE,
    counted_attributes,
    own_attributes,
    require_known_version,
    sensor_size,
)
from evsim.formats.storage.units import check_unit
from evsim.formats.storage.writer import EventWriter

CHUNK, SHARD = 1 << 16, 1 << 21
"""Events decoded together, and events in one file."""
COLUMNS = {"t": "<i8", "x": "<u2", "y": "<u2", "p": "u1"}


def sniff(path: Path, head: bytes) -> bool:
    """True for a folder whose zarr.json names evsim's layout."""
    if not (path / "zarr.json").is_file():
        return False
    try:
        described = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        return bool(described["attributes"]["format"] == FORMAT_ATTRIBUTE)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


@contextlib.contextmanager
def zarr_errors(path: Path, place: str) -> Iterator[None]:
    """Turn whatever zarr and its codecs raise inside the block into a FormatError."""
    try:
        yield
    except EvsimError:
        raise
    except Exception as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise FormatError(path, f"damaged or cut short: {first}", place=place) from error


class ZarrRecording(IndexedColumnRecording):
    """A folder that evsim wrote. Raises FormatError for what is missing, damaged or does not fit together."""

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        self._group, self.path = _open_group(path), path
        with zarr_errors(path, "zarr.json"):
            attributes = dict(self._group.attrs)
            require_known_version(path, attributes)
            names = [*COLUMNS, *(["label"] if "label" in self._group else [])]
            t_offset = int(attributes.get("t_offset", 0))
        columns = {name: Column(self._array(name, 1), name) for name in names}
        self._images = self._array("images") if (path / "images").is_dir() else None
        self._image_times: NDArray[np.float64] = np.empty(0)
        if self._images is not None:
            with zarr_errors(path, "image_times"):
                self._image_times = np.asarray(self._array("image_times", 1)[:], np.float64)
            if self._images.ndim not in (3, 4) or len(self._image_times) != self._images.shape[0]:
                raise FormatError(path, "does not fit image_times", place="images")
        super().__init__(
            path,
            "zarr",
            sensor_size(path, attributes.get("sensor_resolution"), order="wh", image_shape=None, given=size),
            columns,
            unit=check_unit(unit or attributes.get("time_unit")) or "us",
            t_origin=t_offset,
            attributes=attributes,
        )
        self._index: NDArray[np.int64] | None = None
        self._index_first = 0
        if (path / "ms_to_idx").is_dir() and len(self):
            with zarr_errors(path, "ms_to_idx"):
                index = np.asarray(self._array("ms_to_idx", 1)[:])
            self._index = checked_index(path, index, len(self), "ms_to_idx")
            self._index_first = self._first() or 0

    def _array(self, name: str, ndim: int | None = None) -> Any:
        """An array of the group of which every file is there."""
        with zarr_errors(self.path, name):
            array = self._group[name]
            pieces = getattr(array, "shards", None) or array.chunks
            wanted = math.prod(-(-side // piece) for side, piece in zip(array.shape, pieces))
            found = sum(1 for entry in (self.path / name / "c").rglob("*") if entry.is_file())
            if found != wanted or (ndim is not None and array.ndim != ndim) or array.dtype.kind not in "iufb":
                raise FormatError(
                    self.path,
                    f"is {array.dtype} {array.shape} in {found} files, expected {wanted} files of numbers",
                    place=name,
                )
        return array

    @property
    def _milliseconds(self) -> tuple[NDArray[Any], int] | None:
        return None if self._index is None else (self._index, self._index_first)

    @property
    def image_count(self) -> int:
        return len(self._image_times)

    def images(self) -> Iterator[RecordedImage]:
        if self._images is None:
            return
        for number, t_us in enumerate(self._image_times.tolist()):
            with zarr_errors(self.path, f"images {number}"):
                image = np.asarray(self._images[number], np.uint8)
            yield RecordedImage(image, t_us, max(0, self.search(t_us) - 1))

    def own_defects(self) -> Iterator[Defect]:
        if self._index is not None:
            yield from millisecond_defects(self, self._index, self._index_first, whole=True)

    def _damage(self, place: str) -> AbstractContextManager[None]:
        return zarr_errors(self.path, place)


class ZarrWriter(EventWriter):
    """Writes whole shards of 2^21 events, holding one in memory; see `EventWriter`.

    Images must all be grey or all colour (RGB).
    """

    holds_images = True
    holds_labels = True
    largest_time = 2**63 - 1

    def _open(self, temporary: Path) -> None:
        zarr = importlib.import_module("zarr")
        self._codec = importlib.import_module("zarr.codecs").BloscCodec(
            cname="zstd", clevel=5, shuffle="bitshuffle"
        )
        self._group = zarr.create_group(store=str(temporary), zarr_format=3)
        kinds = {**COLUMNS, **({"label": "u1"} if self.labels else {})}
        self._columns = {name: self._create(name, kind) for name, kind in kinds.items()}
        self._waiting: list[Events] = []
        self._index: list[NDArray[np.int64]] = []
        self._entries = self._indexed = 0
        self._images: Any = None

    def _create(self, name: str, dtype: str, rows: int = CHUNK, row_shape: tuple[int, ...] = ()) -> Any:
        return self._group.create_array(
            name,
            shape=(0, *row_shape),
            dtype=dtype,
            chunks=(rows, *row_shape),
            shards=(SHARD, *row_shape) if rows == CHUNK else None,
            compressors=self._codec,
            fill_value=0,
            # Every shard is a file, also one of zeros: a file that is lost shows.
            config={"write_empty_chunks": True},
        )

    def _write(self, events: Events) -> None:
        self._extend_index(events.t)
        self._waiting.append(events)
        if sum(map(len, self._waiting)) >= SHARD:
            self._flush_shards(final=False)

    def _extend_index(self, t: NDArray[np.int64]) -> None:
        first = self.t_first or 0
        stop = (int(t[-1]) - first) // 1000 + 1
        if self._entries < stop <= LARGEST_INDEX:
            borders = first + 1000 * np.arange(self._entries, stop, dtype=np.int64)
            self._index.append(self._indexed + np.searchsorted(t, borders))
        self._entries = max(self._entries, stop)
        self._indexed += len(t)

    def _flush_shards(self, *, final: bool) -> None:
        if not self._waiting:
            return
        block = Events.concatenate(self._waiting)
        stop = len(block) if final else len(block) - len(block) % SHARD
        start = self._columns["t"].shape[0]
        for name, column in self._columns.items():
            column.resize((start + stop,))
            if stop:
                column[start : start + stop] = getattr(block, name)[:stop]
        self._waiting = [block[stop:]]

    def _write_image(self, image: NDArray[np.uint8], t_us: float) -> None:
        if self._images is None:
            self._images = self._create("images", "u1", 1, image.shape)
        self.require_same_kind(image, self._images.shape[1:])
        count = self._images.shape[0]
        self._images.resize((count + 1, *image.shape))
        self._images[count] = image

    def _finish(self) -> None:
        self._flush_shards(final=True)
        if self._entries <= LARGEST_INDEX:
            index = np.concatenate([np.empty(0, np.int64), *self._index]).astype(np.uint64)
            column = self._create("ms_to_idx", "<u8")
            column.resize((len(index),))
            if len(index):
                column[:] = index
        if self.image_times:
            column = self._create("image_times", "<f8")
            column.resize((len(self.image_times),))
            column[:] = np.array(self.image_times)
        told = {**counted_attributes(self), **own_attributes(self)}
        self._group.attrs.update({**told, "sensor_resolution": [self.width, self.height]})

    def _abandon(self) -> None:
        self._waiting, self._columns, self._images = [], {}, None


def _open_group(path: Path) -> Any:
    with zarr_errors(path, "zarr.json"):
        return importlib.import_module("zarr").open_group(str(path), mode="r", zarr_format=3)


register(
    Format(
        name="zarr",
        summary="Zarr version 3 folder of evsim's columns, sharded",
        suffixes=(".zarr",),
        sniff=sniff,
        open=ZarrRecording,
        create=ZarrWriter,
        images=True,
        labels=True,
        origin=True,
        provenance=True,
    )
)
