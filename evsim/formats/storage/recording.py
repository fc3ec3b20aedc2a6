"""`Recording`: an events file opened for reading, whatever its format.

A format implements `_blocks` (a stream) or, where rows can be reached directly, `_read` and `_times` of
`IndexedRecording`; windows, chunks and the checks of what was read are here, once.
"""

from __future__ import annotations

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats.storage.units import TimeUnit
from evsim.timed_image import ImageKind

BLOCK = 1 << 18
"""Events read at a time: enough to hide the cost of a call, few enough that columns stay in the cache."""
RELEASE_EVERY = 8
"""Blocks between two releases of memory: some of them still wait to be written and would be fetched again."""

R = TypeVar("R", bound="Recording")


class RecordedImage(NamedTuple):
    """One image of a recording; whoever takes a `TimedImage` takes it.

    image: uint8 (H, W) grey or (H, W, 3) RGB, of the sensor's size or, where the format holds that, another.
    t_us: end of exposure on the clock of the events, microseconds. exposure_us: its length, 0 where it is not
    known or none. event_index: the last event before the image, max(0, first event with t >= t_us, minus 1).
    """

    image: NDArray[np.uint8]
    t_us: float
    event_index: int
    exposure_us: float = 0.0
    kind: ImageKind = "frame"


class ImageFacts(NamedTuple):
    """What is known of an image without its pixels: its size in pixels, exposure in microseconds, kind."""

    width: int
    height: int
    exposure_us: float = 0.0
    kind: ImageKind = "frame"


class Extent(NamedTuple):
    """How many events there are, and the times of the first and the last in microseconds, None without."""

    events: int
    first_us: int | None
    last_us: int | None


class Defect(NamedTuple):
    """Something in a file that is not as it should be, and where."""

    place: str
    message: str


