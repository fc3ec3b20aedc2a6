"""The table of formats, how a file is recognised, and the doors every reader and writer goes through."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats.storage.recording import Recording, without_labels
from evsim.formats.storage.writer import EventWriter
from evsim.registry import Registry

HEAD_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Format:
    """One on-disk format.

    summary: one line for listings. suffixes: the names whose default writer this is; "" is a folder.
    sniff: (path, first bytes; b"" for a folder) -> is the content this format? Formats must not overlap.
    open: (path, size=, unit=) -> Recording. create: the writer class, or None where evsim only reads.
    unit, polarity: how times and polarities are written. images, labels, subpixel, origin, provenance:
    whether it holds images, labels, sub-pixel coordinates, t_origin, and seed with configuration. colour:
    whether images that it holds keep their colour. timed_images: whether they may have another size than the
    sensor, and keep their exposure and kind.
    options: the writer's own keyword arguments.
    """

    name: str
    summary: str
    suffixes: tuple[str, ...]
    sniff: Callable[[Path, bytes], bool]
    open: Callable[..., Recording]
    create: type[EventWriter] | None = None
    unit: str = "us"
    polarity: str = "0/1"
    images: bool = False
    colour: bool = True
    timed_images: bool = False
    labels: bool = False
    subpixel: bool = False
    origin: bool = False
    provenance: bool = False
    options: tuple[str, ...] = ()


FORMATS: Registry[Format] = Registry("format", "evsim.formats", thing=Format)


def register(format: Format) -> Format:
    """File a format under its name; importing its module is what calls this."""
    return FORMATS.register(format.name)(format)


def sniff(path: str | os.PathLike[str]) -> Format | None:
    """The format that the content of a file or folder has, or None where none fits or nothing is there.

    Raises FormatError for an HDF5 or zip file that is damaged, or where more than one format fits.
    """
    found = Path(path)
    if not found.exists():
        return None
    head = _head(found)
    fitting = [format for format in FORMATS.own() if format.sniff(found, head)]
    # Formats do not overlap, and to ask which packages are installed takes longer than to open a file.
    fitting = fitting or [format for format in FORMATS.from_outside() if format.sniff(found, head)]
    if len(fitting) > 1:
        names = ", ".join(format.name for format in fitting)
        raise FormatError(found, f"fits more than one format ({names}); pass format= (--format)")
    return fitting[0] if fitting else None


def open_events(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    unit: str | None = None,
    format: str | None = None,
) -> Recording:
    """An events file opened for reading; use it as a context manager.

    size: (width, height) where the file does not say. unit: s, ms, us or ns, where the file does not say.
    format: a name in `FORMATS`, told from the content when None. Raises InputError when something must be
    told, FormatError for content that is not what the format promises.
    """
    if not Path(path).exists():
        raise InputError(f"{path}: no such file or folder")
    chosen = FORMATS[format] if format is not None else sniff(path)
    if chosen is None:
        raise FormatError(
            path, f"{_strange(Path(path), _head(Path(path)))}; evsim reads {', '.join(sorted(FORMATS))}"
        )
    return chosen.open(Path(path), size=size, unit=unit)


def format_for(path: str | os.PathLike[str], format: str | None = None) -> Format:
    """The format to write `path` in: by name, else by suffix (the longest that fits; none: a folder).

    Raises InputError for a suffix that no format writes and for a format that evsim only reads.
    """
    chosen = FORMATS[format] if format is not None else _by_suffix(Path(path))
    if chosen.create is None:
        raise InputError(f"format {chosen.name} can be read and not written")
    return chosen


def _by_suffix(path: Path) -> Format:
    """The format that writes names of this ending: ours, else one of another package."""
    name, known = path.name.lower(), dict[str, Format]()
    for formats in (FORMATS.own, FORMATS.from_outside):
        known |= {suffix: one for one in formats() for suffix in one.suffixes if one.create}
        fitting = [suffix for suffix in known if suffix and name.endswith(suffix)]
        if fitting or not path.suffix:
            return known[max(fitting, key=len, default="")]
    raise InputError(
        f"{path}: no format is written to *{path.suffix}; "
        f"use one of {', '.join(sorted(filter(None, known)))}, or pass format= (--format)"
    )


def create_events(
    path: str | os.PathLike[str],
    width: int,
    height: int,
    *,
    format: str | None = None,
    t_origin: int = 0,
    labels: bool = False,
    seed: int | None = None,
    config: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    **options: Any,
) -> EventWriter:
    """A streaming writer in the format that `format` or the suffix names; a context manager.

    options: the format's own. Raises InputError for an option that the format does not have.
    """
    chosen = format_for(path, format)
    unknown = sorted(set(options) - set(chosen.options))
    if unknown:
        raise InputError(
            f"format {chosen.name} has no option {unknown[0]!r}; it has {', '.join(chosen.options) or 'none'}"
        )
    create = chosen.create
    if create is None:
        raise InputError(f"format {chosen.name} can be read and not written")
    return create(
        path,
        width,
        height,
        t_origin=t_origin,
        labels=labels,
        seed=seed,
        config=config,
        overwrite=overwrite,
        **options,
    )


def save_events(
    events: Events,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    overwrite: bool = False,
    round_coordinates: bool = False,
    **options: Any,
) -> Path:
    """Write events to a file and return its path.

    Labels and t_origin that the format has no place for, and sub-pixel coordinates without
    `round_coordinates`, are refused with InputError; `convert` drops them and says so.
    """
    chosen = format_for(path, format)
    if events.label is not None and not chosen.labels:
        raise InputError(f"{path}: format {chosen.name} has no place for labels; drop them first")
    if events.t_origin and not chosen.origin:
        raise InputError(f"{path}: format {chosen.name} has no place for t_origin = {events.t_origin}")
    if round_coordinates and not chosen.subpixel:
        events, _, _ = rounded_to_pixels(events)
    with create_events(
        path,
        events.width,
        events.height,
        format=chosen.name,
        t_origin=events.t_origin,
        labels=events.label is not None,
        overwrite=overwrite,
        **options,
    ) as writer:
        writer.append(events)
    return Path(path)


def rounded_to_pixels(events: Events) -> tuple[Events, int, int]:
    """Events with coordinates rounded to nearest; how many moved, and how many of those at the far border.

    A coordinate within half a pixel of the far border would round to outside: it goes to the last pixel.
    """
    if "f" not in (events.x.dtype.kind, events.y.dtype.kind):
        return events, 0, 0
    columns: list[NDArray[np.uint16]] = []
    moved = np.zeros(len(events), bool)
    beyond = np.zeros(len(events), bool)
    for column, side in ((events.x, events.width), (events.y, events.height)):
        nearest = np.rint(column)
        moved |= nearest != column
        beyond |= nearest > side - 1
        columns.append(np.minimum(nearest, side - 1).astype(np.uint16))
    return (
        replace(events, x=columns[0], y=columns[1]),
        int(np.count_nonzero(moved)),
        int(np.count_nonzero(beyond)),
    )


def stripped(events: Events, chosen: Format) -> Events:
    """The events without what `chosen` has no place for: labels, origin."""
    kept = events if chosen.labels else without_labels(events)
    return kept if chosen.origin else replace(kept, t_origin=0)


def _head(path: Path) -> bytes:
    if path.is_dir():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _strange(path: Path, head: bytes) -> str:
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir())
        return f"is a folder of no known format, holding {', '.join(names[:8]) or 'nothing'}"
    if not head:
        return "is empty"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "is an HDF5 file without event columns of a known layout (such as events/xs, ys, ts, ps)"
    return f"is in no known format; it begins with {head[:16]!r}"
