"""What decides a job's outputs, as short digests: its configuration and its input files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from evsim.errors import InputError
from evsim.files import file_sha256

NamedFiles = Iterable[tuple[str, Path]]
"""Names that stay when the inputs are moved as a whole, and where the files are."""


def stated_fingerprint(decided_by: dict[str, Any], files: NamedFiles) -> str:
    """Digest of what decides a job, and of the name, size and modification time of every input file.

    decided_by: JSON-able. Raises InputError where a file is not there.
    """
    return _digest(decided_by, files, lambda file: _status(file.stat()))


def content_fingerprint(decided_by: dict[str, Any], files: NamedFiles) -> str:
    """Digest of what decides a job, and of the name and content of every input file. Raises InputError."""
    return _digest(decided_by, files, lambda file: [file_sha256(file)])


def _status(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns]


def _digest(decided_by: dict[str, Any], files: NamedFiles, describe: Callable[[Path], list[Any]]) -> str:
    try:
        inputs = [[name, *describe(file)] for name, file in files]
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from error
    text = json.dumps({**decided_by, "inputs": inputs}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
