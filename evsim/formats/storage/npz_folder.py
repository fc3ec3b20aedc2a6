"""Folders with one .npz of events for each gap between frames, and frames beside them: what they share."""

from __future__ import annotations

import importlib
import zipfile
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats.npz import ZIP_ERRORS
from evsim.formats.storage.npy_stream import HEADER_ERRORS
from evsim.formats.storage.recording import RecordedImage, Recording
from evsim.formats.storage.rled_layout import sensor_size
from evsim.formats.storage.units import (
    PER_MICROSECOND,
    SAMPLE,
    TimeUnit,
    decide_unit,
    epoch_origin,
    polarity_coding,
    to_microseconds,
    to_polarity,
)
from evsim.media.image import natural_key

EVENT_FOLDERS = ("events", "RGB-EVS", "events_aligned")
IMAGE_FOLDERS = ("images", "images_corrected", "visual_RGB_denoise")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
TIME_FILES = ("timestamp.txt", "timestamps.txt")

Arrays = dict[str, NDArray[Any]]


def natural_names(files: list[Path]) -> list[Path]:
    """Files in the order of their names, in which numbers count as numbers: 2 before 10."""
    return sorted(files, key=lambda file: natural_key(file.name))


def event_files(path: Path) -> list[Path]:
    """The .npz files of a folder, or of its folder of events, in natural order; there may be none."""
    if not path.is_dir():
        return []
    for folder in (path, *(path / name for name in EVENT_FOLDERS)):
        if folder.is_dir():
            found = [entry for entry in folder.iterdir() if entry.suffix == ".npz" and entry.name[0] != "."]
            if found:
                return natural_names(found)
    return []


def first_holds(path: Path, names: tuple[str, ...]) -> bool:
    """True if the folder's first .npz has arrays of these names."""
    files = event_files(path)
    if not files:
        return False
    try:
        with zipfile.ZipFile(files[0]) as archive:
            return {f"{name}.npy" for name in names} <= set(archive.namelist())
    except (*ZIP_ERRORS, OSError) as error:
        raise FormatError(files[0], f"damaged or cut short: {error}") from error


