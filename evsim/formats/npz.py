"""evsim's plain arrays in one .npz: t, x, y, p, width, height, t_origin."""

from __future__ import annotations

import contextlib
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats.catalogue import Format, register
from evsim.formats.storage.npy_stream import HEADER_ERRORS, NpyColumn, npy_header, release_pages
from evsim.formats.storage.recording import IndexedRecording, RecordedImage
from evsim.formats.storage.rled_layout import sensor_size
from evsim.formats.storage.units import (
    PER_MICROSECOND,
    SAMPLE,
    check_unit,
    epoch_origin,
    polarity_coding,
    to_microseconds,
    to_pixels,
    to_polarity,
)
from evsim.formats.storage.writer import EventWriter

COLUMNS = ("t", "x", "y", "p")
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, struct.error)
"""What a damaged archive raises, also one whose damage looks like encryption or an unknown compression."""
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def sniff(path: Path, head: bytes) -> bool:
    """True for a zip archive with members t, x, y and p."""
    if not head.startswith(b"PK\x03\x04"):
        return False
    with _archive(path) as archive:
        return {f"{name}.npy" for name in COLUMNS} <= set(archive.namelist())


class NpzRecording(IndexedRecording):
    """A .npz of columns; those stored without compression are mapped, not loaded.

    Raises FormatError for missing or unequal columns, InputError when size or unit must be told.
    """

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        with _archive(path) as archive:
            arrays = {
                Path(name).stem: _member(path, archive, name)
                for name in archive.namelist()
                if name.endswith(".npy")
            }
        missing = [name for name in COLUMNS if name not in arrays]
        if missing:
            raise FormatError(path, f"has no arrays {', '.join(missing)}; it holds {', '.join(arrays)}")
        names = [*COLUMNS, *(["label"] if "label" in arrays else [])]
        self._columns = {name: arrays[name] for name in names}
        shapes = {name: column.shape for name, column in self._columns.items()}
        if len(set(shapes.values())) != 1 or len(shapes["t"]) != 1:
            raise FormatError(path, f"columns have shapes {shapes}, expected one length")
        self._images = arrays.get("images")
        self._image_times = arrays.get("image_times")
        if self._images is not None and (
            self._image_times is None or self._image_times.shape != self._images.shape[:1]
        ):
            raise FormatError(path, "images without one entry of image_times each")
        scalars = {name: array[()].item() for name, array in arrays.items() if array.ndim == 0}
        resolution = (
            (scalars["width"], scalars["height"]) if "width" in scalars and "height" in scalars else None
        )
        told = check_unit(unit or scalars.get("time_unit"))
        if told is None:
            raise InputError(
                f"{path}: the file does not say the unit of t; pass unit= (--unit s, ms, us or ns)"
            )
        self._shift = 0
        if "t_origin" not in scalars and len(arrays["t"]):
            first = to_microseconds(arrays["t"][:1], told, path, "t")[0]
            self._shift = epoch_origin(int(first[0]))
        super().__init__(
            path,
            "npz",
            sensor_size(path, resolution, order="wh", image_shape=None, given=size),
            t_origin=int(scalars.get("t_origin", self._shift)),
            unit=told,
            polarity=polarity_coding(self._columns["p"][:SAMPLE]),
            has_labels="label" in arrays,
            subpixel=arrays["x"].dtype.kind == "f" or arrays["y"].dtype.kind == "f",
            attributes={name: value for name, value in scalars.items() if name not in ("width", "height")},
        )

    def __len__(self) -> int:
        return len(self._columns["t"])

    @property
    def image_count(self) -> int:
        return 0 if self._images is None else len(self._images)

    def images(self) -> Iterator[RecordedImage]:
        if self._images is None or self._image_times is None:
            return
        for image, time in zip(self._images, self._image_times):
            t_us = float(time) / PER_MICROSECOND[self.unit] - self._shift
            yield RecordedImage(np.array(image), t_us, max(0, self.search(t_us) - 1))

    def _read(self, start: int, stop: int) -> Events:
        columns = {name: column[start:stop] for name, column in self._columns.items()}
        place = f"events {start}..{stop - 1}"
        t, rounded = to_microseconds(columns["t"], self.unit, self.path, f"t, {place}")
        self.rounded_times += rounded
        label = columns.get("label")
        return Events(
            t - self._shift,
            to_pixels(columns["x"], self.path, f"x, {place}"),
            to_pixels(columns["y"], self.path, f"y, {place}"),
            to_polarity(columns["p"], self.path, f"p, {place}"),
            self.width,
            self.height,
            self.t_origin,
            None if label is None else label.astype(np.uint8),
        )

    def _release(self) -> None:
        release_pages(*self._columns.values())

    def _times(self, start: int, stop: int) -> NDArray[np.int64]:
        return to_microseconds(self._columns["t"][start:stop], self.unit, self.path, "t")[0] - self._shift


