"""v2e's HDF5 file: one table `events` of uint32 rows t [us], x, y, p, and perhaps its frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats.catalogue import Format, register
from evsim.formats.evt2 import RESTARTS
from evsim.formats.rled_memmap import grey
from evsim.formats.storage.hdf5 import checked_dataset, hdf5_errors, holds, open_hdf5, plain_attributes
from evsim.formats.storage.hdf5_writer import Hdf5Writer, append_rows, resizable
from evsim.formats.storage.recording import BLOCK, Defect, IndexedRecording, RecordedImage, search_times
from evsim.formats.storage.rled_layout import sensor_size
from evsim.formats.storage.sidecar import STEP, Arrays, bracket, kept_index
from evsim.formats.storage.units import check_unit, to_pixels, to_polarity

PERIOD_US = 1 << 32
OLD_OFF = 4294967295
REPAIRED = "OFF events were written as 4294967295, which is -1 in 32 bits; they are OFF here"
ROWS = 8192


def sniff(path: Path, head: bytes) -> bool:
    """True for HDF5 with one table `events` of four columns."""
    if not holds(path, head, ("events",)):
        return False
    with open_hdf5(path) as file, hdf5_errors(path):
        return _is_table(file["events"])


def _is_table(dataset: h5py.Dataset) -> bool:
    return dataset.ndim == 2 and dataset.shape[1] == 4 and dataset.dtype.kind in "iu"


class V2eRecording(IndexedRecording):
    """A file of v2e. Its clock of 32 bits starts again after 71.6 minutes; times here run on.

    Without frames, and unless evsim wrote it, the file does not say the sensor's size. Raises FormatError
    for damaged or contradicting datasets, InputError when the size must be told.
    """

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        self._file = open_hdf5(path)
        try:
            self._prepare(path, size, unit)
        except BaseException:
            self._file.close()
            raise

    def _prepare(self, path: Path, size: tuple[int, int] | None, unit: str | None) -> None:
        if check_unit(unit) not in (None, "us"):
            raise InputError(f"{path}: this layout has microseconds, not {unit}; leave --unit out")
        with hdf5_errors(path):
            self._rows = checked_dataset(path, self._file["events"])
            if not _is_table(self._rows):
                raise FormatError(
                    path,
                    f"is {self._rows.dtype} {self._rows.shape}, expected integers (N, 4)",
                    place="events",
                )
            names = [name for name in ("frame", "frame_ts") if name in self._file]
            frames = [checked_dataset(path, self._file[name]) for name in names]
            attributes = plain_attributes(path, self._file)
        if len(names) == 1 or (frames and frames[0].shape[:1] != frames[1].shape):
            raise FormatError(path, "does not fit frame_ts: expected one time for each frame", place="frame")
        self._frames = frames[0] if frames and len(frames[0]) else None
        if self._frames is not None and (self._frames.ndim != 3 or self._frames.dtype != np.uint8):
            raise FormatError(
                path, f"is {self._frames.dtype} {self._frames.shape}, expected uint8 (n, H, W)", place="frame"
            )
        self.path = path
        self._image_times: NDArray[np.float64] = np.empty(0)
        super().__init__(
            path,
            "v2e_hdf5",
            sensor_size(
                path,
                attributes.get("sensor_resolution"),
                order="wh",
                image_shape=None if self._frames is None else self._frames.shape[1:],
                given=size,
            ),
            t_origin=int(attributes.get("t_offset", 0)),
            attributes=attributes,
        )
        if frames:
            with hdf5_errors(path, "frame_ts"):
                stored = frames[1][:]
            wrapped = np.cumsum(np.diff(stored.astype(np.int64), prepend=0) < -PERIOD_US // 2)
            self._image_times = (stored + PERIOD_US * wrapped).astype(np.float64)
        kept = kept_index(path, self.format, self._find_restarts)
        self._restarts, self._kept = kept["restarts"], kept["times"]
        if len(self._restarts):
            self.repairs[RESTARTS] = len(self._restarts)

    def __len__(self) -> int:
        return int(self._rows.shape[0])

    @property
    def image_count(self) -> int:
        return len(self._image_times)

    def images(self) -> Iterator[RecordedImage]:
        if self._frames is None:
            return
        for number, t_us in enumerate(self._image_times.tolist()):
            with hdf5_errors(self.path, f"frame {number}"):
                image = self._frames[number]
            yield RecordedImage(image, t_us, max(0, self.search(t_us) - 1))

    def own_defects(self) -> Iterator[Defect]:
        with hdf5_errors(self.path, "frame_idx"):
            if "frame_idx" not in self._file:
                return
            stored = checked_dataset(self.path, self._file["frame_idx"])[:].astype(np.int64)
        if stored.shape != (self.image_count,) or np.any(np.diff(stored) < 0):
            yield Defect(
                "frame_idx", f"has shape {stored.shape} or goes back, expected one rising count a frame"
            )
        elif stored.size and (stored.min() < 0 or stored.max() > len(self)):
            yield Defect("frame_idx", f"reaches {stored.max()}, expected 0..{len(self)}")

    def close(self) -> None:
        self._file.close()

    def _find_restarts(self) -> Arrays:
        """Positions of the first event after each new start of the clock, and every STEP-th event's time."""
        found, every, last = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
        for start in range(0, len(self), BLOCK):
            t = self._table(start, min(start + BLOCK, len(self)), slice(0, 1))[:, 0].astype(np.int64)
            steps = np.diff(t, prepend=last)
            found.append(start + np.flatnonzero(steps < -(PERIOD_US // 2)))
            every.append(t[::STEP])
            last = int(t[-1])
        restarts, times = np.concatenate(found), np.concatenate(every)
        turned = np.searchsorted(restarts, STEP * np.arange(len(times)), "right")
        return {"restarts": restarts, "times": times + PERIOD_US * turned}

    def _bracket(self, t: int) -> tuple[int, int]:
        return bracket(self._kept, len(self), t)

    def _table(self, start: int, stop: int, columns: slice) -> NDArray[Any]:
        with hdf5_errors(self.path, f"events {start}..{stop - 1}"):
            return self._rows[start:stop, columns]

    def _run_on(self, t: NDArray[Any], start: int) -> NDArray[np.int64]:
        rows = np.arange(start, start + len(t))
        return t.astype(np.int64) + PERIOD_US * np.searchsorted(self._restarts, rows, "right")

    def _read(self, start: int, stop: int) -> Events:
        place = f"events {start}..{stop - 1}"
        table = self._table(start, stop, slice(0, 4))
        t, x, y, p = (np.ascontiguousarray(column) for column in table.T)
        p = repaired_polarity(p, self.repairs)
        return Events(
            self._run_on(t, start),
            to_pixels(x, self.path, place),
            to_pixels(y, self.path, place),
            to_polarity(p, self.path, place),
            self.width,
            self.height,
            self.t_origin,
        )

    def _times(self, start: int, stop: int) -> NDArray[np.int64]:
        return self._run_on(self._table(start, stop, slice(0, 1))[:, 0], start)


def repaired_polarity(p: NDArray[Any], repairs: dict[str, int]) -> NDArray[Any]:
    """The column with 0 in place of what old versions wrote for OFF, which is counted in `repairs`."""
    old = p == OLD_OFF if p.dtype.itemsize > 2 else np.zeros(len(p), bool)
    if not old.any():
        return p
    repairs[REPAIRED] = repairs.get(REPAIRED, 0) + int(np.count_nonzero(old))
    return np.where(old, 0, p)


class V2eWriter(Hdf5Writer):
    """Writes v2e's layout; see `EventWriter`. Frames become grey and their times whole microseconds.

    The sensor's size and t_origin, which the layout has no place for, go to root attributes
    sensor_resolution and t_offset.
    """

    holds_images = True
    largest_time = PERIOD_US
    signed_time = False

    def _start(self, file: h5py.File) -> None:
        self._events = resizable(file, "events", "<u4", (4,), rows=ROWS, compression="gzip")
        self._frames: h5py.Dataset | None = None

    def _write(self, events: Events) -> None:
        append_rows(self._events, np.stack([events.t, events.x, events.y, events.p], 1).astype(np.uint32))
        self._check()

    def _write_image(self, image: NDArray[np.uint8], t_us: float) -> None:
        if not 0 <= t_us < PERIOD_US:
            raise InputError(f"{self.path}: image at {t_us} us, and this format holds 0 to {PERIOD_US - 1}")
        if self._frames is None:
            shape = (self.height, self.width)
            self._frames = resizable(self._file, "frame", "u1", shape, rows=1, compression="gzip")
        append_rows(self._frames, grey(image)[None])
        self._check()

    def _complete(self, file: h5py.File) -> None:
        if self.image_times:
            times = np.array(self.image_times)
            whole = np.rint(times)
            self.remarks["image times were rounded to whole microseconds"] = int(
                np.count_nonzero(whole != times)
            )

            def read(start: int, stop: int) -> NDArray[Any]:
                return self._events[start:stop, 0]

            count = len(self._events)
            index = [search_times(read, t, 0, count, after=True) for t in whole.tolist()]
            # v2e counts what it had stored after each frame, and the first frame makes no events.
            index[0] = 0
            file.create_dataset("frame_ts", data=whole.astype("<u4"), track_times=False)
            file.create_dataset("frame_idx", data=np.array(index, "<u8"), track_times=False)
        file.attrs["sensor_resolution"] = np.array([self.width, self.height], np.int64)
        if self.t_origin:
            file.attrs["t_offset"] = np.int64(self.t_origin)


register(
    Format(
        name="v2e_hdf5",
        summary="v2e HDF5: one uint32 table of t, x, y, p, and its frames",
        suffixes=(".v2e.h5", ".v2e.hdf5"),
        sniff=sniff,
        open=V2eRecording,
        create=V2eWriter,
        images=True,
        colour=False,
        origin=True,
    )
)
