"""Every defect of an event file with its place: the work behind `evsim info --check`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError
from evsim.events import LEAK, Events
from evsim.formats.catalogue import open_events
from evsim.formats.storage.recording import BLOCK, Defect, IndexedRecording, Recording
from evsim.formats.storage.units import PER_MICROSECOND

MOST_PLACES = 20
"""Runs of wrong events told one by one in a block; the first of them says how many events of it are wrong."""


@dataclass
class _Found:
    """What the events say, for comparison with what the file says about them."""

    events: int = 0
    on: int = 0
    first: int | None = None
    last: int | None = None
    readable: bool = True
    sorted: bool = True


def check(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    unit: str | None = None,
    format: str | None = None,
) -> list[Defect]:
    """All that is wrong with an event file; empty if nothing is.

    Reads the whole file with flat memory: order, ranges and coding of the events, counts and times against
    the attributes, images, and the indices of events. Arguments as for `open_events`. Raises InputError
    where something must be told; whatever is wrong with the content is returned, not raised.
    """
    try:
        with open_events(path, size=size, unit=unit, format=format) as recording:
            return list(defects(recording))
    except FormatError as error:
        return [_as_defect(error, Path(path))]


def defects(recording: Recording) -> Iterator[Defect]:
    """The defects of an open recording, in the order of reading."""
    found = _Found()
    yield from _event_defects(recording, found)
    if found.readable:
        yield from _attribute_defects(recording, found)
    yield from _guarded(_image_defects(recording), recording)
    if found.readable and found.sorted:
        yield from _guarded(recording.own_defects(), recording)
    elif type(recording).own_defects is not Recording.own_defects:
        yield Defect("indices", "were not checked: that needs readable events in order of time")


def _event_defects(recording: Recording, found: _Found) -> Iterator[Defect]:
    for block, start in _blocks(recording, found):
        if isinstance(block, Defect):
            yield block
            continue
        if not len(block):
            continue
        yield from _order_defects(block, start, found)
        yield from _range_defects(block, start)
        found.events += len(block)
        found.on += int(np.count_nonzero(block.p == 1))
        found.first = int(block.t[0]) if found.first is None else found.first
        found.last = int(block.t[-1])


def _blocks(recording: Recording, found: _Found) -> Iterator[tuple[Events | Defect, int]]:
    """Unchecked blocks and the number of their first event; what cannot be read as a defect."""
    if isinstance(recording, IndexedRecording):
        for start in range(0, len(recording), BLOCK):
            try:
                yield recording._read(start, min(start + BLOCK, len(recording))), start
            except FormatError as error:
                found.readable = False
                yield _as_defect(error, recording.path), start
        return
    start = 0
    try:
        for block in recording._blocks():
            yield block, start
            start += len(block)
    except FormatError as error:
        found.readable = False
        yield _as_defect(error, recording.path), start
        yield Defect(f"after event {start - 1}", "was not checked: the file cannot be read further"), start


def _order_defects(block: Events, start: int, found: _Found) -> Iterator[Defect]:
    before = found.last if found.last is not None else int(block.t[0])
    back = np.diff(block.t, prepend=before) < 0
    if back.any():
        found.sorted = False
        for number, row in enumerate(_beginnings(back)):
            earlier = before if row == 0 else int(block.t[row - 1])
            counted = f" ({_times(back)} in events {start}..{start + len(block) - 1})" if not number else ""
            yield Defect(f"event {start + row}", f"is at {block.t[row]} us after {earlier} us{counted}")


def _range_defects(block: Events, start: int) -> Iterator[Defect]:
    wrong: list[tuple[str, NDArray[Any], NDArray[np.bool_], str]] = []
    for name, limit in (("x", block.width), ("y", block.height)):
        column = getattr(block, name)
        # Negated so that NaN counts as outside.
        wrong.append((name, column, ~((column >= 0) & (column < limit)), f"0..{limit - 1}"))
    wrong.append(("polarity", block.p, block.p > 1, "0 or 1"))
    if block.label is not None:
        wrong.append(("label", block.label, block.label > LEAK, f"0..{LEAK}"))
    for name, column, rows, expected in wrong:
        for number, row in enumerate(_beginnings(rows)):
            counted = f" ({_times(rows)} in events {start}..{start + len(block) - 1})" if not number else ""
            yield Defect(f"event {start + row}", f"{name} is {column[row]}, expected {expected}{counted}")


def _attribute_defects(recording: Recording, found: _Found) -> Iterator[Defect]:
    """Counts and times that the file states against those of its events and images."""
    told = recording.attributes
    origin = 0 if "t_offset" in told or "t_origin" in told else recording.t_origin
    scale = PER_MICROSECOND[recording.unit]
    first, last = found.first or 0, found.last or 0
    counts = {
        "num_events": found.events,
        "num_pos": found.on,
        "num_neg": found.events - found.on,
        "num_imgs": recording.image_count,
    }
    times = {"t0": first + origin, "tk": last + origin, "duration": last - first}
    for name, wanted in counts.items():
        if name in told and told[name] != wanted:
            yield Defect(f"attribute {name}", f"is {told[name]}, and the file holds {wanted}")
    for name, wanted in times.items() if found.events else ():
        value = told.get(name)
        if isinstance(value, (int, float)) and not math.isclose(
            value / scale, wanted, rel_tol=0, abs_tol=1.0
        ):
            yield Defect(
                f"attribute {name}", f"is {value}, and the events say {wanted * scale} {recording.unit}"
            )


def _image_defects(recording: Recording) -> Iterator[Defect]:
    last = None
    sizes: dict[str, tuple[int, ...]] = {}
    number = -1
    for number, image in enumerate(recording.images()):
        if last is not None and image.t_us < last:
            yield Defect(f"image {number}", f"is at {image.t_us} us after {last} us")
        last = image.t_us
        size = image.image.shape[:2]
        sensor = (recording.height, recording.width)
        first = sizes.setdefault(image.kind, size)
        if not recording.any_image_size and size != sensor:
            yield Defect(f"image {number}", f"is {size}, and the sensor {sensor} (height, width)")
        elif recording.any_image_size and size != first:
            yield Defect(f"image {number}", f"is {size}, and the first {image.kind} {first} (height, width)")
    if number + 1 != recording.image_count:
        yield Defect("images", f"{number + 1} can be read of {recording.image_count}")


def _guarded(found: Iterator[Defect], recording: Recording) -> Iterator[Defect]:
    try:
        yield from found
    except FormatError as error:
        yield _as_defect(error, recording.path)


def _as_defect(error: FormatError, path: Path) -> Defect:
    """The error with its place; the path, which the caller knows, is taken off its message."""
    message = str(error).split(": ", 1)[1] if str(error).startswith(error.path) else str(error)
    inside = error.path.removeprefix(str(path)).lstrip("/")
    return Defect(error.place or inside or "file", message)


def _beginnings(rows: NDArray[np.bool_]) -> list[int]:
    """The first row of each run of wrong rows of a block, of very many runs the first ones."""
    return np.flatnonzero(np.diff(rows.astype(np.int8), prepend=0) == 1)[:MOST_PLACES].tolist()


def _times(rows: NDArray[np.bool_]) -> str:
    count = int(np.count_nonzero(rows))
    return "once" if count == 1 else f"{count} times"
