"""RLED's memory-map folder (real .npy files), byte-compatible with the published converter from RLED HDF5."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats.catalogue import Format, register
from evsim.formats.native_writer import Windows, require_windows
from evsim.formats.storage.index_checks import window_defects
from evsim.formats.storage.npy_stream import MAGIC, NpyColumn, map_npy, npy_header, release_pages
from evsim.formats.storage.recording import (
    Defect,
    IndexedRecording,
    RecordedImage,
    interval_windows,
    search_times,
)
from evsim.formats.storage.rled_layout import (
    counted_attributes,
    own_attributes,
    require_known_version,
    sensor_size,
)
from evsim.formats.storage.units import (
    PER_MICROSECOND,
    SAMPLE,
    decide_unit,
    polarity_coding,
    to_microseconds,
    to_pixels,
    to_polarity,
)
from evsim.formats.storage.writer import EventWriter


def sniff(path: Path, head: bytes) -> bool:
    """True for a folder with t.npy, xy.npy, p.npy that have .npy headers (another flavour has none)."""
    names = ("t.npy", "xy.npy", "p.npy")
    if not path.is_dir() or not all((path / name).is_file() for name in names):
        return False
    with (path / "t.npy").open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (H, W) luma of an RGB image, 0.299 R + 0.587 G + 0.114 B in OpenCV's 15-bit fixed point."""
    if image.ndim == 2:
        return image
    r, g, b = (image[..., channel].astype(np.uint32) for channel in range(3))
    return ((9798 * r + 19235 * g + 3735 * b + (1 << 14)) >> 15).astype(np.uint8)