class Recording(ABC):
    """An events file, read in order of time.

    path; format: its name in `evsim.formats.FORMATS`; width, height: pixels; t_origin: microseconds that
    absolute time is later than `t`; unit, polarity: how the file writes times and polarities; has_labels,
    subpixel: what its events carry; attributes: what the file says about itself; rounded_times: how many
    times read so far were not whole microseconds; repairs: what else was not taken as it stands in the
    file, as the end of a sentence that begins with the count; mirrored: the axes that the file has the other
    way round; any_image_size: its images need not have the sensor's size.
    """

    mirrored: ClassVar[str] = ""
    any_image_size = False
    _shift = 0
    _known: Extent | None = None

    def __init__(
        self,
        path: str | os.PathLike[str],
        format: str,
        size: tuple[int, int],
        *,
        t_origin: int = 0,
        unit: TimeUnit = "us",
        polarity: str = "0/1",
        has_labels: bool = False,
        subpixel: bool = False,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.format = format
        self.width, self.height = (int(side) for side in size)
        self.t_origin = t_origin
        self.unit = unit
        self.polarity = polarity
        self.has_labels = has_labels
        self.subpixel = subpixel
        self.attributes = dict(attributes or {})
        self.rounded_times = 0
        self.repairs: dict[str, int] = {}
        if self.width < 1 or self.height < 1:
            raise InputError(
                f"{self.path}: sensor size {self.width}x{self.height}, expected at least 1x1; "
                "pass size= (--size WxH)"
            )

    @abstractmethod
    def __len__(self) -> int:
        """How many events the file holds."""

    @abstractmethod
    def _blocks(self) -> Iterator[Events]:
        """All events in order, in blocks of any length, not yet checked."""

    @property
    def image_count(self) -> int:
        """How many images the file holds."""
        return 0

    @property
    def moved_to_origin(self) -> int:
        """Microseconds of Unix time that were taken off every time of the file and are in t_origin."""
        return self._shift

    @property
    def event_windows(self) -> NDArray[np.int64] | None:
        """int64 (image_count, 2): events [start, end) that belong to each image, where the file says so."""
        return None

    def images(self) -> Iterator[RecordedImage]:
        """The images in order of time."""
        return iter(())

    def image_facts(self) -> Iterator[ImageFacts]:
        """Size, exposure and kind of each image in order of time, without reading its pixels.

        A format that knows nothing of them gives what `images` give there: the sensor's size, plain frames.
        """
        return itertools.repeat(ImageFacts(self.width, self.height), self.image_count)

    def image_times(self) -> NDArray[np.float64]:
        """float64 (image_count,): the end of exposure of each image, microseconds."""
        return np.array([image.t_us for image in self.images()], np.float64)

    def image(self, index: int) -> RecordedImage:
        """One image by its number. Raises InputError when there is none of that number."""
        self._require_image(index)
        return next(itertools.islice(self.images(), index, None))

    def _require_image(self, index: int) -> None:
        if not 0 <= index < self.image_count:
            raise InputError(f"{self.path} holds {self.image_count} images, there is no image {index}")

    def events(self) -> Events:
        """All events. Raises FormatError where they are unsorted or outside the sensor."""
        return Events.concatenate([self.empty(), *self._checked()])

    def chunks(self, count: int | None = None, microseconds: int | None = None) -> Iterator[Events]:
        """The events in consecutive pieces, holding only one piece in memory.

        count: so many events each, fewer in the last piece. microseconds: with d for it, piece k holds
        t_first + k d <= t < t_first + (k + 1) d, also where that is empty. With neither, pieces of a
        convenient length. Raises InputError for both or for values below 1, FormatError for bad content.
        """
        given = [value for value in (count, microseconds) if value is not None]
        if len(given) > 1 or any(value < 1 for value in given):
            raise InputError(
                f"chunks got count={count}, microseconds={microseconds}; expected one of them, at least 1"
            )
        if microseconds is not None:
            return self._by_time(microseconds)
        return self._by_count(count) if count is not None else self._checked()

    def between(self, t0: int, t1: int) -> Events:
        """Events with t0 <= t < t1, microseconds of column `t`; reads no more of the file than it must."""
        parts = [self.empty()]
        for block in self._checked():
            parts.append(block.between(t0, t1))
            if len(block) and block.t[-1] >= t1:
                break
        return Events.concatenate(parts)

    def own_defects(self) -> Iterator[Defect]:
        """What is wrong with the indices and counts that this format stores beside its events."""
        return iter(())

    def first_time(self) -> int | None:
        """Time of the first event in microseconds, None without events."""
        if self._known is not None:
            return self._known.first_us
        counted = self.rounded_times, dict(self.repairs)
        first = next((int(block.t[0]) for block in self._blocks() if len(block)), None)
        self.rounded_times, self.repairs = counted
        return first

    def extent(self) -> Extent:
        """Count, first and last time of the events; known after one pass over them, this or another.

        Raises FormatError for bad content.
        """
        if self._known is None:
            counted = self.rounded_times, dict(self.repairs)
            for _ in self._checked():
                pass
            self.rounded_times, self.repairs = counted
        assert self._known is not None
        return self._known

    def empty(self) -> Events:
        """No events, of this sensor."""
        none = Events.empty(self.width, self.height, t_origin=self.t_origin, labels=self.has_labels)
        return _as_subpixel(none) if self.subpixel else none

    def close(self) -> None:  # noqa: B027 - most formats hold nothing open
        """Let go of the file; reading afterwards is an error."""

    def __enter__(self: R) -> R:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.format} recording {self.path} {self.width}x{self.height}>"

    def _checked(self) -> Iterator[Events]:
        start, first, last = 0, None, None
        for block in self._blocks():
            if len(block):
                first = int(block.t[0]) if first is None else first
                yield self._check(block, start, last)
                start, last = start + len(block), int(block.t[-1])
        self._known = Extent(start, first, last)

    def _check(self, block: Events, start: int, last: int | None) -> Events:
        place = f"events {start}..{start + len(block) - 1}"
        if last is not None and len(block) and block.t[0] < last:
            raise FormatError(
                self.path,
                f"times are not sorted: event {start} is at {block.t[0]} us after {last} us; "
                "sort the events by time first",
                place=place,
            )
        if self.subpixel or "f" in (block.x.dtype.kind, block.y.dtype.kind):
            block = _as_subpixel(block)
        try:
            return block.validate()
        except InputError as error:
            raise FormatError(self.path, f"{error} (rows counted from event {start})", place=place) from None

    def _by_count(self, count: int) -> Iterator[Events]:
        waiting: list[Events] = []
        missing = count
        for block in self._checked():
            rest = block
            while len(rest) >= missing:
                yield Events.concatenate([*waiting, rest[:missing]])
                rest, waiting, missing = rest[missing:], [], count
            if len(rest):
                waiting.append(rest)
                missing -= len(rest)
        if waiting:
            yield Events.concatenate(waiting)

    def _by_time(self, microseconds: int) -> Iterator[Events]:
        waiting: list[Events] = []
        end: int | None = None
        for block in self._checked():
            rest = block
            if end is None:
                end = int(block.t[0]) + microseconds
            while len(rest) and rest.t[-1] >= end:
                cut = int(np.searchsorted(rest.t, end))
                yield Events.concatenate([self.empty(), *waiting, rest[:cut]])
                rest, waiting, end = rest[cut:], [], end + microseconds
            if len(rest):
                waiting.append(rest)
        if waiting:
            yield Events.concatenate(waiting)


