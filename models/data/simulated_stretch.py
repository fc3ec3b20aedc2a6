"""From the frames of a clip and a simulated sensor to a stretch: what is seen, windows, blurry images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from evsim.chain import ClipSimulation
from evsim.events import Events
from evsim.media import Frame
from evsim.media.selection import resize
from evsim.models.data.augmentation import Placement
from evsim.models.data.stretch import Stretch, scale_of_images
from evsim.timed_image import TimedImage


class PlacedClip:
    """A clip in its place, as the source of a simulation: what a sensor of fewer pixels sees of it.

    source: the clip. placement: in pixels of the sensor. scale: pixels of the clip per pixel of the sensor,
    in x and in y; the sensor sees the means of such blocks. frames: the clip cropped, mirrored, turned, and
    run backwards, in full size.
    """

    def __init__(self, source: Any, placement: Placement, scale: int = 1) -> None:
        full = placement.scaled((float(scale), float(scale)))
        frames = reverse_frames(source) if placement.reverse_time else source
        self.frames = [frame._replace(image=full.image(frame.image)) for frame in frames]
        self.name, self.channels, self.dtype = source.name, source.channels, source.dtype
        self.transfer, self.frame_count = source.transfer, source.frame_count
        self.width, self.height = placement.size
        self._scale = scale

    def __iter__(self) -> Iterator[Frame]:
        for frame in self.frames:
            yield (
                frame
                if self._scale == 1
                else frame._replace(image=resize(frame.image, (self.width, self.height)))
            )


def reverse_frames(frames: Iterable[Frame]) -> list[Frame]:
    """The frames of a clip in the opposite order, within the same span of time."""
    found = list(frames)
    both = found[0].t_ns + found[-1].t_ns
    return [
        frame._replace(t_ns=both - frame.t_ns, source_index=number)
        for number, frame in enumerate(found[::-1])
    ]


def simulated_stretch(
    simulation: ClipSimulation, clip: PlacedClip, settle: int, blur: int, key: str
) -> Stretch:
    """A window between every two consecutive frames of a clip, but the first `settle` ones.

    blur: of 2 or more, the windows are the exposures of blurry images instead: each the mean of so many
    frames, rounded, from the first of them to the last. The frames themselves are then the sharp images, and
    the time between the last of one exposure and the first of the next belongs to no window.
    """
    intervals: list[Events] = []
    parts: list[Events] = []
    for step in simulation:
        parts.append(step.events)
        if step.frame.source_index is not None:
            intervals.append(Events.concatenate(parts))
            parts = []
    intervals, frames = intervals[settle + 1 :], clip.frames[settle:]
    ends = np.cumsum([0, *map(len, intervals)])
    times = np.array([frame.t_ns / 1000 for frame in frames])
    if blur == 1:
        images = [TimedImage(frame.image, t_us) for frame, t_us in zip(frames, times.tolist())]
        first = np.arange(len(frames) - 1)
        last, of_end, of_begin = first + 1, first + 1, first
    else:
        first = np.arange(0, len(frames) - blur + 1, blur)
        last = first + blur - 1
        images = []
        for begin in first.tolist():
            images += _exposure(frames[begin : begin + blur], times[begin : begin + blur].tolist())
        of_end = of_begin = np.arange(blur, len(images), blur + 1)
    return Stretch(
        events=Events.concatenate(intervals),
        images=tuple(images),
        rows=np.stack([ends[first], ends[last]], 1),
        edges_us=np.stack([times[first], times[last]], 1),
        window_images=of_end,
        image_scale=scale_of_images(images, (clip.width, clip.height)),
        key=key,
        opening_images=of_begin,
    )


def _exposure(frames: list[Frame], times_us: list[float]) -> list[TimedImage]:
    """Sharp images and the blurry one that is their mean."""
    sharp = [TimedImage(frame.image, t_us, 0.0, "sharp") for frame, t_us in zip(frames, times_us)]
    mean = np.mean([frame.image for frame in frames], axis=0, dtype=np.float64)
    dtype = frames[0].image.dtype
    blurry = (mean if dtype.kind == "f" else np.rint(mean)).astype(dtype)
    return [*sharp, TimedImage(blurry, times_us[-1], times_us[-1] - times_us[0], "blurry")]
