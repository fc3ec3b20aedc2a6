"""Whether the indices stored in a file say what its events say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evsim.formats.storage.recording import BLOCK, Defect, IndexedRecording


def millisecond_defects(
    recording: IndexedRecording, index: NDArray[np.generic], first: int, *, whole: bool
) -> Iterator[Defect]:
    """Entries of ms_to_idx that are not the first event from `first` + 1000 k us on.

    whole: the index must also end with the millisecond of the last event.
    """
    count = len(recording)
    wanted = np.full(len(index), count, np.int64)
    done = 0
    last = first
    for start in range(0, count, BLOCK):
        t = recording._times(start, min(start + BLOCK, count))
        last = int(t[-1])
        stop = min(len(index), (last - first) // 1000 + 1)
        if stop > done:
            borders = first + 1000 * np.arange(done, stop, dtype=np.int64)
            wanted[done:stop] = start + np.searchsorted(t, borders)
            done = stop
    found = index.astype(np.int64)
    wrong = np.flatnonzero(found != wanted)
    if len(wrong):
        k = int(wrong[0])
        yield Defect(
            f"ms_to_idx, entry {k}",
            f"is {found[k]}, expected {wanted[k]} ({len(wrong)} of {len(found)} entries are wrong)",
        )
    entries = (last - first) // 1000 + 1 if count else 0
    if whole and len(found) != entries:
        yield Defect("ms_to_idx", f"has {len(found)} entries, expected {entries} milliseconds")


def window_defects(place: str, windows: NDArray[np.int64], count: int) -> Iterator[Defect]:
    """Windows [start, end) of images that leave the events or end before they begin."""
    if not windows.size:
        return
    wrong = (windows[:, 0] < 0) | (windows[:, 1] > count) | (windows[:, 1] < windows[:, 0])
    for row in np.flatnonzero(wrong).tolist():
        yield Defect(f"{place}, row {row}", f"is {windows[row].tolist()}, expected a part of 0..{count}")
