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
    ImageFacts,
    IndexedRecording,
    RecordedImage,
    Recording,
)


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
        self._count: int | None = None

    def __len__(self) -> int:
        if self._count is None:
            first, last = self._rows() or (0, sum(map(len, self._blocks())))
            self._count = last - first
        return self._count

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
    first = last = None
    if isinstance(recording, IndexedRecording) and len(recording):
        ends = recording.rows(0, 1), recording.rows(len(recording) - 1, len(recording))
        first, last = (int(end.t[0]) for end in ends)
    else:
        for block in recording.chunks():
            if len(block):
                first, last = int(block.t[0]) if first is None else first, int(block.t[-1])
    if first is None or last is None:
        raise InputError(f"{recording.path} holds no events, so there is nothing to reconstruct")
    return first, last


def cut_excerpt(recording: Recording, start_s: float | None, stop_s: float | None) -> Recording:
    """The stretch from `start_s` on and before `stop_s`, seconds after the first event; None: to the end.

    Without both it is the recording itself. Raises InputError where the stretch holds no event.
    """
    if start_s is None and stop_s is None:
        return recording
    first, last = time_span(recording)
    start = first if start_s is None else first + round(start_s * 1e6)
    stop = last + 1 if stop_s is None else first + round(stop_s * 1e6)
    excerpt = Excerpt(recording, start, stop)
    if excerpt.first_time() is None:
        raise InputError(
            f"{recording.path} holds no event from {(start - first) / 1e6:g} s to before "
            f"{(stop - first) / 1e6:g} s after its first one; its last is {(last - first) / 1e6:g} s after it"
        )
    return excerpt
