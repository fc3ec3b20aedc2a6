"""Consecutive windows of a recording's events, read as a stream: one window in memory at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.formats.storage.recording import Recording


class Window(NamedTuple):
    """Events of one window. end_us: its end on the clock of the events, microseconds."""

    events: Events
    end_us: float


def windows_between_images(recording: Recording) -> Iterator[Window]:
    """One window per interval between consecutive images, after one image's time and up to the next one's.

    K images give K - 1 windows; events before the first and after the last image are in none. Raises
    InputError for a recording with fewer than two images.
    """
    if recording.image_count < 2:
        raise InputError(
            f"{recording.path} holds {recording.image_count} images, expected at least 2 to take windows "
            "between; choose windows by time (--window-ms) or by count (--events-per-window)"
        )
    times = [float(t) for t in recording.image_times()]
    pieces = split_at(recording.chunks(), times, recording.empty())
    next(pieces)
    return (Window(events, end) for events, end in zip(pieces, times[1:]))


def windows_by_duration(recording: Recording, microseconds: int) -> Iterator[Window]:
    """Windows [t_first + k d, t_first + (k + 1) d), empty ones included."""
    ends = itertools.count(1)
    start = None
    for events in recording.chunks(microseconds=microseconds):
        # The first window holds the first event of the recording, so it is never empty.
        start = int(events.t[0]) if start is None else start
        yield Window(events, float(start + next(ends) * microseconds))


def windows_by_count(recording: Recording, count: int) -> Iterator[Window]:
    """Windows of `count` events each, fewer in the last.

    A window ends at its last event, or 1 us after the window before where that is not later: ends increase.
    """
    last = None
    for events in recording.chunks(count=count):
        end = float(events.t[-1])
        last = end if last is None else max(end, last + 1.0)
        yield Window(events, last)


def windows_at(recording: Recording, ends_us: NDArray[np.float64]) -> Iterator[Window]:
    """Windows that end at the given times, each after the one before and up to its own end.

    The first begins at the first event. ends_us: increasing microseconds on the clock of the events; events
    after the last are in no window.
    """
    ends = [float(end) for end in ends_us]
    pieces = split_at(recording.chunks(), ends, recording.empty())
    return (Window(events, end) for events, end in zip(pieces, ends))


def split_at(chunks: Iterable[Events], edges: Iterable[float], empty: Events) -> Iterator[Events]:
    """The events up to the first edge, then those after each edge up to the next; the rest is left.

    chunks: consecutive pieces of a stream. edges: microseconds, not decreasing.
    """
    stream = iter(chunks)
    rest: Events | None = empty
    for edge in edges:
        parts = [empty]
        while rest is not None:
            cut = int(rest.t.searchsorted(edge, side="right"))
            parts.append(rest[:cut])
            rest = rest[cut:]
            if len(rest):
                break
            rest = next(stream, None)
        yield Events.concatenate(parts)
