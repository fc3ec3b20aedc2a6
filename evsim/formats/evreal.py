"""EVREAL's sequence folder: events_ts, events_xy, events_p as .npy, times in seconds, and its images."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError
from evsim.events import Events
from evsim.formats.catalogue import Format, register
from evsim.formats.rled_memmap import grey, load_metadata
from evsim.formats.storage.columns import Column, ColumnRecording
from evsim.formats.storage.npy_stream import NpyColumn, map_npy
from evsim.formats.storage.recording import Defect, RecordedImage, search_times
from evsim.formats.storage.rled_layout import sensor_size
from evsim.formats.storage.units import EXACT_SECONDS_US, check_unit
from evsim.formats.storage.writer import EventWriter

COLUMNS = ("events_ts", "events_xy", "events_p")
IMAGE_FILES = ("images", "images_ts", "image_event_indices")


def sniff(path: Path, head: bytes) -> bool:
    """True for a folder with events_ts.npy, events_xy.npy and events_p.npy."""
    return path.is_dir() and all((path / f"{name}.npy").is_file() for name in COLUMNS)


class EvrealRecording(ColumnRecording):
    """A sequence folder of EVREAL's; nothing is loaded before it is asked for.

    As EVREAL has it, a folder without all three image files has no images. Raises FormatError for arrays
    that do not fit together, InputError when the size must be told.
    """

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        attributes = load_metadata(path)
        ts, xy, p = (map_npy(path / f"{name}.npy") for name in COLUMNS)
        if xy.ndim != 2 or xy.shape[1] != 2:
            raise FormatError(path, f"has shape {xy.shape}, expected (N, 2)", place="events_xy.npy")
        there = [name for name in IMAGE_FILES if (path / f"{name}.npy").is_file()]
        self._images: NDArray[Any] | None = None
        if len(there) == len(IMAGE_FILES):
            self._images, self._image_times, self._last_events = (
                map_npy(path / f"{name}.npy") for name in IMAGE_FILES
            )
            self._check_images(path, self._images)
        super().__init__(
            path,
            "evreal",
            sensor_size(
                path,
                attributes.get("sensor_resolution"),
                order="hw",
                image_shape=None if self._images is None else self._images.shape[1:],
                given=size,
            ),
            {
                "t": Column(_flat(ts), "events_ts.npy"),
                "x": Column(xy[:, 0], "events_xy.npy"),
                "y": Column(xy[:, 1], "events_xy.npy"),
                "p": Column(_flat(p), "events_p.npy"),
            },
            unit=check_unit(unit) or "s",
            t_origin=int(attributes["t_offset"]) if "t_offset" in attributes else None,
            attributes=attributes,
        )

    def _check_images(self, path: Path, images: NDArray[Any]) -> None:
        count = len(images) if images.ndim else 0
        if images.ndim != 4 or images.dtype != np.uint8:
            raise FormatError(
                path, f"is {images.dtype} {images.shape}, expected uint8 (M, H, W, 1)", place="images.npy"
            )
        for name, array in (("images_ts", self._image_times), ("image_event_indices", self._last_events)):
            if array.size != count:
                raise FormatError(path, f"has {array.size} entries for {count} images", place=f"{name}.npy")

    @property
    def image_count(self) -> int:
        return 0 if self._images is None else len(self._images)

    @property
    def last_events(self) -> NDArray[np.int64] | None:
        """int64 (image_count,): the last event at or before each image, as the folder says it."""
        return None if self._images is None else np.asarray(self._last_events, np.int64).reshape(-1)

    def own_defects(self) -> Iterator[Defect]:
        stored = self.last_events
        if stored is None:
            return
        times = [self._time_us(time) for time in self._image_times.reshape(-1)]
        wanted = [min(max(0, self.search(t, after=True) - 1), max(0, len(self) - 1)) for t in times]
        # A time between two microseconds may fall on either side of an event: one position more or less.
        wrong = np.flatnonzero(np.abs(stored - np.array(wanted, np.int64)) > 1)
        for row in wrong.tolist():
            yield Defect(
                f"image_event_indices.npy, image {row}",
                f"is {stored[row]}, expected {wanted[row]} by its time",
            )

    @property
    def event_seconds(self) -> NDArray[np.float64]:
        """float64 (events,): times as the folder holds them, seconds, mapped from the file."""
        return np.asarray(_flat(self._columns["t"].data))

    @property
    def image_seconds(self) -> NDArray[np.float64]:
        """float64 (image_count,): times as the folder holds them, seconds."""
        return np.empty(0) if self._images is None else np.asarray(self._image_times, np.float64).reshape(-1)

    def images(self) -> Iterator[RecordedImage]:
        if self._images is None:
            return
        for stored, time in zip(self._images, self._image_times.reshape(-1)):
            # As EVREAL reads them: the first channel.
            t_us = self._time_us(time)
            yield RecordedImage(np.array(stored[..., 0]), t_us, max(0, self.search(t_us) - 1))


class EvrealWriter(EventWriter):
    """Writes EVREAL's folder; see `EventWriter`. Colour images become grey.

    Times are not moved to begin at 0; t_origin goes to metadata.json as t_offset.
    """

    holds_images = True
    largest_side = 32768
    largest_time = EXACT_SECONDS_US

    def _open(self, temporary: Path) -> None:
        temporary.mkdir()
        self._folder = temporary
        self._files: list[IO[bytes]] = []
        self._t = self._column("events_ts", "<f8")
        self._xy = self._column("events_xy", "<i2", (2,))
        self._p = self._column("events_p", "u1")
        self._images: NpyColumn | None = None

    def _column(self, name: str, dtype: str, row_shape: tuple[int, ...] = ()) -> NpyColumn:
        file = (self._folder / f"{name}.npy").open("w+b")
        self._files.append(file)
        return NpyColumn(file, dtype, row_shape)

    def _write(self, events: Events) -> None:
        self._t.append(events.t / 1e6)
        self._xy.append(np.stack([events.x, events.y], 1))
        self._p.append(events.p)

    def _write_image(self, image: NDArray[np.uint8], t_us: float) -> None:
        if self._images is None:
            self._images = self._column("images", "u1", (self.height, self.width, 1))
        self._images.append(grey(image))

    def _finish(self) -> None:
        for column in (self._t, self._xy, self._p, self._images):
            if column is not None:
                column.finish()
        if self.image_times:
            seconds = np.array(self.image_times)[:, None] / 1e6
            np.save(self._folder / "images_ts.npy", seconds)
            ends = [search_times(self._t.rows, t, 0, self.event_count, after=True) for t in seconds[:, 0]]
            last = np.clip(np.array(ends, np.int64)[:, None] - 1, 0, max(0, self.event_count - 1))
            np.save(self._folder / "image_event_indices.npy", last)
        metadata = {"sensor_resolution": [self.height, self.width]}
        told = {"t_offset": self.t_origin} if self.t_origin else {}
        (self._folder / "metadata.json").write_text(json.dumps({**metadata, **told}), encoding="utf-8")
        for file in self._files:
            file.close()

    def _abandon(self) -> None:
        for file in getattr(self, "_files", []):
            with contextlib.suppress(OSError):
                file.close()
        self._files = []


def _flat(column: NDArray[Any]) -> NDArray[Any]:
    return column.reshape(-1) if column.ndim == 2 and column.shape[1] == 1 else column


register(
    Format(
        name="evreal",
        summary="EVREAL sequence folder: events_ts, events_xy, events_p, images as .npy",
        suffixes=(".evreal",),
        sniff=sniff,
        open=EvrealRecording,
        create=EvrealWriter,
        unit="s",
        images=True,
        colour=False,
        origin=True,
    )
)
