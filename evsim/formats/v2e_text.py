"""v2e's text: rows ``t x y p`` under a header of its own, and perhaps a fifth column that marks noise."""

from __future__ import annotations

from pathlib import Path
from typing import IO, ClassVar

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError
from evsim.events import SHOT_NOISE, SIGNAL
from evsim.formats.catalogue import Format, register
from evsim.formats.text import V2E_MARK, TextRecording, TextWriter, unzipped
from evsim.formats.v2e_hdf5 import repaired_polarity


def sniff(path: Path, head: bytes) -> bool:
    """True for a text that begins with v2e's first line."""
    return unzipped(head).startswith(V2E_MARK)


class V2eTextRecording(TextRecording):
    """A text of v2e's; see `TextRecording`. A fifth column, 1 or 0, becomes labels signal and shot noise."""

    name: ClassVar[str] = "v2e_text"
    widths: ClassVar[tuple[int, ...]] = (4, 5)

    def _repaired(self, polarity: NDArray[np.float64]) -> NDArray[np.float64]:
        return repaired_polarity(polarity, self.repairs)

    def _labels(self, column: NDArray[np.float64], place: str) -> NDArray[np.uint8]:
        if not np.isin(column, (0, 1)).all():
            raise FormatError(self.path, "the fifth column is not 1 (signal) or 0 (noise)", place=place)
        return np.where(column > 0, SIGNAL, SHOT_NOISE).astype(np.uint8)


class V2eTextWriter(TextWriter):
    """Writes four columns under v2e's first line; see `TextWriter`."""

    def _write_header(self, file: IO[str]) -> None:
        file.write(V2E_MARK.decode() + "\n")
        super()._write_header(file)


register(
    Format(
        name="v2e_text",
        summary="v2e text: #!events.txt, rows t x y p, perhaps a noise mark",
        suffixes=(".v2e.txt",),
        sniff=sniff,
        open=V2eTextRecording,
        create=V2eTextWriter,
        unit="s",
        subpixel=True,
        origin=True,
    )
)
