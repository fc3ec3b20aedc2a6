"""event_utils' memory-map folder, reading: bare numbers in files that end in .npy but have no header."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError
from evsim.formats.catalogue import Format, register
from evsim.formats.rled_memmap import load_metadata
from evsim.formats.storage.columns import Column, ColumnRecording
from evsim.formats.storage.npy_stream import MAGIC
from evsim.formats.storage.recording import RecordedImage
from evsim.formats.storage.rled_layout import sensor_size
from evsim.formats.storage.units import SAMPLE, decide_unit


def sniff(path: Path, head: bytes) -> bool:
    """True for a folder with t.npy, xy.npy, p.npy of which t.npy has no .npy header."""
    if not path.is_dir() or not all((path / f"{name}.npy").is_file() for name in ("t", "xy", "p")):
        return False
    with (path / "t.npy").open("rb") as file:
        return file.read(len(MAGIC)) != MAGIC


class RawMemmapRecording(ColumnRecording):
    """A memory-map folder of event_utils.

    Its image_event_indices, which are 16-bit and overflow, are not used. Its writers differ in the order of
    sensor_resolution, and the images have no shape of their own: unless both sides are equal the size must
    be told. Raises FormatError for files whose lengths do not fit together, InputError when size or unit
    must be told.
    """

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        attributes = load_metadata(path)
        t, xy, p = (
            _map(path / f"{name}.npy", kind) for name, kind in (("t", "<f8"), ("xy", "<i2"), ("p", "u1"))
        )
        if len(xy) != 2 * len(t) or len(p) != len(t):
            raise FormatError(
                path, f"t, xy, p hold {len(t)}, {len(xy)}, {len(p)} numbers, expected N, 2 N and N"
            )
        found = sensor_size(
            path, attributes.get("sensor_resolution"), order=None, image_shape=None, given=size
        )
        self._images, self._image_times = _images(path, found)
        rows = xy.reshape(-1, 2)
        super().__init__(
            path,
            "raw_memmap",
            found,
            {
                "t": Column(t, "t.npy"),
                "x": Column(rows[:, 0], "xy.npy"),
                "y": Column(rows[:, 1], "xy.npy"),
                "p": Column(p, "p.npy"),
            },
            unit=decide_unit(path, t[:SAMPLE], unit or attributes.get("time_unit")),
            t_origin=None,
            attributes=attributes,
        )

    @property
    def image_count(self) -> int:
        return 0 if self._images is None else len(self._images)

    def images(self) -> Iterator[RecordedImage]:
        if self._images is None:
            return
        for stored, time in zip(self._images, self._image_times.tolist()):
            t_us = self._time_us(time)
            image = np.array(stored[..., 0] if stored.shape[2] == 1 else stored[..., ::-1])
            yield RecordedImage(image, t_us, max(0, self.search(t_us) - 1))


def _map(path: Path, dtype: str) -> NDArray[Any]:
    kind = np.dtype(dtype)
    held = path.stat().st_size
    if held % kind.itemsize:
        raise FormatError(path, f"has {held} bytes, expected whole numbers of {kind.itemsize}")
    return np.memmap(path, kind, "r") if held else np.empty(0, kind)


def _images(path: Path, size: tuple[int, int]) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """The images (n, H, W, C) and their times; None and nothing without images."""
    files = path / "images.npy", path / "timestamps.npy"
    if not all(file.is_file() and file.stat().st_size for file in files):
        return None, np.empty(0)
    pixels, times = _map(files[0], "u1"), _map(files[1], "<f8")
    channels, rest = divmod(len(pixels), len(times) * size[0] * size[1])
    if rest or channels not in (1, 3):
        raise FormatError(
            path,
            f"holds {len(pixels)} bytes, which are no {len(times)} images of {size[0]}x{size[1]}",
            place="images.npy",
        )
    return pixels.reshape(len(times), size[1], size[0], channels), times


register(
    Format(
        name="raw_memmap",
        summary="event_utils memory-map folder: t, xy, p without .npy headers (read only)",
        suffixes=("",),
        sniff=sniff,
        open=RawMemmapRecording,
        images=True,
    )
)
