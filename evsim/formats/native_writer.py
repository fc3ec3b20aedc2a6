"""evsim's own HDF5 file, writing: streams events and images with flat memory, byte for byte reproducible."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.formats.storage.hdf5 import compression_filters
from evsim.formats.storage.hdf5_writer import CHUNK, Hdf5Writer, append_rows, resizable
from evsim.formats.storage.recording import interval_windows, search_times
from evsim.formats.storage.rled_layout import counted_attributes, own_attributes
from evsim.formats.storage.writer import EventWriter
from evsim.timed_image import TimedImage

LARGEST_INDEX = 1 << 24
"""Milliseconds that ms_to_idx may span, 4.6 hours: a longer or wildly gapped recording has no index."""

Windows = NDArray[np.int64] | Literal["interval"] | None


class NativeWriter(Hdf5Writer):
    """Writes evsim's HDF5 file; see `EventWriter` for the shared arguments.

    config: the JSON-able configuration that determines the content; no path, date or worker count, so that
    the same input gives the same bytes. compression: None (readable by plain h5py) or "blosc" (zstd; needs
    hdf5plugin). event_windows: int64 (images, 2) [start, end) of each image for the dataset
    event_indices, "interval" for the events between consecutive images, None for no such dataset.
    """

    holds_images = True
    holds_timed_images = True
    holds_labels = True

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
        event_windows: Windows = None,
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
        self._filters = compression_filters(compression)
        self._windows = event_windows
        self._columns: dict[str, h5py.Dataset] = {}
        self._color_pattern: str | None = None

    def _start(self, file: h5py.File) -> None:
        pixel = "<i2" if max(self.width, self.height) <= 32767 else "<u2"
        kinds = {
            "xs": pixel,
            "ys": pixel,
            "ts": "<f8",
            "ps": "?",
            **({"labels": "u1"} if self.labels else {}),
        }
        events = file.create_group("events")
        self._columns = {name: resizable(events, name, kind, **self._filters) for name, kind in kinds.items()}
        self._index = MillisecondIndex(resizable(file, "ms_to_idx", "<u8", **self._filters))

    def _write(self, events: Events) -> None:
        # Below 32768 the bits of both types are the same.
        kind = self._columns["xs"].dtype
        columns = {
            "xs": events.x.view(kind),
            "ys": events.y.view(kind),
            "ts": events.t,
            "ps": events.p.view(bool),
        }
        if events.label is not None:
            columns["labels"] = events.label
        self._index.extend(events.t)
        for name, values in columns.items():
            append_rows(self._columns[name], values)
        if events.color_pattern is not None:
            self._color_pattern = events.color_pattern
        self._check()

    def _write_timed_image(self, timed: TimedImage) -> None:
        image = timed.image
        colour = image.ndim == 3
        stored = np.ascontiguousarray(image[..., ::-1]) if colour else np.ascontiguousarray(image)
        dataset = self._file.create_dataset(
            f"images/image{len(self.image_times):09d}", data=stored, track_times=False
        )
        dataset.attrs["size"] = np.array(stored.shape, np.int64)
        dataset.attrs["timestamp"] = np.float64(timed.t_us)
        dataset.attrs["event_idx"] = np.int64(0)  # known when all events are there
        dataset.attrs["type"] = "color_bgr" if colour else "greyscale"
        # Left out of plain frames: their bytes are those that RLED's readers and earlier versions know.
        if timed.exposure_us:
            dataset.attrs["exposure"] = np.float64(timed.exposure_us)
        if timed.kind != "frame":
            dataset.attrs["kind"] = timed.kind
        self._check()

    def _complete(self, file: h5py.File) -> None:
        self._index.finish()
        self._number_images(file)
        for name, value in {**counted_attributes(self), **own_attributes(self)}.items():
            file.attrs[name] = np.int64(value) if isinstance(value, int) else value
        file.attrs["sensor_resolution"] = np.array([self.width, self.height], np.int64)
        if self._color_pattern is not None:
            file.attrs["color_pattern"] = self._color_pattern

    def _number_images(self, file: h5py.File) -> None:
        times = self._columns["ts"]

        def search(t: float, after: bool, low: int = 0) -> int:
            return search_times(lambda start, stop: times[start:stop], t, low, len(times), after=after)

        low = 0
        for number, t_us in enumerate(self.image_times):
            low = search(t_us, False, low)
            file[f"images/image{number:09d}"].attrs["event_idx"] = np.int64(max(0, low - 1))
        if self.image_times:
            file["images"].attrs["num_images"] = np.int64(len(self.image_times))
        if isinstance(self._windows, str):
            windows = interval_windows(np.array(self.image_times), lambda t: search(t, True))
        elif self._windows is not None:
            windows = require_windows(self, self._windows)
        else:
            return
        file.create_dataset("event_indices", data=windows, track_times=False)


class MillisecondIndex:
    """Builds ms_to_idx: entry k is the first event with t >= first + 1000 k, up to the last event.

    first: microseconds, the first event's time when None.
    """

    def __init__(self, dataset: h5py.Dataset, *, first: int | None = None) -> None:
        self._dataset = dataset
        self._pending: list[NDArray[np.uint64]] = []
        self._waiting = 0
        self._entries = 0
        self._events = 0
        self._first = first
        self._overlong = False

    def extend(self, t: NDArray[np.int64]) -> None:
        """Account for the next events."""
        if self._first is None:
            self._first = int(t[0])
        stop = (int(t[-1]) - self._first) // 1000 + 1
        self._overlong = self._overlong or stop > LARGEST_INDEX
        if not self._overlong and stop > self._entries:
            borders = self._first + 1000 * np.arange(self._entries, stop, dtype=np.int64)
            self._pending.append((self._events + np.searchsorted(t, borders)).astype(np.uint64))
            self._waiting += stop - self._entries
            self._entries = stop
            if self._waiting >= CHUNK:
                self._flush()
        self._events += len(t)

    def finish(self) -> None:
        """Write what is left, or remove the index of a recording too long for one."""
        self._flush()
        if self._overlong:
            del self._dataset.parent["ms_to_idx"]

    def _flush(self) -> None:
        if self._pending:
            append_rows(self._dataset, np.concatenate(self._pending))
        self._pending, self._waiting = [], 0


def require_windows(writer: EventWriter, windows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The windows as int64 (images, 2). Raises InputError for another shape or windows outside the events."""
    found = np.asarray(windows, np.int64)
    if found.shape != (len(writer.image_times), 2):
        raise InputError(
            f"{writer.path}: event windows have shape {found.shape}, expected one [start, end) for each of "
            f"{len(writer.image_times)} images"
        )
    if found.size and not (found.min() >= 0 and found.max() <= writer.event_count):
        raise InputError(
            f"{writer.path}: event windows span {found.min()}..{found.max()}, "
            f"expected 0..{writer.event_count}"
        )
    return found
