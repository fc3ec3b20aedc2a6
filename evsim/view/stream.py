"""What can be looked at, and how it is walked through: time spans and windows of events, piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from evsim.events import Events


class TimedImage(Protocol):
    """An image of a recording: uint8 (H, W) or (H, W, 3) at `t_us` on the clock of the events."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """The pixels."""

    @property
    def t_us(self) -> float:
        """Microseconds."""


class EventFile(Protocol):
    """What this room needs of an opened recording."""

    width: int
    height: int
    t_origin: int

    @property
    def image_count(self) -> int:
        """How many images there are."""

    def chunks(self) -> Iterator[Events]:
        """The events in consecutive pieces."""

    def images(self) -> Iterator[Any]:
        """The images in order of time, each a `TimedImage`."""


EventSource = Events | EventFile
"""Events in memory, or an opened recording of any format."""


class Span(NamedTuple):
    """What one walk through a source tells.

    first_us, last_us: of the first and last event. events, on: counts. labels: whether all events have one.
    """

    first_us: int
    last_us: int
    events: int
    on: int
    labels: bool

    @property
    def duration_us(self) -> int:
        """Microseconds that hold every event: at least 1."""
        return self.last_us - self.first_us + 1


def pieces(source: EventSource) -> Iterable[Events]:
    """The events of a source in consecutive pieces."""
    return [source] if isinstance(source, Events) else source.chunks()


def empty_like(source: EventSource) -> Events:
    """No events, on the sensor of `source`."""
    return Events.empty(source.width, source.height, t_origin=source.t_origin)


def measure(source: EventSource) -> Span | None:
    """The span of a source, None without events."""
    first, last, count, on, labels = 0, 0, 0, 0, True
    for piece in pieces(source):
        if len(piece):
            first = first if count else int(piece.t[0])
            last = int(piece.t[-1])
            count += len(piece)
            on += int(np.count_nonzero(piece.p))
            labels = labels and piece.label is not None
    return Span(first, last, count, on, labels) if count else None


def windows(source: EventSource, limits: Iterable[tuple[int, int]]) -> Iterator[Events]:
    """Events with start <= t < end for each (start, end), microseconds; starts and ends must not decrease.

    Holds in memory what the present window needs and one piece more.
    """
    waiting: list[Events] = []
    stream = iter(pieces(source))
    exhausted = False
    for start, end in limits:
        while not exhausted and not (waiting and waiting[-1].t[-1] >= end):
            piece = next(stream, None)
            exhausted = piece is None
            if piece is not None and len(piece):
                waiting.append(piece)
        waiting = [piece for piece in waiting if piece.t[-1] >= start]
        found = [part for piece in waiting if len(part := piece.between(start, end))]
        yield Events.concatenate(found) if found else empty_like(source)
