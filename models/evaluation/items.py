"""The items of a recording that are evaluated: which events each takes, when it is, its reference image.

Windows follow the evaluation protocol of EVREAL (Ercan et al. 2023).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.models.evaluation.protocol import EvaluationConfig
from evsim.randomness import derive_key


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Times of a recording in seconds, on one clock.

    events: float64 (N,), may be mapped from a file. images: float64 (M,). last_events: int64 (M,), the last
    event at or before each image.
    """

    events: NDArray[np.float64]
    images: NDArray[np.float64]
    last_events: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Items:
    """One entry for each item, in order.

    index: int64, number in file names. starts, stops: int64, its events [start, stop). times: float64, of the
    prediction, seconds. frames: int64, its reference image, -1 where there is none. gaps: float64, seconds
    between prediction and reference. lengths, spans: float64 seconds, of the window, and from its first to
    its last event.
    """

    index: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    times: NDArray[np.float64]
    frames: NDArray[np.int64]
    gaps: NDArray[np.float64]
    lengths: NDArray[np.float64]
    spans: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.index)

    def rates(self, config: EvaluationConfig) -> NDArray[np.float64]:
        """Events per second of each item, float64; 0 where no time passes."""
        seconds = self.lengths if config.event_rate == "window" else self.spans
        counts = (self.stops - self.starts).astype(np.float64)
        return np.divide(counts, seconds, out=np.zeros_like(counts), where=seconds > 0)


def last_events_before(events: NDArray[np.float64], images: NDArray[np.float64]) -> NDArray[np.int64]:
    """int64 (M,): the last event at or before each image, 0 where there is none; times of both in seconds."""
    found = np.searchsorted(events, images, side="right") - 1
    return np.clip(found, 0, max(0, len(events) - 1)).astype(np.int64)


def cut_items(clock: Clock, config: EvaluationConfig, clip: str = "") -> Items:
    """The items of a recording; clip: with the seed decides which frames are kept.

    Raises InputError for a recording without events, or without the images that windows are taken between.
    """
    if not len(clock.events):
        raise InputError("holds no events, so there is nothing to evaluate")
    protocol = config.windows
    if protocol.windows == "frames":
        return _between_frames(clock, config, clip)
    if protocol.windows == "count":
        return _by_count(clock, int(protocol.length), int(config.overlap))
    return _by_time(clock, protocol.length / 1e3, config.overlap / 1e3)


def _between_frames(clock: Clock, config: EvaluationConfig, clip: str) -> Items:
    kept = _kept_frames(len(clock.images), config, clip)
    if len(kept) < 2:
        raise InputError(
            f"holds {len(clock.images)} images, of which {len(kept)} are kept, expected at least 2 to take "
            "windows between; choose windows by time or count (--protocol t40ms or k5k)"
        )
    stops, times = clock.last_events[kept], clock.images[kept]
    starts = np.concatenate((stops[:1], stops[:-1]))
    lengths = np.diff(times, prepend=times[0])
    # EVREAL's first window is empty and its last frame unused.
    chosen = slice(1, None) if config.all_frames else slice(None, -1)
    return _items(
        clock,
        np.arange(len(kept))[chosen],
        starts[chosen],
        stops[chosen],
        times[chosen],
        lengths[chosen],
        frames=kept[chosen],
    )


def _kept_frames(count: int, config: EvaluationConfig, clip: str) -> NDArray[np.int64]:
    ratio = config.windows.keep_ratio
    if ratio == 1:
        return np.arange(count)
    draws = np.random.Philox(key=derive_key(config.seed, clip, "kept frames")).random_raw(count)
    return np.sort(np.argsort(draws)[: int(count * ratio)])


def _by_count(clock: Clock, count: int, overlap: int) -> Items:
    total = len(clock.events)
    if total < count:
        raise InputError(f"holds {total} events, fewer than one window of {count}; choose shorter windows")
    starts = np.arange(0, total - count + 1, count - overlap)
    stops = starts + count
    times = np.asarray(clock.events[stops - 1], np.float64)
    return _items(clock, np.arange(len(starts)), starts, stops, times, times - clock.events[starts])


def _by_time(clock: Clock, seconds: float, overlap: float) -> Items:
    first, last = float(clock.events[0]), float(clock.events[-1])
    number = int((last - first - overlap) / (seconds - overlap))
    if number < 1:
        raise InputError(f"lasts {last - first:.6g} s, less than one window of {seconds:.6g} s")
    begins = first + np.arange(number) * (seconds - overlap)
    stops = np.searchsorted(clock.events, begins + seconds)
    starts = np.searchsorted(clock.events, begins) if overlap else np.concatenate(([0], stops[:-1]))
    times = np.asarray(clock.events[np.maximum(stops - 1, 0)], np.float64)
    for item in np.flatnonzero(stops == starts):
        # Without an event of its own a window ends as long after the one before as windows follow each other.
        times[item] = times[item - 1] + seconds - overlap
    return _items(clock, np.arange(number), starts, stops, times, np.full(number, seconds), spans=False)


def _items(
    clock: Clock,
    index: NDArray[Any],
    starts: NDArray[Any],
    stops: NDArray[Any],
    times: NDArray[np.float64],
    lengths: NDArray[np.float64],
    *,
    frames: NDArray[Any] | None = None,
    spans: bool = True,
) -> Items:
    filled = stops > starts
    measured = np.zeros(len(starts))
    measured[filled] = clock.events[stops[filled] - 1] - clock.events[starts[filled]]
    nearest = nearest_images(clock.images, times) if frames is None else frames.astype(np.int64)
    gaps = np.abs(clock.images[nearest] - times) if len(clock.images) else np.full(len(times), np.inf)
    return Items(
        index=index.astype(np.int64),
        starts=starts.astype(np.int64),
        stops=stops.astype(np.int64),
        times=times,
        frames=nearest,
        gaps=gaps,
        lengths=lengths,
        # EVREAL takes the nominal length of windows by time.
        spans=measured if spans else lengths,
    )


def nearest_images(images: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.int64]:
    """int64 (n,): the image nearest to each time, the earlier of two equally near, -1 without images."""
    if not len(images):
        return np.full(len(times), -1, np.int64)
    after = np.clip(np.searchsorted(images, times), 1, max(1, len(images) - 1))
    before = after - 1
    if len(images) == 1:
        return np.zeros(len(times), np.int64)
    earlier = times - images[before] <= images[after] - times
    return np.where(earlier, before, after).astype(np.int64)


def events_in_ranges(
    chunks: Iterable[Events], ranges: Iterable[tuple[int, int]], empty: Events
) -> Iterator[Events]:
    """Events number start..stop-1 for each range; starts do not decrease, ranges may overlap or be empty.

    chunks: consecutive pieces of a stream, of which only those are held that a range still needs.
    """
    stream = iter(chunks)
    held: deque[tuple[int, Events]] = deque()
    loaded = 0
    for start, stop in ranges:
        while held and held[0][0] + len(held[0][1]) <= start:
            held.popleft()
        while loaded < stop and (piece := next(stream, None)) is not None:
            if loaded + len(piece) > start:
                held.append((loaded, piece))
            loaded += len(piece)
        parts = (piece[max(0, start - first) : max(0, stop - first)] for first, piece in held)
        yield Events.concatenate([empty, *parts])