class RledMemmapRecording(IndexedRecording):
    """An RLED memory-map folder; nothing is loaded before it is asked for.

    Raises FormatError for arrays of different length or the wrong shape, InputError when size or unit must
    be told.
    """

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        attributes = load_metadata(path)
        require_known_version(path, attributes)
        self._t, self._xy, self._p = (map_npy(path / f"{name}.npy") for name in ("t", "xy", "p"))
        n = len(self._t) if self._t.ndim else 0
        shapes = (self._t.shape, self._xy.shape, self._p.shape)
        if shapes not in (((n, 1), (n, 2), (n, 1)), ((n,), (n, 2), (n,))):
            raise FormatError(path, f"t, xy, p have shapes {shapes}, expected (N, 1), (N, 2), (N, 1)")
        self._images = _map_if_there(path / "images.npy")
        self._image_times = _map_if_there(path / "timestamps.npy")
        self._windows = _map_if_there(path / "image_event_indices.npy")
        self._check_images(path)
        super().__init__(
            path,
            "rled_memmap",
            sensor_size(
                path,
                attributes.get("sensor_resolution"),
                order="hw",
                image_shape=None if self._images is None else self._images.shape[1:],
                given=size,
            ),
            t_origin=int(attributes.get("t_offset", 0)),
            unit=decide_unit(path, self._t[:SAMPLE], unit or attributes.get("time_unit")),
            polarity=polarity_coding(self._p[:SAMPLE]),
            attributes=attributes,
        )

    def _check_images(self, path: Path) -> None:
        if (self._images is None) != (self._image_times is None):
            raise FormatError(path, "has only one of images.npy and timestamps.npy, expected both or neither")
        if self._images is None or self._image_times is None:
            return
        count = len(self._images) if self._images.ndim else 0
        if self._images.ndim != 4 or self._images.dtype != np.uint8 or self._images.shape[3] not in (1, 3):
            raise FormatError(
                path,
                f"is {self._images.dtype} {self._images.shape}, expected uint8 (n, H, W, 1)",
                place="images.npy",
            )
        if self._image_times.size != count:
            raise FormatError(
                path, f"has {self._image_times.size} times for {count} images", place="timestamps.npy"
            )
        if self._windows is not None and self._windows.shape != (count, 2):
            raise FormatError(
                path,
                f"has shape {self._windows.shape}, expected ({count}, 2)",
                place="image_event_indices.npy",
            )

    def __len__(self) -> int:
        return len(self._t)

    @property
    def image_count(self) -> int:
        return 0 if self._images is None else len(self._images)

    @property
    def event_windows(self) -> NDArray[np.int64] | None:
        return None if self._windows is None else np.asarray(self._windows, np.int64)

    def images(self) -> Iterator[RecordedImage]:
        return map(self.image, range(self.image_count))

    def image(self, index: int) -> RecordedImage:
        self._require_image(index)
        assert self._images is not None
        assert self._image_times is not None
        stored = self._images[index]
        t_us = float(self._image_times.reshape(-1)[index]) / PER_MICROSECOND[self.unit]
        image = np.array(stored[..., 0] if stored.shape[2] == 1 else stored[..., ::-1])
        return RecordedImage(image, t_us, max(0, self.search(t_us) - 1))

    def image_times(self) -> NDArray[np.float64]:
        times = np.empty(0) if self._image_times is None else np.asarray(self._image_times, np.float64)
        return times.reshape(-1) / PER_MICROSECOND[self.unit]

    def own_defects(self) -> Iterator[Defect]:
        if self._windows is not None:
            windows = np.asarray(self._windows, np.int64)
            yield from window_defects("image_event_indices.npy", windows, len(self))

    def _read(self, start: int, stop: int) -> Events:
        place = f"events {start}..{stop - 1}"
        t, rounded = to_microseconds(self._t[start:stop].reshape(-1), self.unit, self.path, f"t.npy, {place}")
        self.rounded_times += rounded
        xy = self._xy[start:stop]
        return Events(
            t,
            to_pixels(np.ascontiguousarray(xy[:, 0]), self.path, f"xy.npy, {place}"),
            to_pixels(np.ascontiguousarray(xy[:, 1]), self.path, f"xy.npy, {place}"),
            to_polarity(self._p[start:stop].reshape(-1), self.path, f"p.npy, {place}"),
            self.width,
            self.height,
            self.t_origin,
        )

    def _release(self) -> None:
        release_pages(self._t, self._xy, self._p)

    def _times(self, start: int, stop: int) -> NDArray[np.int64]:
        return to_microseconds(self._t[start:stop].reshape(-1), self.unit, self.path, "t.npy")[0]


