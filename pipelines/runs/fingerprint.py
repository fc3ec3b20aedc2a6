"""What decides a job's output: its configuration and its input files, as short digests."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evsim.errors import InputError
from evsim.files import file_sha256
from evsim.media.image import image_kind

TIMING_FILES = ("timestamps.txt", "info.txt", "fps.txt")


def input_files(clip: Path) -> list[Path]:
    """Every file that a clip is read from: the video, or the images and what tells their times.

    Raises InputError where nothing is there.
    """
    try:
        if not clip.is_dir():
            clip.stat()
            return [clip]
        files = _images(clip)
        folder = clip
        if not files and (clip / "imgs").is_dir():
            folder = clip / "imgs"
            files = _images(folder)
        timing = [place / name for place in (folder, folder.parent) for name in TIMING_FILES]
        return files + [file for file in timing if file.is_file()]
    except OSError as error:
        raise InputError(f"cannot read {clip}: {error.strerror}") from error


def input_bytes(clip: Path) -> int:
    """Size of all input files together, 0 where they cannot be read: a guess at how long a clip takes."""
    try:
        return sum(file.stat().st_size for file in input_files(clip))
    except (InputError, OSError):
        return 0


def stated_fingerprint(configuration: Any, clip: Path) -> str:
    """Digest of a configuration and of the name, size and modification time of every input file."""
    return _digest(configuration, clip, lambda file: _status(file.stat()))


def content_fingerprint(configuration: Any, clip: Path) -> str:
    """Digest of a configuration and of the name and content of every input file."""
    return _digest(configuration, clip, lambda file: [file_sha256(file)])


def _images(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if image_kind(e.name) and not e.name.startswith(".")]
    return [folder / name for name in sorted(names)]


def _status(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns]


def _digest(configuration: Any, clip: Path, describe: Any) -> str:
    try:
        # Names relative to the clip: a data set may be moved as a whole.
        inputs: Iterable[Any] = [[os.path.relpath(file, clip), *describe(file)] for file in input_files(clip)]
    except OSError as error:
        raise InputError(f"cannot read {error.filename or clip}: {error.strerror}") from error
    text = json.dumps({"configuration": configuration, "inputs": inputs}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
