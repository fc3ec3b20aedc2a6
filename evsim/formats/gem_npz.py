"""GEM's sample: one .npz of two blurry frames with their exposures, sharp frames, and the events between.

Published files hold the events as a pickled dictionary, which is read as data: nothing it names is called.
evsim's own hold four plain arrays instead.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from evsim.archives import check_archive, read_member
from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats.catalogue import Format, register
from evsim.formats.npz import ZIP_ERRORS, write_archive
from evsim.formats.storage.columns import Column, ColumnRecording
from evsim.formats.storage.npy_stream import HEADER_ERRORS
from evsim.formats.storage.recording import ImageFacts, RecordedImage
from evsim.formats.storage.rled_layout import sensor_size
from evsim.formats.storage.units import SAMPLE, decide_unit
from evsim.formats.storage.writer import EventWriter
from evsim.pickles.arrays import LONGEST_AXIS, ArrayDescription
from evsim.pickles.interpreter import KnownNames, read_pickle
from evsim.pickles.values import PickleError

EXPOSURES = ("exp_start1", "exp_end1", "exp_start2", "exp_end2")
PICKLED = "events"
PLAIN = {name: f"events_{name}" for name in "txyp"}
SORTED = "events were out of order and were sorted by time"

Arrays = dict[str, NDArray[Any]]


def sniff(path: Path, head: bytes) -> bool:
    """True for a zip archive with the bounds of two exposures and events, pickled or plain."""
    if not head.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (*ZIP_ERRORS, OSError) as error:
        raise FormatError(path, f"damaged or cut short: {error}") from error
    return f"{EXPOSURES[0]}.npy" in names and bool({"events.npy", "events_t.npy"} & names)


class GemRecording(ColumnRecording):
    """A sample of GEM's, loaded whole: published ones are compressed.

    The images are the two blurry frames at the end of their exposures, in their own size; `sharp_images`
    are the ground truth. The size of the event sensor follows from that of the images and scale_factor.
    Whole times are microseconds. Raises FormatError for damaged files, InputError when the size must be told,
    or the unit of fractional times.
    """

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        arrays, pickled = _load(path)
        missing = [name for name in EXPOSURES if name not in arrays]
        if missing:
            raise FormatError(path, f"has no arrays {', '.join(missing)}; it holds {', '.join(arrays)}")
        columns, disorder = _sorted(path, _columns(path, arrays, pickled))
        self._arrays = arrays
        subpixel = any(columns[name].dtype.kind == "f" for name in "xy")
        super().__init__(
            path,
            "gem_npz",
            size or _size(path, arrays),
            {name: Column(column, PLAIN[name]) for name, column in columns.items()},
            unit=decide_unit(path, columns["t"][:SAMPLE], unit),
            t_origin=int(_scalar(path, arrays, "t_origin")) if "t_origin" in arrays else None,
            subpixel=subpixel,
            attributes={name: _scalar(path, arrays, name) for name in EXPOSURES},
        )
        if disorder:
            self.repairs[SORTED] = disorder
        if subpixel and not np.array_equal(columns["x"], np.rint(columns["x"])):
            return
        self.subpixel = subpixel and not np.array_equal(columns["y"], np.rint(columns["y"]))

    any_image_size = True

    @property
    def exposures(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Start and end of both exposures, microseconds on the clock of the events."""
        a, b, c, d = (self._time_us(self.attributes[name]) for name in EXPOSURES)
        return (a, b), (c, d)

    @property
    def image_count(self) -> int:
        return sum(name in self._arrays for name in ("blur1", "blur2"))

    def images(self) -> Iterator[RecordedImage]:
        for name, (start, end) in self._blurry():
            image = self._image(self._arrays[name], self.attributes[end], name)
            yield image._replace(exposure_us=self._length_us(start, end), kind="blurry")

    def image_facts(self) -> Iterator[ImageFacts]:
        """Size and exposure of the blurry frames."""
        for name, (start, end) in self._blurry():
            _, height, width = self._require_frame(self._arrays[name], name).shape
            yield ImageFacts(width, height, self._length_us(start, end), "blurry")

    def _blurry(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """The names of the blurry frames that are there and of the bounds of their exposures."""
        named = {"blur1": EXPOSURES[:2], "blur2": EXPOSURES[2:]}
        return ((name, bounds) for name, bounds in named.items() if name in self._arrays)

    def _length_us(self, start: str, end: str) -> float:
        length = self._time_us(self.attributes[end]) - self._time_us(self.attributes[start])
        if not length >= 0:
            raise FormatError(self.path, f"{end} is {length} us after {start}, expected 0 or more", place=end)
        return length

    def sharp_images(self) -> Iterator[RecordedImage]:
        """The ground truth with its times, nothing where the file has none."""
        images, times = self._arrays.get("sharp_imgs"), self._arrays.get("sharp_timestamps")
        if images is None:
            return
        if times is None or times.shape != images.shape[:1]:
            raise FormatError(self.path, "does not fit sharp_timestamps", place="sharp_imgs")
        for number, (image, time) in enumerate(zip(images, times)):
            yield self._image(image, time, f"sharp_imgs[{number}]")._replace(kind="sharp")

    def _require_frame(self, stored: NDArray[Any], place: str) -> NDArray[Any]:
        if stored.ndim != 3 or stored.shape[0] != 3 or stored.dtype.kind not in "uif":
            raise FormatError(
                self.path, f"is {stored.dtype} {stored.shape}, expected numbers (3, H, W)", place=place
            )
        return stored

    def _image(self, stored: NDArray[Any], time: float, place: str) -> RecordedImage:
        stored = self._require_frame(stored, place)
        if stored.dtype != np.uint8:
            if not np.isfinite(stored).all() or stored.min() < 0 or stored.max() > 255:
                raise FormatError(self.path, "leaves the range 0..255", place=place)
            stored = np.rint(stored).astype(np.uint8)
        t_us = self._time_us(time)
        image = np.ascontiguousarray(stored[::-1].transpose(1, 2, 0))
        return RecordedImage(image, t_us, max(0, self.search(t_us) - 1))


class GemWriter(EventWriter):
    """Writes a sample with plain arrays events_t, events_x, events_y, events_p; see `EventWriter`.

    exposures: (start, end) of both exposures in microseconds, required. blurry: two uint8 (H, W, 3) RGB
    images of any size that is a whole multiple of the sensor's. sharp_images, sharp_times: the ground truth
    (N, H, W, 3) and its N times. The sample is held in memory.
    """

    largest_time = 2**63 - 1
    holds_subpixel = True

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
        exposures: Sequence[tuple[int, int]] | None = None,
        blurry: Sequence[NDArray[np.uint8]] | None = None,
        sharp_images: NDArray[np.uint8] | None = None,
        sharp_times: NDArray[np.int64] | None = None,
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
        if exposures is None or len(exposures) != 2:
            raise InputError(
                f"{self.path}: a GEM sample needs exposures=((start, end), (start, end)) of its two frames; "
                "evsim pack gem makes samples from frames and events"
            )
        self._bounds = [int(bound) for exposure in exposures for bound in exposure]
        if any(later < earlier for earlier, later in zip(self._bounds, self._bounds[1:])):
            raise InputError(f"{self.path}: exposures {exposures} go back in time")
        self._frames = self._checked_frames(blurry, sharp_images, sharp_times)

    def _checked_frames(
        self,
        blurry: Sequence[NDArray[np.uint8]] | None,
        sharp_images: NDArray[np.uint8] | None,
        sharp_times: NDArray[np.int64] | None,
    ) -> Arrays:
        frames: Arrays = {}
        if blurry is not None:
            if len(blurry) != 2:
                raise InputError(f"{self.path}: {len(blurry)} blurry images, expected 2")
            frames = {"blur1": self._stored(blurry[0]), "blur2": self._stored(blurry[1])}
        if (sharp_images is None) != (sharp_times is None) or (
            sharp_images is not None and sharp_times is not None and len(sharp_images) != len(sharp_times)
        ):
            raise InputError(f"{self.path}: sharp images and their times must come together, one time each")
        if sharp_images is not None and sharp_times is not None and len(sharp_images):
            frames["sharp_imgs"] = np.stack([self._stored(image) for image in sharp_images])
            frames["sharp_timestamps"] = np.asarray(sharp_times, np.int64)
        shapes = {array.shape[-2:] for name, array in frames.items() if name != "sharp_timestamps"}
        if len(shapes) > 1:
            raise InputError(f"{self.path}: images of different size: {sorted(shapes)}")
        return frames

    def _stored(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A frame as GEM has it: (3, H, W) in the order blue, green, red."""
        fits = image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
        scale = image.shape[0] // self.height if fits else 0
        if not scale or image.shape[:2] != (scale * self.height, scale * self.width):
            raise InputError(
                f"{self.path}: image of {image.dtype} {image.shape}, expected uint8 (H, W, 3) with H "
                f"and W the same multiple of {self.height} and {self.width}"
            )
        return np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))

    def _open(self, temporary: Path) -> None:
        self._temporary = temporary
        self._blocks: list[Events] = []

    def _write(self, events: Events) -> None:
        self._blocks.append(events)

    def _finish(self) -> None:
        events = Events.concatenate(
            [*self._blocks, Events.empty(self.width, self.height, t_origin=self.t_origin)]
        )
        first = self._frames.get("blur1")
        write_archive(
            self._temporary,
            {
                **{stored: getattr(events, name) for name, stored in PLAIN.items()},
                **{name: np.int64(bound) for name, bound in zip(EXPOSURES, self._bounds)},
                **self._frames,
                "scale_factor": 1 if first is None else first.shape[1] // self.height,
                "width": self.width,
                "height": self.height,
                "t_origin": self.t_origin,
            },
        )

    def _abandon(self) -> None:
        self._blocks = []


def _load(path: Path) -> tuple[Arrays, Any]:
    """The plain arrays by name, and what the pickled one holds; None where there is none."""
    arrays: Arrays = {}
    pickled = None
    try:
        with zipfile.ZipFile(path) as archive:
            check_archive(path, archive)
            for member in archive.namelist():
                name = member.removesuffix(".npy")
                if name == PICKLED and member != PICKLED:
                    pickled = _pickled(path, read_member(archive, member))
                elif name != member:
                    arrays[name] = _array(path, ascii(name)[1:-1], read_member(archive, member))
    except (*ZIP_ERRORS, OSError) as error:
        raise FormatError(path, f"damaged or cut short: {_first_line(error)}") from error
    return arrays, pickled


def _header(path: Path, place: str, data: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and dtype; the data follow."""
    try:
        version = npy_format.read_magic(data)
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        return read(data)
    except (*HEADER_ERRORS, MemoryError, RecursionError) as error:
        raise FormatError(path, f"damaged header: {_first_line(error)}", place=place) from error


def _array(path: Path, place: str, content: bytes) -> NDArray[Any]:
    """The array over the bytes of a .npy file."""
    data = io.BytesIO(content)
    shape, fortran, dtype = _header(path, place, data)
    if dtype.hasobject or not dtype.itemsize:
        raise FormatError(path, f"is {dtype}, expected plain values", place=place)
    held, count = len(content) - data.tell(), math.prod(shape)
    if not all(0 <= length <= LONGEST_AXIS for length in shape) or held < count * dtype.itemsize:
        raise FormatError(
            path, f"{dtype} {shape} takes {count * dtype.itemsize} bytes where {held} are left", place=place
        )
    flat = np.frombuffer(content, dtype, count, data.tell()) if count else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _pickled(path: Path, content: bytes) -> Any:
    """What the one object of a .npy file of objects is."""
    data = io.BytesIO(content)
    shape, _, dtype = _header(path, PICKLED, data)
    if shape != () or not dtype.hasobject:
        raise FormatError(path, f"is {dtype} {shape}, expected one dictionary", place=PICKLED)
    try:
        held = read_pickle(data, names=KnownNames(others=False))
    except PickleError as error:
        place = error.inside(PICKLED).place
        raise FormatError(path, f"the pickled events cannot be read: {error.what}", place=place) from error
    # numpy wraps the dictionary in an array of one object.
    objects = held.objects() if isinstance(held, ArrayDescription) else None
    return objects[0] if objects and len(objects) == 1 else held


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _columns(path: Path, arrays: Arrays, pickled: Any) -> Arrays:
    held: Any = {name: arrays[stored] for name, stored in PLAIN.items() if stored in arrays}
    if pickled is not None:
        held = pickled
    if not isinstance(held, dict) or not all(isinstance(held.get(name), np.ndarray) for name in "txyp"):
        raise FormatError(path, "has no arrays t, x, y, p of events", place=PICKLED)
    columns = {name: held[name] for name in "txyp"}
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) != 1 or columns["t"].ndim != 1 or columns["t"].dtype.kind not in "iuf":
        raise FormatError(
            path, f"columns have shapes {shapes}, expected numbers of one length", place=PICKLED
        )
    return columns


def _sorted(path: Path, columns: Arrays) -> tuple[Arrays, int]:
    """The columns in order of time, and how many events stood before an earlier one."""
    disorder = int(np.count_nonzero(columns["t"][1:] < columns["t"][:-1]))
    if not disorder:
        return columns, 0
    order = np.argsort(columns["t"], kind="stable")
    return {name: column[order] for name, column in columns.items()}, disorder


def _size(path: Path, arrays: Arrays) -> tuple[int, int]:
    """The event sensor's size from the file's own words, or from the images and their scale."""
    if "width" in arrays and "height" in arrays:
        return int(_scalar(path, arrays, "width")), int(_scalar(path, arrays, "height"))
    if "blur1" in arrays and "scale_factor" in arrays and arrays["blur1"].ndim == 3:
        scale = float(_scalar(path, arrays, "scale_factor"))
        height, width = arrays["blur1"].shape[1:]
        if scale > 0 and not (width % scale or height % scale):
            return int(width / scale), int(height / scale)
    return sensor_size(path, None, order=None, image_shape=None, given=None)


def _scalar(path: Path, arrays: Arrays, name: str) -> float:
    array = arrays[name]
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise FormatError(path, f"is {array.dtype} {array.shape}, expected one number", place=name)
    return array.reshape(-1)[0].item()


register(
    Format(
        name="gem_npz",
        summary="GEM sample .npz: two blurry frames, their exposures, sharp frames, events",
        suffixes=(".gem.npz",),
        sniff=sniff,
        open=GemRecording,
        create=GemWriter,
        subpixel=True,
        origin=True,
        options=("exposures", "blurry", "sharp_images", "sharp_times"),
    )
)