class NpzWriter(EventWriter):
    """Writes the archive, uncompressed so that it can be mapped; see `EventWriter`.

    Columns wait in unnamed files in the output's folder. Images must all be grey or all colour (RGB).
    """

    holds_images = True
    holds_labels = True
    holds_subpixel = True
    largest_time = 2**63 - 1

    def _open(self, temporary: Path) -> None:
        self._temporary = temporary
        self._files: list[IO[bytes]] = []
        self._columns: dict[str, NpyColumn] = {}

    def _column(self, name: str, dtype: np.dtype, row_shape: tuple[int, ...] = ()) -> NpyColumn:
        if name not in self._columns:
            file = tempfile.TemporaryFile(dir=self._temporary.parent)  # noqa: SIM115 - closed by _abandon
            self._files.append(file)
            self._columns[name] = NpyColumn(file, dtype, row_shape)
        column = self._columns[name]
        if column.dtype != dtype or column.row_shape != row_shape:
            raise InputError(
                f"{self.path}: {name} are {dtype} {row_shape} after {column.dtype} {column.row_shape}; "
                "a .npz holds one kind"
            )
        return column

    def _write(self, events: Events) -> None:
        values = {"t": events.t, "x": events.x, "y": events.y, "p": events.p}
        if events.label is not None:
            values["label"] = events.label
        for name, rows in values.items():
            self._column(name, rows.dtype).append(rows)

    def _write_image(self, image: NDArray[np.uint8], t_us: float) -> None:
        self._column("images", image.dtype, image.shape).append(image[None])

    def _finish(self) -> None:
        if not self._columns.keys() >= set(COLUMNS):
            self._write(Events.empty(self.width, self.height, labels=self.labels))
        arrays: dict[str, Any] = {
            "width": self.width,
            "height": self.height,
            "t_origin": self.t_origin,
            "time_unit": "us",
        }
        if self.seed is not None:
            arrays["seed"] = self.seed
        if self.config_json is not None:
            arrays["config"] = self.config_json
        if self.image_times:
            arrays["image_times"] = np.array(self.image_times, np.float64)
        write_archive(self._temporary, {**self._columns, **arrays})

    def _abandon(self) -> None:
        for file in self._files:
            with contextlib.suppress(OSError):
                file.close()
        self._files, self._columns = [], {}


def write_archive(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write a .npz of arrays, numbers, text and `NpyColumn`s, stored plainly: the same bytes each time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, value in arrays.items():
            with archive.open(_entry(name), "w", force_zip64=True) as member:
                if isinstance(value, NpyColumn):
                    member.write(npy_header(value.dtype, value.shape))
                    value.copy_data_to(member)
                else:
                    npy_format.write_array(member, np.asarray(value), allow_pickle=False)


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy", ZIP_EPOCH)


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (*ZIP_ERRORS, OSError) as error:
        raise FormatError(path, f"damaged or cut short: {error}") from error


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """One array of the archive, mapped where it is stored plainly."""
    info = archive.getinfo(name)
    try:
        with archive.open(info) as member:
            version = npy_format.read_magic(member)
            read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, fortran, dtype = read(member)
            header = member.tell()
            if info.compress_type != zipfile.ZIP_STORED or not shape or 0 in shape or dtype.hasobject:
                member.seek(0)
                return npy_format.read_array(member, allow_pickle=False)
        with path.open("rb") as file:
            file.seek(info.header_offset + 26)
            name_length, extra_length = np.frombuffer(file.read(4), "<u2").tolist()
        return np.memmap(
            path,
            dtype,
            "r",
            info.header_offset + 30 + name_length + extra_length + header,
            shape,
            "F" if fortran else "C",
        )
    except (*HEADER_ERRORS, *ZIP_ERRORS) as error:
        raise FormatError(
            path, f"damaged: {' '.join(str(error).split()) or 'cut short'}", place=repr(name)[1:-1]
        ) from error


register(
    Format(
        name="npz",
        summary="plain numpy arrays t, x, y, p, width, height, t_origin in one .npz",
        suffixes=(".npz",),
        sniff=sniff,
        open=NpzRecording,
        create=NpzWriter,
        images=True,
        labels=True,
        subpixel=True,
        origin=True,
        provenance=True,
    )
)
