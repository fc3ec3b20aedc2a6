"""AEDAT 4, reading: the packets of DV cameras, through the package aedat."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import EvsimError, FormatError
from evsim.events import Events
from evsim.formats.catalogue import Format, register
from evsim.formats.storage.packages import require_package
from evsim.formats.storage.recording import RecordedImage, Recording
from evsim.formats.storage.rled_layout import sensor_size
from evsim.formats.storage.units import epoch_origin

MARK = b"#!AER-DAT4"


def sniff(path: Path, head: bytes) -> bool:
    """True for a file that begins with the line of AEDAT 4."""
    return head.startswith(MARK)


class Aedat4Recording(Recording):
    """An AEDAT 4 file: its first stream of events, and its first stream of frames.

    Times are Unix times in the file; their whole seconds go to t_origin. Raises InputError without the
    package aedat, FormatError for a damaged file or one without events.
    """

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        self._library = require_package(path, "aedat", "aedat")
        self.path = path
        _check_packets(path)
        with _library_errors(path):
            streams: dict[int, dict[str, Any]] = self._library.Decoder(str(path)).id_to_stream()
        of_kind = {
            kind: sorted(number for number, stream in streams.items() if stream["type"] == kind)
            for kind in ("events", "frame")
        }
        if not of_kind["events"]:
            kinds = ", ".join(sorted(stream["type"] for stream in streams.values()))
            raise FormatError(path, f"holds no stream of events, only {kinds or 'nothing'}")
        self._events_stream = of_kind["events"][0]
        self._frame_stream = of_kind["frame"][0] if of_kind["frame"] else None
        told = streams[self._events_stream]
        self._shift = 0
        self._counts: tuple[int, int] | None = None
        first = next((int(packet["t"][0]) for packet in self._packets("events") if len(packet)), 0)
        self._shift = epoch_origin(first)
        super().__init__(
            path,
            "aedat4",
            sensor_size(
                path, (told.get("width"), told.get("height")), order="wh", image_shape=None, given=size
            ),
            t_origin=self._shift,
            polarity="bool",
            attributes={
                "streams": {str(number): stream["type"] for number, stream in sorted(streams.items())},
                "events_stream": self._events_stream,
            },
        )

    def __len__(self) -> int:
        return self._counted()[0]

    @property
    def image_count(self) -> int:
        return self._counted()[1] if self._frame_stream is not None else 0

    def images(self) -> Iterator[RecordedImage]:
        if self._frame_stream is None:
            return
        before = self._events_before()
        next(before)
        for frame in self._packets("frame"):
            t_us = float(int(frame["exposure_end_t"] or frame["t"]) - self._shift)
            yield RecordedImage(_pixels(self.path, frame), t_us, max(0, before.send(t_us) - 1))

    def _events_before(self) -> Generator[int, float, None]:
        """A generator to which rising times are sent and that answers how many events are earlier."""
        count = 0
        t_us = yield 0
        for block in self._blocks():
            while len(block) and block.t[-1] >= t_us:
                t_us = yield count + int(np.searchsorted(block.t, t_us))
            count += len(block)
        while True:
            yield count

    def _blocks(self) -> Iterator[Events]:
        for packet in self._packets("events"):
            t = packet["t"]
            if len(t) and int(t.max()) > np.iinfo(np.int64).max:
                raise FormatError(self.path, f"times reach {int(t.max())}, more than 63 bits hold")
            yield Events(
                t.astype(np.int64) - self._shift,
                np.ascontiguousarray(packet["x"]),
                np.ascontiguousarray(packet["y"]),
                packet["p"].astype(np.uint8),
                self.width,
                self.height,
                self.t_origin,
            )

    def _packets(self, kind: str) -> Iterator[Any]:
        wanted = self._events_stream if kind == "events" else self._frame_stream
        with _library_errors(self.path):
            for packet in self._library.Decoder(str(self.path)):
                if packet["stream_id"] == wanted and kind in packet:
                    yield packet[kind]

    def _counted(self) -> tuple[int, int]:
        if self._counts is None:
            events = sum(len(packet) for packet in self._packets("events"))
            frames = sum(1 for _ in self._packets("frame")) if self._frame_stream is not None else 0
            self._counts = events, frames
        return self._counts


@contextlib.contextmanager
def _library_errors(path: Path) -> Iterator[None]:
    """Turn what the package raises, its panics included, into FormatError."""
    try:
        yield
    except EvsimError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise FormatError(path, f"damaged or cut short: {first}") from error


def _check_packets(path: Path) -> None:
    """Raise FormatError where a packet is longer than the file, before the package makes room for it."""
    held = path.stat().st_size
    with path.open("rb") as file:
        file.readline(64)
        (length,) = _integers(path, file.read(4), "<I")
        header = file.read(min(length, held))
        end = _packets_end(path, header)
        place = file.tell()
        end = held if end < 0 else end
        while place < end:
            _, size = _integers(path, file.read(8), "<ii")
            if not 0 <= size <= held - place - 8:
                raise FormatError(
                    path, f"a packet says {size} bytes, more than follow", place=f"byte {place}"
                )
            place += 8 + size
            file.seek(place)


def _packets_end(path: Path, header: bytes) -> int:
    """Where the table behind the packets begins, -1 without one: field 1 of the header's flatbuffer."""
    (root,) = _integers(path, header, "<I")
    (back,) = _integers(path, header, "<i", root)
    table = root - back
    (table_bytes,) = _integers(path, header, "<H", table)
    (offset,) = _integers(path, header, "<H", table + 6) if table_bytes >= 8 else (0,)
    return _integers(path, header, "<q", root + offset)[0] if offset else -1


def _integers(path: Path, data: bytes, kinds: str, place: int = 0) -> tuple[int, ...]:
    if place < 0 or place + struct.calcsize(kinds) > len(data):
        raise FormatError(path, "damaged or cut short", place="header or packet")
    return struct.unpack_from(kinds, data, place)


def _pixels(path: Path, frame: dict[str, Any]) -> NDArray[np.uint8]:
    pixels = np.asarray(frame["pixels"])
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise FormatError(path, f"a frame is {pixels.dtype} {pixels.shape}, expected 8 bits grey or colour")
    return np.ascontiguousarray(pixels[..., :3] if pixels.ndim == 3 else pixels)


register(
    Format(
        name="aedat4",
        summary="AEDAT 4 of DV cameras, through the package aedat (read only)",
        suffixes=(".aedat4",),
        sniff=sniff,
        open=Aedat4Recording,
        polarity="bool",
        images=True,
        origin=True,
    )
)
