"""Which files a clip is read from, and how large they are."""

from __future__ import annotations

import os
from pathlib import Path

from evsim.errors import InputError
from evsim.media.image import image_kind

TIMING_FILES = ("timestamps.txt", "info.txt", "fps.txt")


def clip_files(clip: Path) -> list[tuple[str, Path]]:
    """Every file that a clip is read from: the video, or the images and what tells their times.

    With each its path relative to the clip, so that a data set may be moved as a whole.
    Raises InputError where nothing is there.
    """
    try:
        if not clip.is_dir():
            clip.stat()
            return [(".", clip)]
        folder, below, above = clip, "", "../"
        images = _images(folder)
        if not images and (clip / "imgs").is_dir():
            folder, below, above = clip / "imgs", "imgs/", ""
            images = _images(folder)
        timing = [
            (f"{prefix}{name}", place / name)
            for prefix, place in ((below, folder), (above, folder.parent))
            for name in TIMING_FILES
        ]
        held = [(f"{below}{name}", folder / name) for name in images]
        return held + [(name, file) for name, file in timing if file.is_file()]
    except OSError as error:
        raise InputError(f"cannot read {clip}: {error.strerror}") from error


def clip_bytes(clip: Path) -> int:
    """Size of all files of a clip together, 0 where they cannot be read: a guess at how long it takes."""
    try:
        return sum(file.stat().st_size for _, file in clip_files(clip))
    except (InputError, OSError):
        return 0


def _images(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if image_kind(e.name) and not e.name.startswith("."))
