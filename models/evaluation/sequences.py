"""What is evaluated on: recordings and image folders found under the folders that a user names."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError
from evsim.formats import Recording, sniff
from evsim.formats.evreal import EvrealRecording
from evsim.media import natural_key
from evsim.media.image import IMAGE_KINDS
from evsim.models.evaluation.items import Clock, last_events_before

TIMES_FILE = "timestamps.txt"


class EvaluatedSequence(NamedTuple):
    """One sequence of a data set. kind: a recording of events, or a folder of images."""

    dataset: str
    name: str
    path: Path
    kind: str


def find_sequences(path: str | os.PathLike[str]) -> tuple[list[EvaluatedSequence], list[Path]]:
    """The sequences under a folder in natural order, and what else lay there and was left.

    A recording or a folder of images is one sequence by itself, of the data set that its parent folder names;
    anything else is a data set whose sequences are named by their path within it. Raises InputError where
    nothing is found.
    """
    folder = Path(path)
    if not folder.exists():
        raise InputError(f"{folder} does not exist; --data takes a data set's folder or one sequence of it")
    folder = folder.resolve()
    kind = kind_of(folder)
    if kind:
        return [
            EvaluatedSequence(
                folder.parent.name, folder.stem if folder.is_file() else folder.name, folder, kind
            )
        ], []
    found: list[EvaluatedSequence] = []
    strays: list[Path] = []
    _search(folder, folder, found, strays)
    if not found:
        raise InputError(f"{folder} holds neither recordings nor folders of images")
    if strays:
        shown = ", ".join(str(path.relative_to(folder)) for path in strays[:3])
        warnings.warn(
            f"{folder}: {len(strays)} entries are no sequence and are left out: {shown}"
            f"{' ...' if len(strays) > 3 else ''}",
            UserWarning,
            stacklevel=2,
        )
    return found, strays


def _search(folder: Path, root: Path, found: list[EvaluatedSequence], strays: list[Path]) -> None:
    for entry in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
        if entry.name.startswith("."):
            continue
        kind = kind_of(entry)
        if kind:
            found.append(EvaluatedSequence(root.name, entry.relative_to(root).as_posix(), entry, kind))
        elif entry.is_dir():
            before = len(found)
            _search(entry, root, found, strays)
            if len(found) == before and not any(entry.iterdir()):
                strays.append(entry)
        else:
            strays.append(entry)


def kind_of(path: Path) -> str:
    """ "recording", "images", or empty for what is neither."""
    try:
        format = sniff(path)
    except FormatError:
        # More than one format fits, or the file is damaged: opening it says so.
        return "recording"
    if format is not None:
        return "recording"
    return "images" if path.is_dir() and image_files(path) else ""


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder in natural order."""
    files = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_KINDS and not path.name.startswith(".") and path.is_file()
    )
    return sorted(files, key=lambda path: natural_key(path.name))


def read_clock(recording: Recording) -> Clock:
    """Times of a recording in seconds: of EVREAL's folders as they stand there, else from microseconds.

    Times are held in full, eight bytes an event, except where they can be mapped.
    """
    if isinstance(recording, EvrealRecording):
        events, images = recording.event_seconds, recording.image_seconds
        last = np.empty(0, np.int64) if recording.last_events is None else recording.last_events
        if np.any(np.diff(last) < 0) or np.any((last < 0) | (last > len(events))):
            raise FormatError(
                recording.path,
                f"expected numbers of events that do not decrease, from 0 to {len(events)}",
                place="image_event_indices.npy",
            )
        return Clock(events=events, images=_increasing(images, recording), last_events=last)
    pieces = [chunk.t for chunk in recording.chunks()]
    events = (np.concatenate(pieces) if pieces else np.empty(0, np.int64)) / 1e6
    images = np.array([image.t_us for image in recording.images()], np.float64) / 1e6
    return Clock(
        events=events,
        images=_increasing(images, recording),
        last_events=last_events_before(events, images),
    )


def _increasing(times: NDArray[np.float64], recording: Recording) -> NDArray[np.float64]:
    """Times of images, checked. Raises FormatError where they decrease."""
    if np.any(np.diff(times) < 0):
        image = int(np.argmax(np.diff(times) < 0)) + 1
        raise FormatError(recording.path, f"image {image} is earlier than the one before it; sort the images")
    return times


def images_in_order(recording: Recording, numbers: Iterable[int]) -> Iterator[NDArray[Any] | None]:
    """The recording's image of each number; numbers do not decrease, -1 stands for none."""
    stream = enumerate(recording.images())
    position, image = -1, None
    for number in numbers:
        while position < number:
            position, recorded = next(stream)
            image = recorded.image
        yield None if number < 0 else image


def read_times(folder: Path, files: list[Path]) -> NDArray[np.float64]:
    """float64 (n,) seconds of the images of a folder, from its timestamps.txt.

    Lines are a time, or as EVREAL writes them the number in the image's file name and a time. Raises
    InputError without the file, FormatError where its lines are not those of the images.
    """
    path = folder / TIMES_FILE
    if not path.is_file():
        raise InputError(
            f"{folder} has no {TIMES_FILE}, by which its images are matched to those of a recording; "
            'expected one line "index seconds" or "seconds" for each of them'
        )
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(lines) != len(files):
        raise FormatError(path, f"has {len(lines)} lines for {len(files)} images; expected one each")
    widths = {len(line) for line in lines}
    if widths not in ({1}, {2}):
        raise FormatError(path, 'expected lines "index seconds" or "seconds"')
    try:
        times = np.array([float(line[-1]) for line in lines])
        indexes = [int(line[0]) for line in lines] if widths == {2} else None
    except ValueError as error:
        raise FormatError(path, f"{error}; expected numbers") from None
    if indexes is not None and indexes != [number_of(file) for file in files]:
        raise FormatError(path, "its first column is not the numbers in the names of the images")
    if not (np.isfinite(times).all() and (np.diff(times) >= 0).all()):
        raise FormatError(path, "times are not finite numbers that increase")
    return times


def number_of(file: Path) -> int:
    """The number at the end of a file's name, -1 without one."""
    digits = file.stem[len(file.stem.rstrip("0123456789")) :]
    return int(digits) if digits else -1