class RledMemmapWriter(EventWriter):
    """Writes the folder with flat memory; see `EventWriter` for the shared arguments.

    event_windows: as for `NativeWriter`; the default "interval" gives each image the events since the one
    before. attributes: the root attributes of a source file, which the published converter copies to
    metadata.json; None writes evsim's own. expected_events: how many will come, where that is known: then no
    column has to wait in a file of its own. Colour images become grey.
    """

    holds_images = True
    largest_side = 32768

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
        event_windows: Windows = "interval",
        attributes: Mapping[str, Any] | None = None,
        expected_events: int | None = None,
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
        self._windows = event_windows
        self._attributes = attributes
        self._expected = expected_events
        self._files: list[IO[bytes]] = []

    def _open(self, temporary: Path) -> None:
        temporary.mkdir()
        self._folder = temporary
        self._t = NpyColumn(self._file("t.npy"), "<f8", (1,))
        self._p = NpyColumn(self._file("p.npy"), "u1", (1,))
        # xy is stored column by column: x goes to its place, and so does y if that is known; else y waits in
        # an unnamed file.
        self._x = NpyColumn(self._file("xy.npy"), "<i2", (2,))
        if self._expected is None:
            self._y = NpyColumn(self._keep(_unnamed(temporary)), "<i2")
        else:
            self._x.file.flush()
            self._y_place = self._keep((temporary / "xy.npy").open("r+b"))
            self._y_place.seek(self._x.file.tell() + 2 * self._expected)
        self._images: NpyColumn | None = None

    def _file(self, name: str) -> IO[bytes]:
        return self._keep((self._folder / name).open("w+b"))

    def _keep(self, file: IO[bytes]) -> IO[bytes]:
        self._files.append(file)
        return file

    def _write(self, events: Events) -> None:
        self._t.append(events.t)
        self._p.append(events.p)
        # Below 32768 the bits of both types are the same.
        self._x.file.write(np.ascontiguousarray(events.x).view("<i2").data)
        y = np.ascontiguousarray(events.y).view("<i2")
        if self._expected is None:
            self._y.append(y)
        else:
            self._y_place.write(y.data)

    def _write_image(self, image: NDArray[np.uint8], t_us: float) -> None:
        if self._images is None:
            self._images = NpyColumn(self._file("images.npy"), "u1", (self.height, self.width, 1))
        self._images.append(grey(image))

    def _finish(self) -> None:
        for column in (self._t, self._p, self._images):
            if column is not None:
                column.finish()
        if self._expected is None:
            self._y.copy_data_to(self._x.file)
        elif self._expected != self.event_count:
            raise InputError(
                f"{self.path}: {self.event_count} events were written, {self._expected} were announced"
            )
        else:
            self._y_place.flush()
            self._x.file.flush()
        # numpy.save calls an array of one row C-ordered even when it was made the other way round.
        shape = (self.event_count, 2)
        self._x.rewrite_header(npy_header(self._x.dtype, shape, fortran=self.event_count > 1))
        if self.image_times:
            np.save(self._folder / "timestamps.npy", np.array(self.image_times, np.float64))
            windows = self._event_windows()
            if windows is not None:
                np.save(self._folder / "image_event_indices.npy", windows)
        (self._folder / "metadata.json").write_text(json.dumps(self._metadata()), encoding="utf-8")
        for file in self._files:
            file.close()

    def _event_windows(self) -> NDArray[np.int64] | None:
        if not isinstance(self._windows, str):
            return None if self._windows is None else require_windows(self, self._windows)

        def read(start: int, stop: int) -> NDArray[np.float64]:
            return self._t.rows(start, stop)[:, 0]

        return interval_windows(
            np.array(self.image_times),
            lambda t: search_times(read, t, 0, self.event_count, after=True),
        )

    def _metadata(self) -> dict[str, Any]:
        base = own_attributes(self) if self._attributes is None else dict(self._attributes)
        if "time_unit" in base:
            base["time_unit"] = "us"
        if self.t_origin:
            base["t_offset"] = self.t_origin
        merged = {**base, **counted_attributes(self), "sensor_resolution": [self.height, self.width]}
        return dict(sorted(merged.items()))

    def _abandon(self) -> None:
        for file in self._files:
            # A refused last block is reported by _finish; after a failure the folder goes anyway.
            with contextlib.suppress(OSError):
                file.close()
        self._files = []


def _unnamed(folder: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=folder)


def _map_if_there(path: Path) -> NDArray[Any] | None:
    return map_npy(path) if path.is_file() else None


def load_metadata(path: Path) -> dict[str, Any]:
    """The object in a folder's metadata.json, empty without one. Raises FormatError for anything else."""
    file = path / "metadata.json"
    if not file.is_file():
        return {}
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(file, f"is no JSON: {error}") from error
    if not isinstance(loaded, dict):
        raise FormatError(file, f"holds a {type(loaded).__name__}, expected the attributes")
    return loaded


register(
    Format(
        name="rled_memmap",
        summary="RLED memory-map folder: t.npy, xy.npy, p.npy, images.npy, timestamps.npy, metadata.json",
        suffixes=("",),
        sniff=sniff,
        open=RledMemmapRecording,
        create=RledMemmapWriter,
        images=True,
        colour=False,
        origin=True,
        provenance=True,
        options=("event_windows", "attributes", "expected_events"),
    )
)
