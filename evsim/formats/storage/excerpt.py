"""A stretch of a recording in time, which is a recording itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.formats.storage.recording import (
    BLOCK,
    Extent,
    ImageFacts,
    IndexedRecording,
    RecordedImage,
    Recording,
)

_END = 2**63 - 1
"""Later than any event."""


class Excerpt(Recording):
    """The events with start_us <= t < stop_us and the images with start_us <= t_us <= stop_us.

    Times stay on the recording's clock. Of formats that can be read from any position only the stretch is
    read; closing it closes the recording.
    """

    def __init__(self, recording: Recording, start_us: int, stop_us: int) -> None:
        super().__init__(
            recording.path,
            recording.format,
            (recording.width, recording.height),
            t_origin=recording.t_origin,
            unit=recording.unit,
            polarity=recording.polarity,
            has_labels=recording.has_labels,
            subpixel=recording.subpixel,
            attributes=recording.attributes,
        )
        self._whole, self._shift = recording, recording.moved_to_origin
        self.any_image_size = recording.any_image_size
        self.start_us, self.stop_us = start_us, stop_us

    def __len__(self) -> int:
        return self.extent().events

    def extent(self) -> Extent:
        """Count, first and last time of the events of the stretch."""
        rows = self._rows()
        if self._known is None and rows is not None and isinstance(self._whole, IndexedRecording):
            start, stop = rows
            ends = [self._whole.rows(row, row + 1).t[0] for row in (start, stop - 1)] if stop > start else []
            first, last = (int(ends[0]), int(ends[1])) if ends else (None, None)
            self._known = Extent(stop - start, first, last)
        if self._known is None:
            self._known = self._measured_with_whole()
        return self._known

    @property
    def image_count(self) -> int:
        return int(np.count_nonzero(self._chosen_images()))

    def images(self) -> Iterator[RecordedImage]:
        """The images in order of time."""
        for image in self._whole.images():
            if self.start_us <= image.t_us <= self.stop_us:
                yield image

    def image_facts(self) -> Iterator[ImageFacts]:
        """Size, exposure and kind of each image."""
        return itertools.compress(self._whole.image_facts(), self._chosen_images())

    def image_times(self) -> NDArray[np.float64]:
        """float64 (image_count,): the end of exposure of each image, microseconds."""
        return self._whole.image_times()[self._chosen_images()]

    def close(self) -> None:
        self._whole.close()

    def _measured_with_whole(self) -> Extent:
        """The extent of the stretch, in one pass over the recording, which then knows its own as well."""
        whole = self._whole
        counted = whole.rounded_times, dict(whole.repairs)
        events, first, last = 0, None, None
        for block in whole.chunks():
            inside = block.between(self.start_us, self.stop_us)
            if len(inside):
                first = int(inside.t[0]) if first is None else first
                events, last = events + len(inside), int(inside.t[-1])
        whole.rounded_times, whole.repairs = counted
        return Extent(events, first, last)

    def _chosen_images(self) -> NDArray[np.bool_]:
        times = self._whole.image_times()
        return (times >= self.start_us) & (times <= self.stop_us)

    def _rows(self) -> tuple[int, int] | None:
        """First and last position of the stretch, where the recording can be read from any."""
        if not isinstance(self._whole, IndexedRecording):
            return None
        start = self._whole.search(self.start_us)
        return start, max(start, self._whole.search(self.stop_us))

    def _blocks(self) -> Iterator[Events]:
        rows = self._rows()
        if rows is not None and isinstance(self._whole, IndexedRecording):
            for start in range(*rows, BLOCK):
                yield self._whole.rows(start, min(start + BLOCK, rows[1]))
            return
        for block in self._whole.chunks():
            yield block.between(self.start_us, self.stop_us)
            if len(block) and block.t[-1] >= self.stop_us:
                break


def time_span(recording: Recording) -> tuple[int, int]:
    """Times of the first and the last event in microseconds. Raises InputError for a recording without."""
    _, first, last = recording.extent()
    if first is None or last is None:
        raise InputError(f"{recording.path} holds no events, so there is nothing to reconstruct")
    return first, last


def cut_excerpt(recording: Recording, start_s: float | None, stop_s: float | None) -> Recording:
    """The stretch from `start_s` on and before `stop_s`, seconds after the first event; None: to the end.

    Without both it is the recording itself. A recording that can only be streamed is read once, which tells
    what it and the stretch hold. Raises InputError where the stretch holds no event.
    """
    if start_s is None and stop_s is None:
        return recording
    first = recording.first_time()
    if first is None:
        raise InputError(f"{recording.path} holds no events, so there is nothing to reconstruct")
    start = first if start_s is None else first + round(start_s * 1e6)
    stop = _END if stop_s is None else first + round(stop_s * 1e6)
    excerpt = Excerpt(recording, start, stop)
    if not isinstance(recording, IndexedRecording):
        excerpt.extent()
    last = time_span(recording)[1]
    if stop_s is None:
        excerpt.stop_us = last + 1
    if not len(excerpt):
        begin, end, length = ((t - first) / 1e6 for t in (start, excerpt.stop_us, last))
        raise InputError(
            f"{recording.path} holds no event from {begin:g} s to before {end:g} s after its first one; "
            f"its last is {length:g} s after it"
        )
    return excerpt
