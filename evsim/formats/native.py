"""evsim's own HDF5 file, reading: the RLED / h5_tools layout with a declared unit, origin, seed and index.

The same reader takes RLED files and those of event_utils and its relatives; docs/formats.md has the layout.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError
from evsim.events import COLOR_PATTERNS, Events
from evsim.formats.catalogue import Format, register
from evsim.formats.native_writer import NativeWriter
from evsim.formats.storage.hdf5 import checked_dataset, hdf5_errors, holds, open_hdf5, plain_attributes
from evsim.formats.storage.hdf5_rows import stored_rows
from evsim.formats.storage.index_checks import millisecond_defects, window_defects
from evsim.formats.storage.recording import BLOCK, Defect, ImageFacts, IndexedRecording, RecordedImage
from evsim.formats.storage.rled_layout import is_ours, require_known_version, sensor_size
from evsim.formats.storage.sidecar import STEP, Arrays, bracket, kept_index
from evsim.formats.storage.units import (
    SAMPLE,
    TimeUnit,
    decide_unit,
    epoch_origin,
    image_time_us,
    polarity_coding,
    to_microseconds,
    to_pixels,
    to_polarity,
)
from evsim.timed_image import ImageKind

COLUMNS = (
    ("events/xs", "events/ys", "events/ts", "events/ps"),
    ("events/x", "events/y", "events/ts", "events/p"),
    ("events/x", "events/y", "events/t", "events/p"),
)


def sniff(path: Path, head: bytes) -> bool:
    """True for HDF5 with RLED's event columns; a t_offset beside them marks another layout (DSEC's)."""
    if not holds(path, head, *COLUMNS):
        return False
    with open_hdf5(path) as file, hdf5_errors(path):
        return "t_offset" not in file


class NativeRecording(IndexedRecording):
    """A file in the RLED layout, ours or another writer's.

    Raises FormatError for columns of different length, damaged datasets, images without a time; InputError
    when size or unit must be told.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: tuple[int, int] | None = None,
        unit: str | None = None,
    ) -> None:
        self._file = open_hdf5(Path(path))
        self._plain: IO[bytes] | None = None
        self._kept: NDArray[Any] | None = None
        try:
            self._prepare(Path(path), size, unit)
        except BaseException:
            self._file.close()
            raise

    def _prepare(self, path: Path, size: tuple[int, int] | None, unit: str | None) -> None:
        file, self.path = self._file, path
        attributes = plain_attributes(path, file)
        require_known_version(path, attributes)
        with hdf5_errors(path):
            names = next((names for names in COLUMNS if all(name in file for name in names)), None)
            if names is None:
                raise FormatError(
                    path, "has no events/xs, ys, ts, ps (nor events/x, y, t, p)", place="events"
                )
            x, y, t, p = (file[name] for name in names)
            self._columns: dict[str, Any] = {"t": t, "x": x, "y": y, "p": p}
            if "events/labels" in file:
                self._columns["label"] = file["events/labels"]
            if is_ours(attributes) and "ms_to_idx" in file:
                self._check_columns()
            else:
                self._kept = kept_index(path, "native", self._every_step)["times"]
            self._image_names = sorted(file["images"]) if "images" in file else []
            image_shape = file[f"images/{self._image_names[0]}"].shape if self._image_names else None
            sample_t, sample_p = t[:SAMPLE], p[:SAMPLE]
        lengths = {name: column.shape for name, column in self._columns.items()}
        if len(set(lengths.values())) != 1 or len(t.shape) != 1:
            raise FormatError(
                path, f"columns differ in shape: {lengths}; expected one length", place="events"
            )
        self._length = int(t.shape[0])
        if self._kept is not None and len(self._kept) != -(-self._length // STEP):
            raise FormatError(path, f"has {len(self._kept)} times of {self._length} events", place="index")
        self._ours = self.any_image_size = is_ours(attributes)
        told = decide_unit(path, sample_t, unit or attributes.get("time_unit"))
        self._shift = 0
        if "t_offset" not in attributes and self._length:
            first = to_microseconds(sample_t[:1], told, path, names[2])[0]
            self._shift = epoch_origin(int(first[0]))
        super().__init__(
            path,
            "native",
            sensor_size(
                path,
                attributes.get("sensor_resolution"),
                order="wh" if self._ours else None,
                # Ours say it themselves: their images may have another size.
                image_shape=None if self._ours and "sensor_resolution" in attributes else image_shape,
                given=size,
            ),
            t_origin=int(attributes.get("t_offset", self._shift)),
            unit=told,
            polarity=polarity_coding(sample_p),
            has_labels="label" in self._columns,
            attributes=attributes,
        )
        self._index = self._load_index()
        self._color_pattern = self._read_color_pattern(attributes)
        if self._kept is not None:
            self._kept = _sound(self._kept, told, path)

    def _read_color_pattern(self, attributes: Mapping[str, Any]) -> str | None:
        pattern = attributes.get("color_pattern")
        if pattern is not None and pattern not in COLOR_PATTERNS:
            raise FormatError(
                self.path,
                f"is {pattern!r}, expected {' or '.join(COLOR_PATTERNS)}",
                place="attribute color_pattern",
            )
        return pattern

    def _check_columns(self) -> None:
        for column in self._columns.values():
            checked_dataset(self.path, column)

    def _every_step(self) -> Arrays:
        """The stored times of rows 0, STEP, 2 STEP, ... of columns that were checked."""
        self._check_columns()
        return {"times": self._columns["t"][::STEP]}

    def _load_index(self) -> NDArray[np.uint64] | None:
        """The index of milliseconds, which is small; only ours is known to count from the first event."""
        with hdf5_errors(self.path, "ms_to_idx"):
            if not (self._ours and "ms_to_idx" in self._file and self._length):
                return None
            index = checked_dataset(self.path, self._file["ms_to_idx"])[:]
        if index.ndim != 1 or not len(index) or index[0] != 0 or index.max() > self._length:
            raise FormatError(self.path, f"does not index {self._length} events", place="ms_to_idx")
        self._t_first = int(self._times(0, 1)[0])
        return index

    def __len__(self) -> int:
        return self._length

    @property
    def image_count(self) -> int:
        return len(self._image_names)

    @property
    def event_windows(self) -> NDArray[np.int64] | None:
        with hdf5_errors(self.path, "event_indices"):
            if "event_indices" not in self._file:
                return None
            windows = checked_dataset(self.path, self._file["event_indices"])[:].astype(np.int64)
            if windows.shape != (self.image_count, 2):
                raise FormatError(
                    self.path,
                    f"has shape {windows.shape}, expected ({self.image_count}, 2)",
                    place="event_indices",
                )
            return windows

    def image_times(self) -> NDArray[np.float64]:
        """float64 microseconds of each image, without reading the images."""
        return np.array([self._image_time(name) for name in self._image_names], np.float64)

    def images(self) -> Iterator[RecordedImage]:
        return map(self._load_image, self._image_names)

    def image(self, index: int) -> RecordedImage:
        self._require_image(index)
        return self._load_image(self._image_names[index])

    def _load_image(self, name: str) -> RecordedImage:
        place = f"images/{name}"
        with hdf5_errors(self.path, place):
            dataset = checked_dataset(self.path, self._file[place])
            image = dataset[:]
            colour = image.ndim == 3
            index = dataset.attrs.get("event_idx")
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (colour and image.shape[2] not in (1, 3)):
            raise FormatError(
                self.path,
                f"is {image.dtype} {image.shape}, expected uint8 (H, W) or (H, W, 3)",
                place=place,
            )
        if colour:
            image = np.ascontiguousarray(image[..., ::-1]) if image.shape[2] == 3 else image[..., 0]
        t_us = self._image_time(name)
        number = int(index) if index is not None else self._index_before(t_us)
        return RecordedImage(image, t_us, number, *self._exposure(name))

    def image_facts(self) -> Iterator[ImageFacts]:
        """Size, exposure and kind of each image, without reading the images."""
        for name in self._image_names:
            with hdf5_errors(self.path, f"images/{name}"):
                height, width = self._file[f"images/{name}"].shape[:2]
            yield ImageFacts(width, height, *self._exposure(name))

    def _exposure(self, name: str) -> tuple[float, ImageKind]:
        """Length of the exposure, microseconds, and kind of an image; 0 and frame where nothing is said."""
        place = f"images/{name}"
        with hdf5_errors(self.path, place):
            stored = self._file[place].attrs
            exposure, kind = stored.get("exposure", 0.0), stored.get("kind", "frame")
        if not self._ours:
            return 0.0, "frame"
        if not isinstance(exposure, (int, float, np.number)) or not 0 <= exposure < np.inf:
            raise FormatError(self.path, f"exposure is {exposure}, expected 0 or more", place=place)
        if kind not in get_args(ImageKind):
            raise FormatError(
                self.path, f"kind is {kind!r}, expected one of {', '.join(get_args(ImageKind))}", place=place
            )
        return float(exposure), kind

    def own_defects(self) -> Iterator[Defect]:
        if self._index is not None:
            yield from millisecond_defects(self, self._index, self._t_first, whole=True)
        for number, name in enumerate(self._image_names):
            place = f"images/{name}"
            with hdf5_errors(self.path, place):
                stored = self._file[place].attrs.get("event_idx")
            wanted = self._index_before(self._image_time(name))
            if stored is not None and int(stored) != wanted:
                yield Defect(
                    place, f"event_idx is {int(stored)}, expected {wanted} by its time (image {number})"
                )
        windows = self.event_windows
        if windows is not None:
            yield from window_defects("event_indices", windows, self._length)

    def close(self) -> None:
        self._file.close()
        if self._plain is not None:
            self._plain.close()

    def _index_before(self, t_us: float) -> int:
        return max(0, self.search(t_us) - 1)

    def _image_time(self, name: str) -> float:
        with hdf5_errors(self.path, f"images/{name}"):
            time = self._file[f"images/{name}"].attrs.get("timestamp")
        if time is None or not np.isfinite(time):
            raise FormatError(self.path, f"timestamp is {time}, expected a time", place=f"images/{name}")
        return image_time_us(time, self.unit) - self._shift

    def _read(self, start: int, stop: int) -> Events:
        place = f"events {start}..{stop - 1}"
        columns = {}
        for name in self._columns:
            with hdf5_errors(self.path, f"{self._columns[name].name.lstrip('/')}, {place}"):
                columns[name] = self._columns[name][start:stop]
        t, rounded = to_microseconds(columns["t"], self.unit, self.path, f"events/ts, {place}")
        self.rounded_times += rounded
        return Events(
            t - self._shift if self._shift else t,
            to_pixels(columns["x"], self.path, f"events/xs, {place}"),
            to_pixels(columns["y"], self.path, f"events/ys, {place}"),
            to_polarity(columns["p"], self.path, f"events/ps, {place}"),
            self.width,
            self.height,
            self.t_origin,
            columns.get("label"),
            self._color_pattern,
        )

    def _blocks(self) -> Iterator[Events]:
        if self._length > BLOCK:
            self._pass_the_library()
        return super()._blocks()

    def _pass_the_library(self) -> None:
        """Read plainly stored columns past the HDF5 library from here on."""
        if self._plain is None:
            self._plain = self.path.open("rb")
        for name, column in self._columns.items():
            if isinstance(column, h5py.Dataset):
                with hdf5_errors(self.path, column.name.lstrip("/")):
                    self._columns[name] = stored_rows(self.path, column, self._plain.fileno()) or column

    def _times(self, start: int, stop: int) -> NDArray[np.int64]:
        place = f"events/ts, events {start}..{stop - 1}"
        with hdf5_errors(self.path, place):
            column = self._columns["t"][start:stop]
        return to_microseconds(column, self.unit, self.path, place)[0] - self._shift

    def _bracket(self, t: int) -> tuple[int, int]:
        if self._index is None:
            return (
                (0, self._length)
                if self._kept is None
                else bracket(self._kept, self._length, t + self._shift)
            )
        # Entry k is the first event from k milliseconds after the first one on.
        elapsed = (t - self._t_first) // 1000
        if elapsed < 0:
            return 0, min(1, self._length)
        last = len(self._index) - 1
        low = int(self._index[min(elapsed, last)])
        return low, int(self._index[elapsed + 1]) if elapsed < last else self._length


def _sound(kept: NDArray[Any], unit: TimeUnit, path: Path) -> NDArray[np.int64] | None:
    """The kept times in microseconds, None where one is no time: reading that event will say so."""
    with contextlib.suppress(FormatError):
        return to_microseconds(kept, unit, path, "index")[0]
    return None


register(
    Format(
        name="native",
        summary="evsim's HDF5 file in the RLED layout (events/xs ys ts ps, images); RLED, event_utils",
        suffixes=(".h5", ".hdf5"),
        sniff=sniff,
        open=NativeRecording,
        create=NativeWriter,
        polarity="bool",
        images=True,
        timed_images=True,
        labels=True,
        origin=True,
        provenance=True,
        options=("compression", "event_windows"),
    )
)
