"""N-MNIST and N-Caltech101, reading: 40 bits an event, without a header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.formats.catalogue import Format, register
from evsim.formats.storage.rled_layout import sensor_size
from evsim.formats.storage.words import Decoded, State, WordRecording

RECORD_BYTES = 5
OVERFLOW_ROW = 240
OVERFLOW_US = 1 << 13
KNOWN_BEGINNINGS = (b"#", b"%", b"PK", b"\x89HDF", b"\x93NUMPY", b"\x1f\x8b")


def sniff(path: Path, head: bytes) -> bool:
    """True if the first records read as 40-bit events whose times do not go back: there is no other mark."""
    if not head or head.startswith(KNOWN_BEGINNINGS) or path.stat().st_size % RECORD_BYTES:
        return False
    records = np.frombuffer(head[: len(head) - len(head) % RECORD_BYTES], np.uint8).reshape(-1, RECORD_BYTES)
    # Text of any length would pass otherwise.
    if all(32 <= byte < 127 or byte in (9, 10, 13) for byte in head):
        return False
    t, overflow = _times(records, 0)
    steps = np.diff(t[~overflow], prepend=0)
    return bool(len(steps)) and bool(
        records[:, 1].max() <= OVERFLOW_ROW and steps.min() >= 0 and t[-1] < 1 << 24
    )


class NmnistRecording(WordRecording):
    """A .bin of N-MNIST or N-Caltech101. Raises InputError unless the size is told."""

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        super().__init__(
            path,
            "nmnist",
            sensor_size(path, None, order=None, image_shape=None, given=size),
            start=0,
            word=f"V{RECORD_BYTES}",
            initial=(0,),
        )

    def _decode(self, words: NDArray[Any], state: State) -> Decoded:
        records = np.ascontiguousarray(words).view(np.uint8).reshape(-1, RECORD_BYTES)
        t, overflow = _times(records, state[0])
        kept = records[~overflow]
        return Decoded(
            t[~overflow],
            kept[:, 0],
            kept[:, 1],
            kept[:, 2] >> 7,
            (state[0] + int(np.count_nonzero(overflow)),),
        )


def _times(records: NDArray[np.uint8], overflows: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """int64 microseconds of each record, and which records only say that the clock overflowed."""
    wide = records.astype(np.int64)
    overflow = records[:, 1] == OVERFLOW_ROW
    t = ((wide[:, 2] & 0x7F) << 16) | (wide[:, 3] << 8) | wide[:, 4]
    return t + OVERFLOW_US * (overflows + np.cumsum(overflow)), overflow


register(
    Format(
        name="nmnist",
        summary="N-MNIST and N-Caltech101 .bin, 40 bits an event (read only)",
        suffixes=(".bin",),
        sniff=sniff,
        open=NmnistRecording,
    )
)
