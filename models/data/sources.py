"""Event files for training: finding them, keeping them open, and reaching any window of any of them.

A recording whose format can be read from any position is read window by window. Of other formats the whole
stream is held in memory, 13 bytes an event: pack long recordings as memory maps (`evsim pack rled --memmap`).
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.formats import IndexedRecording, RecordedImage, Recording, open_events, sniff
from evsim.formats.storage.recording import ImageFacts
from evsim.models.data.lists import read_list, require_distinct
from evsim.timed_image import TimedImage

OPEN_FILES = 64
"""Recordings that one process keeps open."""


def find_recordings(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The event recordings that the paths stand for, in order.

    A path is a recording of any format; a text file of paths, one a line, such as `evsim pack --memmap`
    writes (relative ones count from the list's folder); or a folder, in which every HDF5 file and every
    memory-map folder at any depth counts: a run folder, or one split of it. Raises InputError for a path
    that is not there or holds none, and for a recording that is named twice.
    """
    listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    found = [path for given in listed for path in _expand(Path(given))]
    require_distinct(found, "recording")
    return found


def _expand(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_file() and path.suffix == ".txt" and _is_list(path):
        return _read_list(path)
    if path.is_file() or sniff(path) is not None:
        return [path]
    found = sorted(_inside(path), key=lambda entry: entry.as_posix())
    if not found:
        raise InputError(f"{path} holds no event recording (HDF5 file or memory-map folder) at any depth")
    return found


def _inside(folder: Path) -> Iterable[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue  # temporaries and locks of a run
        if entry.is_dir():
            if sniff(entry) is not None:
                yield entry
            else:
                yield from _inside(entry)
        elif entry.suffix in (".h5", ".hdf5"):
            yield entry


def _is_list(path: Path) -> bool:
    """A list's first line is a path; an event file of text begins with a number or a comment."""
    with path.open("rb") as file:
        first = file.readline(4096).decode("utf-8-sig", errors="replace").strip()
    return bool(first) and (Path(first).exists() or (path.parent / first).exists())


def _read_list(path: Path) -> list[Path]:
    found = []
    for line, name in read_list(path):
        target = path.parent / name if (path.parent / name).exists() else Path(name)
        if not target.exists():
            raise InputError(f"{path}, line {line}: {name} does not exist")
        found.append(target)
    return found


class Source:
    """One recording, opened when first needed, with access to its events by position and by time."""

    def __init__(self, path: Path, options: dict[str, Any] | None = None) -> None:
        self._recording: Recording = open_events(path, **(options or {}))
        self._indexed = isinstance(self._recording, IndexedRecording)
        self._held: Events | None = None
        self._times: NDArray[np.float64] | None = None
        self._images: list[RecordedImage] | None = None
        self._facts: list[ImageFacts] | None = None

    @property
    def recording(self) -> Recording:
        """The open recording."""
        return self._recording

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._recording.width, self._recording.height

    def __len__(self) -> int:
        return len(self._recording) if self._indexed else len(self._stream())

    def rows(self, start: int, stop: int) -> Events:
        """Events start..stop-1 by position."""
        if isinstance(self._recording, IndexedRecording):
            return self._recording.rows(start, stop)
        return self._stream()[start:stop]

    def search(self, t: float, *, after: bool = False) -> int:
        """How many events have time < t (with `after`: <= t)."""
        if isinstance(self._recording, IndexedRecording):
            return self._recording.search(t, after=after)
        return int(np.searchsorted(self._stream().t, t, "right" if after else "left"))

    def image_times(self) -> NDArray[np.float64]:
        """float64 microseconds of each image."""
        if self._times is None:
            self._times = self._recording.image_times()
        return self._times

    def image(self, index: int) -> NDArray[np.uint8]:
        """Image `index`, uint8 (H, W) or (H, W, 3) RGB."""
        return self._recorded_image(index).image

    def timed_image(self, index: int) -> TimedImage:
        """Image `index` with its exposure."""
        found = self._recorded_image(index)
        return TimedImage(found.image, found.t_us, found.exposure_us, found.kind)

    def image_facts(self) -> list[ImageFacts]:
        """Size, exposure and kind of each image."""
        if self._facts is None:
            self._facts = list(self._recording.image_facts())
        return self._facts

    def close(self) -> None:
        """Let go of the file."""
        self._recording.close()

    def _recorded_image(self, index: int) -> RecordedImage:
        if self._indexed:
            return self._recording.image(index)
        if self._images is None:
            self._images = list(self._recording.images())
        return self._images[index]

    def _stream(self) -> Events:
        if self._held is None:
            self._held = self._recording.events()
        return self._held


class SourcePool:
    """The recordings of a data set, open as long as they fit; each process opens its own.

    An HDF5 handle must not be shared with a forked process, so what was opened before a fork is put aside
    there, and nothing open is pickled.
    """

    def __init__(self, paths: Iterable[Path], options: dict[str, Any] | None = None) -> None:
        self.paths = list(paths)
        self._options = options
        self._open: OrderedDict[int, Source] = OrderedDict()
        self._owner = os.getpid()
        self._inherited: list[Any] = []

    def __getitem__(self, index: int) -> Source:
        if self._owner != os.getpid():
            # Kept, not closed: closing them here would act on the parent's files.
            self._inherited.append(self._open)
            self._open, self._owner = OrderedDict(), os.getpid()
        source = self._open.pop(index, None) or Source(self.paths[index], self._options)
        self._open[index] = source
        while len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return source

    def __len__(self) -> int:
        return len(self.paths)

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "_options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["paths"], state["_options"])  # type: ignore[misc]
