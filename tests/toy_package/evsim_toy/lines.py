"""A format: ``toy WIDTH HEIGHT``, then a line ``t,x,y,p`` for each event; t in microseconds, p is 1 or 0."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evsim.errors import FormatError
from evsim.events import Events
from evsim.formats import EventWriter, Format, Recording

MARK = b"toy "


def sniff(path: Path, head: bytes) -> bool:
    """True for a file that begins with the mark."""
    return head.startswith(MARK)


class ToyRecording(Recording):
    """The events of a file, held in memory."""

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        try:
            mark, *lines = path.read_text(encoding="ascii").splitlines()
            width, height = map(int, mark.split()[1:])
            table = np.array([line.split(",") for line in lines], np.int64).reshape(-1, 4)
        except ValueError as error:
            raise FormatError(path, f"is no toy recording: {error}") from error
        super().__init__(path, "toy_lines", (width, height))
        t, x, y, p = table.T
        self._events = Events(
            np.ascontiguousarray(t),
            x.astype(np.uint16),
            y.astype(np.uint16),
            p.astype(np.uint8),
            width,
            height,
        )

    def __len__(self) -> int:
        return len(self._events)

    def _blocks(self) -> Iterator[Events]:
        yield self._events


class ToyWriter(EventWriter):
    """Writes the lines as they come."""

    def _open(self, temporary: Path) -> None:
        self._file = temporary.open("w", encoding="ascii")
        self._file.write(f"toy {self.width} {self.height}\n")

    def _write(self, events: Events) -> None:
        columns = (events.t, events.x, events.y, events.p)
        self._file.writelines("{},{},{},{}\n".format(*row) for row in zip(*columns))

    def _finish(self) -> None:
        self._file.close()

    def _abandon(self) -> None:
        self._file.close()


FORMAT = Format(
    name="toy_lines",
    summary="toy lines: a mark with the size, rows t,x,y,p",
    suffixes=(".toy",),
    sniff=sniff,
    open=ToyRecording,
    create=ToyWriter,
)
