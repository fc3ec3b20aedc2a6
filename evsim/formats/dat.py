"""DAT, version 2: Prophesee's records of 8 bytes, as CD events (type 12) or the older type 0."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats.catalogue import Format, register
from evsim.formats.evt2 import RESTARTS
from evsim.formats.npy import abandon_file
from evsim.formats.storage.prophesee import ORIGIN, TIME_BASE, head_encoding, header_size, read_header
from evsim.formats.storage.words import Decoded, State, WordRecording, unwrapped
from evsim.formats.storage.writer import EventWriter

TYPES = (0, 12)
RECORD_BYTES = 8
PERIOD_US = 1 << 32


def sniff(path: Path, head: bytes) -> bool:
    """True for a header of % lines with a version and no encoding."""
    return head_encoding(head) == "DAT"


class DatRecording(WordRecording):
    """A DAT file. Its clock of 32 bits starts again after 71.6 minutes; times here run on.

    Raises FormatError for records of another kind, InputError when the size must be told.
    """

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        header = read_header(path)
        with path.open("rb") as file:
            file.seek(header.end)
            described = tuple(file.read(2))
        if described not in {(kind, RECORD_BYTES) for kind in TYPES}:
            raise FormatError(
                path,
                f"says event type and record size {described}, expected type 12 or 0 and size 8",
                place=f"byte {header.end}",
            )
        self._base = header.time_base
        super().__init__(
            path,
            "dat",
            header_size(path, header, size),
            start=header.end + 2,
            word="<u8",
            initial=(-1,),
            t_origin=header.t_origin,
            attributes={**header.fields, "event_type": described[0]},
        )

    def _decode(self, words: NDArray[Any], state: State) -> Decoded:
        t, turns = unwrapped(words & 0xFFFFFFFF, state[0], PERIOD_US)
        place = (words >> 32).astype(np.uint32)
        return Decoded(
            t + self._base,
            (place & 0x3FFF).astype(np.uint16),
            ((place >> 14) & 0x3FFF).astype(np.uint16),
            (place >> 28) & 1,
            (int(t[-1]) if len(t) else state[0],),
            {RESTARTS: turns},
        )


class DatWriter(EventWriter):
    """Writes DAT version 2 with CD events; see `EventWriter`.

    The clock of 2^32 us starts again as often as needed; what the first event's time exceeds it by stands
    in the header (evsim_time_base_us), where other readers do not look. Raises InputError for a pause of
    more than half that clock, after which no reader could tell the time.
    """

    largest_side = 16384
    signed_time = False

    def _open(self, temporary: Path) -> None:
        self._file: IO[bytes] = temporary.open("wb")
        self._base: int | None = None
        self._last = 0

    def _start(self, first: int) -> int:
        base = first - first % PERIOD_US
        lines = [
            "Data file containing CD events.",
            "Version 2",
            f"Width {self.width}",
            f"Height {self.height}",
            *[f"{TIME_BASE} {base}"] * bool(base),
            *[f"{ORIGIN} {self.t_origin}"] * bool(self.t_origin),
        ]
        self._file.write("".join(f"% {line}\n" for line in lines).encode("ascii"))
        self._file.write(bytes([TYPES[-1], RECORD_BYTES]))
        return base

    def _write(self, events: Events) -> None:
        if self._base is None:
            self._last = int(events.t[0])
            self._base = self._start(self._last)
        pauses = np.diff(events.t, prepend=self._last)
        if pauses.max() >= PERIOD_US // 2:
            row = int(np.argmax(pauses))
            raise InputError(
                f"{self.path}: no event for {pauses[row]} us before {events.t[row]} us, and this format's "
                "clock starts again after 2^32 us; write another format"
            )
        self._last = int(events.t[-1])
        records = np.empty((len(events), 2), "<u4")
        records[:, 0] = (events.t - self._base) & 0xFFFFFFFF
        records[:, 1] = (
            events.x.astype(np.uint32)
            | (events.y.astype(np.uint32) << 14)
            | (events.p.astype(np.uint32) << 28)
        )
        self._file.write(records.tobytes())

    def _finish(self) -> None:
        if self._base is None:
            self._start(0)
        self._file.close()

    def _abandon(self) -> None:
        abandon_file(self)


register(
    Format(
        name="dat",
        summary="Prophesee DAT version 2: 8 bytes an event",
        suffixes=(".dat",),
        sniff=sniff,
        open=DatRecording,
        create=DatWriter,
        origin=True,
    )
)
