"""Events that wait in unnamed files until the times are known at which they are to be cut."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from evsim.events import Events
from evsim.formats.storage.npy_stream import NpyColumn
from evsim.formats.storage.recording import search_times


class EventBuffer:
    """Columns of events in unnamed files of `folder`, which vanish with the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[IO[bytes]] = []
        self._columns: dict[str, NpyColumn] = {}

    def __len__(self) -> int:
        return self._columns["t"].length if self._columns else 0

    def append(self, events: Events) -> None:
        """Add events; coordinates are all whole or all sub-pixel."""
        for name in "txyp":
            values = getattr(events, name)
            if name not in self._columns:
                file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by `close`
                self._files.append(file)
                self._columns[name] = NpyColumn(file, values.dtype)
            self._columns[name].append(values)

    def search(self, t: float, *, after: bool = False) -> int:
        """How many events have time < t (with `after`: <= t)."""
        if not self._columns:
            return 0
        return search_times(self._columns["t"].rows, t, 0, len(self), after=after)

    def rows(self, start: int, stop: int) -> dict[str, NDArray[np.generic]]:
        """Columns t, x, y, p of events start..stop-1."""
        if not self._columns:
            kinds = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}
            return {name: np.empty(0, kind) for name, kind in kinds.items()}
        return {name: column.rows(start, stop) for name, column in self._columns.items()}

    def close(self) -> None:
        """Let the files vanish."""
        for file in self._files:
            with contextlib.suppress(OSError):
                file.close()
        self._files, self._columns = [], {}