class NpzFolderRecording(Recording):
    """A folder of one .npz a gap; holds one gap in memory.

    Raises FormatError for damaged files and columns of different length, InputError when the size must be
    told: neither an image nor the files say it.
    """

    names: ClassVar[tuple[str, str, str, str]]
    """What the arrays t, x, y, p are called."""
    own_unit: ClassVar[TimeUnit | None] = None
    subpixel_files: ClassVar[bool] = False

    def __init__(self, path: Path, format: str, *, size: tuple[int, int] | None, unit: str | None) -> None:
        self.path = path
        self._files = event_files(path)
        if not self._files:
            raise FormatError(path, "holds no .npz of events")
        self._image_files, self._image_times = _timed_images(path)
        sample = next(
            (arrays for arrays in map(self._load, self._files) if len(arrays[self.names[0]])),
            self._load(self._files[0]),
        )
        scalars = {name: array[()].item() for name, array in sample.items() if array.ndim == 0}
        told = (scalars["width"], scalars["height"]) if {"width", "height"} <= scalars.keys() else None
        shape = read_image(self._image_files[0]).shape if self._image_files and size is None else None
        t = sample[self.names[0]]
        self.unit = decide_unit(path, t[:SAMPLE], unit or scalars.get("time_unit") or self.own_unit)
        self._shift = 0
        t_origin = scalars.get("t_origin")
        if t_origin is None:
            first = to_microseconds(t[:1], self.unit, path, "the first event")[0]
            t_origin = self._shift = epoch_origin(int(first[0])) if len(first) else 0
        super().__init__(
            path,
            format,
            sensor_size(path, told, order="wh", image_shape=shape, given=size),
            t_origin=int(t_origin),
            unit=self.unit,
            polarity=polarity_coding(sample[self.names[3]][:SAMPLE]),
            subpixel=self.subpixel_files or any(sample[name].dtype.kind == "f" for name in self.names[1:3]),
            attributes={"files": len(self._files)},
        )
        self._index: NDArray[np.int64] | None = None

    @abstractmethod
    def _pixels(self, arrays: Arrays, place: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """x and y of one file as uint16 or float32 pixels."""

    def __len__(self) -> int:
        return self._known.events if self._known else int(self._indexed()[:, 0].sum())

    @property
    def image_count(self) -> int:
        return len(self._image_files)

    def images(self) -> Iterator[RecordedImage]:
        index = self._indexed()
        for file, time in zip(self._image_files, self._image_times.tolist()):
            t_us = time / PER_MICROSECOND[self.unit] - self._shift
            yield RecordedImage(read_image(file), t_us, max(0, self._before(t_us, index) - 1))

    def between(self, t0: int, t1: int) -> Events:
        index = self._indexed()
        inside = (index[:, 0] > 0) & (index[:, 2] >= t0) & (index[:, 1] < t1)
        parts = [self.empty()]
        counted = self.rounded_times, dict(self.repairs)
        for number in np.flatnonzero(inside).tolist():
            start = int(index[:number, 0].sum())
            parts.append(self._check(self._part(number), start, None).between(t0, t1))
        self.rounded_times, self.repairs = counted
        return Events.concatenate(parts)

    def _blocks(self) -> Iterator[Events]:
        return (self._part(number) for number in range(len(self._files)))

    def _before(self, t_us: float, index: NDArray[np.int64]) -> int:
        """How many events have time < t_us."""
        earlier = (index[:, 0] > 0) & (index[:, 2] < t_us)
        count = int(index[earlier, 0].sum())
        across = np.flatnonzero((index[:, 0] > 0) & (index[:, 1] < t_us) & (index[:, 2] >= t_us))
        for number in across.tolist():
            count += int(np.searchsorted(self._times(number), t_us))
        return count

    def _indexed(self) -> NDArray[np.int64]:
        """For each file its number of events, first and last time."""
        if self._index is None:
            rows = []
            for number in range(len(self._files)):
                t = self._times(number)
                rows.append((len(t), int(t[0]), int(t[-1])) if len(t) else (0, 0, 0))
            self._index = np.array(rows, np.int64).reshape(-1, 3)
        return self._index

    def _times(self, number: int) -> NDArray[np.int64]:
        file = self._files[number]
        return (
            to_microseconds(self._load(file)[self.names[0]], self.unit, file, self.names[0])[0] - self._shift
        )

    def _part(self, number: int) -> Events:
        file = self._files[number]
        arrays = self._load(file)
        t, rounded = to_microseconds(arrays[self.names[0]], self.unit, file, self.names[0])
        self.rounded_times += rounded
        x, y = self._pixels(arrays, str(file))
        p = to_polarity(arrays[self.names[3]], file, self.names[3])
        return Events(t - self._shift, x, y, p, self.width, self.height, self.t_origin)

    def _load(self, file: Path) -> Arrays:
        try:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except (*HEADER_ERRORS, *ZIP_ERRORS, KeyError, AttributeError, MemoryError) as error:
            raise FormatError(file, f"damaged or cut short: {str(error).splitlines()[:1]}") from error
        missing = [name for name in self.names if name not in arrays]
        if missing:
            raise FormatError(file, f"has no arrays {', '.join(missing)}; it holds {', '.join(arrays)}")
        shapes = {name: arrays[name].shape for name in self.names}
        if len(set(shapes.values())) != 1 or len(shapes[self.names[0]]) != 1:
            raise FormatError(file, f"columns have shapes {shapes}, expected one length")
        return arrays


def read_image(file: Path) -> NDArray[np.uint8]:
    """uint8 (H, W) or (H, W, 3) RGB. Raises FormatError where it cannot be decoded."""
    cv2: Any = importlib.import_module("cv2")
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint8 or (image.ndim == 3 and image.shape[2] != 3):
        raise FormatError(file, "cannot be read as a grey or colour image of 8 bits")
    return np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 else image


def write_image(file: Path, image: NDArray[np.uint8]) -> None:
    """Write a PNG of a grey or RGB image. Raises OSError where it cannot be written."""
    cv2: Any = importlib.import_module("cv2")
    encoded, data = cv2.imencode(".png", image if image.ndim == 2 else image[..., ::-1])
    if not encoded:
        raise InputError(f"{file}: an image of {image.shape} cannot be encoded")
    file.write_bytes(data.tobytes())


def _timed_images(path: Path) -> tuple[list[Path], NDArray[np.float64]]:
    """Image files in natural order and their times; nothing where there are no times."""
    places = [path, *(path / name for name in IMAGE_FOLDERS), *(path.parent / n for n in IMAGE_FOLDERS)]
    for folder in places:
        if not folder.is_dir():
            continue
        stamps = next((folder / name for name in TIME_FILES if (folder / name).is_file()), None)
        images = natural_names([e for e in folder.iterdir() if e.suffix.lower() in IMAGE_SUFFIXES])
        if stamps is None or not images:
            continue
        try:
            times = np.array([float(word) for word in stamps.read_text(encoding="utf-8").split()])
        except ValueError as error:
            raise FormatError(stamps, f"is not one time a line: {error}") from error
        if len(times) != len(images) or not np.isfinite(times).all() or np.any(np.diff(times) < 0):
            raise FormatError(stamps, f"holds {len(times)} times, expected {len(images)} that do not go back")
        return images, times
    return [], np.empty(0)
