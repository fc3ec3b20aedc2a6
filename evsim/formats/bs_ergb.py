"""BS-ERGB folders, reading: one .npz for each gap between frames, coordinates in 1/32 of a pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError
from evsim.formats.catalogue import Format, register
from evsim.formats.storage.npz_folder import Arrays, NpzFolderRecording, first_holds
from evsim.formats.storage.units import TimeUnit

NAMES = ("timestamp", "x", "y", "polarity")
PARTS = 32
CLIPPED = "coordinates lay outside the frame and went to its border"


def sniff(path: Path, head: bytes) -> bool:
    """True for a folder whose first .npz holds x, y, timestamp and polarity."""
    return first_holds(path, NAMES)


class BsErgbRecording(NpzFolderRecording):
    """A folder of BS-ERGB; see `NpzFolderRecording`. Coordinates are sub-pixel.

    Coordinates are unsigned 16-bit and overflow left of and above the frame: what exceeds the frame's side is
    taken as negative. What then lies outside the frame goes to its border and is counted.
    """

    names: ClassVar[tuple[str, str, str, str]] = NAMES
    own_unit: ClassVar[TimeUnit | None] = "us"
    subpixel_files: ClassVar[bool] = True

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        super().__init__(path, "bs_ergb", size=size, unit=unit)

    def _pixels(self, arrays: Arrays, place: str) -> tuple[NDArray[Any], NDArray[Any]]:
        return self._scaled(arrays["x"], self.width, place), self._scaled(arrays["y"], self.height, place)

    def _scaled(self, column: NDArray[Any], side: int, place: str) -> NDArray[np.float32]:
        if column.dtype.kind not in "iuf":
            raise FormatError(self.path, f"coordinates are {column.dtype}, expected numbers", place=place)
        wide = column.astype(np.float64)
        if column.dtype.kind == "u":
            wide = np.where(wide > PARTS * side, wide - 65536, wide)
        pixels = wide / PARTS
        if not np.isfinite(pixels).all():
            raise FormatError(self.path, "a coordinate is no number", place=place)
        inside = np.clip(pixels, 0, side - 1)
        clipped = int(np.count_nonzero(inside != pixels))
        self.repairs[CLIPPED] = self.repairs.get(CLIPPED, 0) + clipped
        return inside.astype(np.float32)


register(
    Format(
        name="bs_ergb",
        summary="BS-ERGB folder: one .npz a gap, coordinates in 1/32 pixel (read only)",
        suffixes=("",),
        sniff=sniff,
        open=BsErgbRecording,
        images=True,
        subpixel=True,
    )
)
