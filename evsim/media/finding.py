"""Finding clips in a tree of folders: every folder of images and every video."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from evsim.errors import InputError
from evsim.media.image import image_kind, natural_key

VIDEO_SUFFIXES = frozenset(
    {".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"}
)


def clips_below(root: Path) -> Iterator[Path]:
    """Folders of images and videos under a folder at any depth, in natural order; no hidden ones."""
    yield from _clips_below(root, set())


def _clips_below(folder: Path, seen: set[Path]) -> Iterator[Path]:
    # Links may point upwards: a folder is entered once.
    real = folder.resolve()
    if real in seen:
        return
    seen.add(real)
    for entry in entries(folder):
        if entry.is_dir():
            if has_images(entry) or has_images(entry / "imgs"):
                yield entry
            yield from (path for path in _clips_below(entry, seen) if path != entry / "imgs")
        elif entry.suffix.lower() in VIDEO_SUFFIXES:
            yield entry


def entries(folder: Path) -> list[Path]:
    """What a folder holds, without hidden entries, in natural order."""
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]  # noqa: PTH208
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from error
    return [folder / name for name in sorted(names, key=natural_key)]


def has_images(folder: Path) -> bool:
    """Whether images lie directly in a folder."""
    if not folder.is_dir():
        return False
    with os.scandir(folder) as held:
        return any(image_kind(entry.name) and not entry.name.startswith(".") for entry in held)
