"""What is worked out once about a large file that cannot say it itself, and kept beside it.

The index of ``recording.raw`` is the hidden file ``.recording.raw.evsim-index.npz``. It is used only for a
file of the same length and time of change, and may be deleted at any time; where the folder cannot be
written, nothing is kept.
"""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import EvsimError
from evsim.files import atomic_output

SMALLEST_BYTES = 32 << 20
"""Smaller files are indexed again each time: that takes less than a second."""
VERSION = 2
STEP = 1 << 14
"""Rows between two times that an index keeps: few enough to be read at once."""

Arrays = dict[str, NDArray[Any]]


def index_path(path: Path) -> Path:
    """Where the index of `path` is kept."""
    return path.with_name(f".{path.name}.evsim-index.npz")


def bracket(kept: NDArray[Any], length: int, t: int) -> tuple[int, int]:
    """Two rows of `length` between which lie the first event at or after `t` and the first one after it.

    kept: the times of rows 0, STEP, 2 STEP, ...
    """
    low, high = np.searchsorted(kept, t, "left"), np.searchsorted(kept, t, "right")
    return max(0, int(low) - 1) * STEP, min(length, int(high) * STEP)


def kept_index(path: Path, kind: str, build: Callable[[], Mapping[str, NDArray[Any]]]) -> Arrays:
    """The arrays that `build` works out for the file `path`, from beside it if they are there.

    kind: names what builds, so that another reader's index is not taken.
    """
    status = path.stat()
    stamp = np.array([VERSION, status.st_size, status.st_mtime_ns], np.int64)
    if status.st_size < SMALLEST_BYTES:
        return dict(build())
    beside = index_path(path)
    found = _load(beside, kind, stamp)
    if found is not None:
        return found
    arrays = dict(build())
    # A folder that cannot be written, or a full disk, costs only the time to build it again.
    with (
        contextlib.suppress(OSError, EvsimError),
        atomic_output(beside, overwrite=True) as temporary,
        temporary.open("wb") as file,
    ):
        np.savez(file, allow_pickle=False, **{"_stamp": stamp, "_kind": np.array(kind), **arrays})
    return arrays


def _load(beside: Path, kind: str, stamp: NDArray[np.int64]) -> Arrays | None:
    try:
        with beside.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, SyntaxError):
        return None
    fits = np.array_equal(arrays.pop("_stamp", None), stamp) and str(arrays.pop("_kind", "")) == kind
    return arrays if fits else None
