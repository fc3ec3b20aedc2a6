"""Folders of the Event Camera Dataset, reading: events.txt, and images.txt that names and times the images.

Times are seconds on one clock, polarities 0 and 1 (Mueggler et al. 2017). Other files of a sequence
(calibration, inertial measurements, poses) are not events and are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError
from evsim.formats.catalogue import Format, register
from evsim.formats.storage.recording import RecordedImage, events_before
from evsim.formats.storage.units import image_time_us
from evsim.formats.text import TextRecording
from evsim.media.image import read_image

EVENTS, IMAGES = "events.txt", "images.txt"


def sniff(path: Path, head: bytes) -> bool:
    """True for a folder that holds events.txt."""
    return path.is_dir() and (path / EVENTS).is_file()


class EcdFolderRecording(TextRecording):
    """A sequence of the Event Camera Dataset; its size is that of its images where it has some.

    Raises FormatError for a list of images that cannot be read or goes back in time, otherwise as
    `TextRecording` does. An image is read when it is asked for.
    """

    name: ClassVar[str] = "ecd_folder"

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        seconds, self._files = _read_list(path / IMAGES) if (path / IMAGES).is_file() else ([], [])
        if self._files and size is None:
            height, width = self._read(0).shape[:2]
            size = (width, height)
        super().__init__(path / EVENTS, size=size, unit=unit)
        self._times = np.array([image_time_us(time, "s") for time in seconds], np.float64) - self._shift

    @property
    def image_count(self) -> int:
        return len(self._files)

    def image_times(self) -> NDArray[np.float64]:
        """float64 (image_count,): the stamps of images.txt, microseconds."""
        return self._times.copy()

    def images(self) -> Iterator[RecordedImage]:
        """The images in order of time."""
        if not self._files:
            return
        counted = self.rounded_times
        times = self._times.tolist()
        for number, before in enumerate(events_before(self._blocks(), times)):
            yield RecordedImage(self._read(number), times[number], max(0, before - 1))
        self.rounded_times = counted

    def _read(self, number: int) -> NDArray[np.uint8]:
        file = self._files[number]
        try:
            image = read_image(file)
        except InputError as error:
            raise FormatError(file, str(error)) from error
        if image.dtype != np.uint8:
            raise FormatError(file, f"is {image.dtype}, expected 8-bit grey or colour")
        return image


def _read_list(path: Path) -> tuple[list[float], list[Path]]:
    """Seconds and files of an images.txt: one line "seconds path" an image, paths relative to it."""
    seconds: list[float] = []
    files: list[Path] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            time, name = float(words[0]), words[1]
        except (ValueError, IndexError):
            time, name = np.nan, ""
        if len(words) != 2 or not np.isfinite(time):
            raise FormatError(path, f"is {line[:60]!r}, expected seconds and a file", place=f"line {number}")
        if seconds and time < seconds[-1]:
            raise FormatError(path, f"{time} s follows {seconds[-1]} s", place=f"line {number}")
        seconds.append(time)
        files.append(path.parent / name)
    return seconds, files


register(
    Format(
        name="ecd_folder",
        summary="Event Camera Dataset folder: events.txt, images.txt, images (read only)",
        suffixes=("",),
        sniff=sniff,
        open=EcdFolderRecording,
        unit="s",
        images=True,
        subpixel=True,
        origin=True,
    )
)
