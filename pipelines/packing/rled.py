"""Event files to training data: RLED HDF5, or one memory-map folder per sequence with its two lists."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from evsim.errors import InputError
from evsim.files import atomic_output, require_absent
from evsim.formats import FORMATS, Recording, create_events, open_events
from evsim.formats.conversion import (
    copy_recording,
    image_windows,
    provenance,
    require_sensor_sized_images,
)
from evsim.formats.storage.rled_layout import is_ours
from evsim.randomness import RandomDraws

HDF5_SUFFIXES = (".h5", ".hdf5")
TRAIN_LIST, VALIDATION_LIST = "train_memmap.txt", "val_memmap.txt"
VALIDATE_EVERY = 10


@dataclass(frozen=True)
class PackSummary:
    """What was packed.

    sequences: outputs in order. train, validation: their split, both empty without memmap.
    notes: sentences on what is not as it was in the source.
    """

    sequences: tuple[Path, ...]
    events: int
    images: int
    train: tuple[Path, ...]
    validation: tuple[Path, ...]
    notes: tuple[str, ...]


def pack_rled(
    source: Path,
    output: Path,
    *,
    memmap: bool,
    overwrite: bool = False,
    val_fraction: float | None = None,
    seed: int = 0,
) -> PackSummary:
    """Pack one HDF5 file, or every one in a folder tree, of RLED's or evsim's own layout.

    Without `memmap` each becomes RLED HDF5 with image windows (event_indices), at the same relative place
    in the folder `output`. With it each becomes a folder there, and `output` gets train_memmap.txt and
    val_memmap.txt with one absolute path a line: in natural order every 10th sequence from the first on
    validates, as published, except that a single sequence trains; or a share `val_fraction` drawn with
    `seed`. Raises InputError for an empty source, existing outputs without `overwrite`, or a path that the
    lists cannot hold, and for images of another size than the sensor, which RLED does not know.
    """
    found = hdf5_files(source)
    root = source if source.is_dir() else source.parent
    targets = [_target(path.relative_to(root), output, memmap) for path in found]
    _require_writable(found, targets, output, memmap, overwrite)
    train, validation = _split(targets, val_fraction, seed) if memmap else ([], [])
    events = images = 0
    notes: list[str] = []
    for path, target in zip(found, targets):
        with open_events(path, format="native") as recording:
            require_sensor_sized_images(recording, "RLED")
            changes = _pack_one(recording, target, memmap, overwrite)
            events, images = events + len(recording), images + recording.image_count
        notes += [f"{path}: {change}" for change in changes]
    if memmap:
        for name, paths in ((TRAIN_LIST, train), (VALIDATION_LIST, validation)):
            with atomic_output(output / name, overwrite=overwrite) as temporary:
                temporary.write_text("".join(f"{path.resolve()}\n" for path in paths), encoding="utf-8")
        if len(targets) == 1 and val_fraction is None:
            notes.append("a single sequence trains; there is none to validate with")
    return PackSummary(tuple(targets), events, images, tuple(train), tuple(validation), tuple(notes))


def hdf5_files(source: Path) -> list[Path]:
    """The HDF5 files at or below `source` in natural order. Raises InputError when there is none."""
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if not source.is_dir():
        if source.suffix.lower() not in HDF5_SUFFIXES:
            raise InputError(
                f"{source} is not HDF5 by its name; convert it first: evsim convert {source} events.h5"
            )
        return [source]
    found = [
        path
        for path in source.rglob("*")
        if path.suffix.lower() in HDF5_SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]
    if not found:
        raise InputError(f"{source} holds no {' or '.join('*' + suffix for suffix in HDF5_SUFFIXES)} file")
    return sorted(found, key=lambda path: case_sensitive_order(path.relative_to(source)))


def case_sensitive_order(path: Path) -> list[tuple[int, int, str]]:
    """Sort key in which numbers count as numbers and capitals come first; it decides what validates."""
    words = re.split(r"(\d+)", path.as_posix())
    return [(0, int(word), word) if word.isdecimal() else (1, 0, word) for word in words]


def _target(relative: Path, output: Path, memmap: bool) -> Path:
    return output / (relative.with_suffix("") if memmap else relative.with_suffix(".h5"))


def _require_writable(
    found: list[Path], targets: list[Path], output: Path, memmap: bool, overwrite: bool
) -> None:
    for path, target in zip(found, targets):
        if target.resolve() == path.resolve():
            raise InputError(f"{target}: would replace its own source; choose another output folder")
        require_absent(target, overwrite=overwrite)
    twice = sorted(str(target) for target, count in Counter(targets).items() if count > 1)
    if twice:
        raise InputError(f"more than one source would become {twice[0]}; rename one of them")
    if not memmap:
        return
    for name in (TRAIN_LIST, VALIDATION_LIST):
        require_absent(output / name, overwrite=overwrite)
    for target in targets:
        if set(str(target.resolve())) & set(',"\n'):
            raise InputError(
                f"{target.resolve()}: the lists hold one path a line and are read as CSV; "
                "choose an output without comma, quote or line break"
            )
    nested = [target for target in targets if any(parent in targets for parent in target.parents)]
    if nested:
        raise InputError(f"{nested[0]} would lie inside another sequence's folder; rename one of them")


def _split(targets: list[Path], val_fraction: float | None, seed: int) -> tuple[list[Path], list[Path]]:
    """Targets that train and that validate, each in order."""
    if val_fraction is None:
        chosen = set(range(0, len(targets), VALIDATE_EVERY)) if len(targets) > 1 else set()
    else:
        if not 0 <= val_fraction < 1:
            raise InputError(f"validation share {val_fraction}, expected 0 <= share < 1")
        wanted = round(val_fraction * len(targets))
        if val_fraction > 0 and len(targets) > 1:
            wanted = min(max(1, wanted), len(targets) - 1)
        chosen = _draw(len(targets), min(wanted, len(targets) - 1), seed)
    return (
        [target for index, target in enumerate(targets) if index not in chosen],
        [target for index, target in enumerate(targets) if index in chosen],
    )


def _draw(count: int, wanted: int, seed: int) -> set[int]:
    draws = RandomDraws(seed, "", "validation split")
    left = list(range(count))
    return {left.pop(int(draws.fraction() * len(left))) for _ in range(wanted)}


def _pack_one(recording: Recording, target: Path, memmap: bool, overwrite: bool) -> list[str]:
    format = FORMATS["rled_memmap" if memmap else "native"]
    settings = {**provenance(recording), **image_windows(recording)}
    if memmap:
        settings["attributes"] = recording.attributes
        settings["expected_events"] = len(recording)
    elif recording.event_windows is None and is_ours(recording.attributes) and recording.image_count:
        settings["event_windows"] = "interval"
    labels = recording.has_labels and format.labels
    with create_events(
        target,
        recording.width,
        recording.height,
        format=format.name,
        t_origin=recording.t_origin,
        labels=labels,
        overwrite=overwrite,
        **settings,
    ) as writer:
        changes = copy_recording(recording, writer, format)
    if recording.has_labels and not labels:
        changes.append("labels were dropped: the memory map has no place for them")
    if recording.unit != "us":
        changes.append(f"times were in {recording.unit} and are in us")
    return changes