class IndexedRecording(Recording):
    """A recording whose rows can be read from any position."""

    @abstractmethod
    def _read(self, start: int, stop: int) -> Events:
        """Events start..stop-1, not yet checked."""

    @abstractmethod
    def _times(self, start: int, stop: int) -> NDArray[np.int64]:
        """Times of events start..stop-1 in microseconds."""

    def _bracket(self, t: int) -> tuple[int, int]:
        """Two positions between which the first event at or after `t` lies; an index narrows them."""
        return 0, len(self)

    def search(self, t: float, *, after: bool = False) -> int:
        """How many events have time < t (with `after`: <= t); reads only the neighbourhood of the answer."""
        low, high = self._bracket(int(np.floor(t)))
        return search_times(self._times, t, low, high, after=after)

    def rows(self, start: int, stop: int) -> Events:
        """Events start..stop-1 by position; reads only those. Raises InputError outside the recording."""
        if not 0 <= start <= stop <= len(self):
            raise InputError(f"{self.path} holds {len(self)} events, there are no events {start}..{stop - 1}")
        return self._check(self._read(start, stop), start, None) if stop > start else self.empty()

    def between(self, t0: int, t1: int) -> Events:
        """Events with t0 <= t < t1, microseconds of column `t`; reads only those."""
        start = self.search(t0)
        stop = max(start, self.search(t1))
        return self._check(self._read(start, stop), start, None) if stop > start else self.empty()

    def first_time(self) -> int | None:
        return int(self._times(0, 1)[0]) if len(self) else None

    def extent(self) -> Extent:
        """Count, first and last time of the events, read from the two ends."""
        if not len(self):
            return Extent(0, None, None)
        first, last = self.rows(0, 1), self.rows(len(self) - 1, len(self))
        return Extent(len(self), int(first.t[0]), int(last.t[0]))

    def _blocks(self) -> Iterator[Events]:
        for number, start in enumerate(range(0, len(self), BLOCK)):
            yield self._read(start, min(start + BLOCK, len(self)))
            if number % RELEASE_EVERY == RELEASE_EVERY - 1:
                self._release()

    def _release(self) -> None:
        """Let go of memory that the blocks read so far took; called every few blocks."""


def search_times(
    read: Callable[[int, int], NDArray[Any]], t: float, low: int, high: int, *, after: bool = False
) -> int:
    """Position in a sorted column, read piecewise, before which all times are < t (with `after`: <= t)."""
    while high - low > 1 << 14:
        middle = (low + high) // 2
        value = read(middle, middle + 1)[0]
        if value < t or (after and value == t):
            low = middle + 1
        else:
            high = middle
    return low + int(np.searchsorted(read(low, high), t, "right" if after else "left"))


def events_before(blocks: Iterator[Events], times_us: Iterable[float]) -> Iterator[int]:
    """How many events are earlier than each of some increasing times; reads no block sooner than it must."""
    block, count = next(blocks, None), 0
    for t_us in times_us:
        while block is not None and (not len(block) or block.t[-1] < t_us):
            count += len(block)
            block = next(blocks, None)
        yield count + (int(np.searchsorted(block.t, t_us)) if block is not None else 0)


def interval_windows(image_times: NDArray[np.float64], search: Callable[[float], int]) -> NDArray[np.int64]:
    """int64 (n, 2) windows [start, end): the events after the previous image and up to this one.

    search: how many events have time <= t. The first image's window begins at the first event.
    """
    ends = [search(float(t)) for t in image_times]
    return np.array(list(itertools.pairwise([0, *ends])), np.int64).reshape(-1, 2)


def _as_subpixel(events: Events) -> Events:
    """The same events with both coordinates float32, also where one happens to be whole."""
    return replace(events, x=events.x.astype(np.float32), y=events.y.astype(np.float32))


def without_labels(events: Events) -> Events:
    """The same events, without their labels."""
    return replace(events, label=None)
