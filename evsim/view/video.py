"""An event stream as a video at real or slowed speed."""

from __future__ import annotations

import math
import os

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.media import open_writer
from evsim.view.rendering import find_style, render_events
from evsim.view.stream import EventSource, measure, windows


def event_video(
    source: EventSource,
    path: str | os.PathLike[str],
    *,
    fps: float = 30.0,
    window_us: int | None = None,
    slow_motion: float = 1.0,
    style: str = "red-blue",
    overwrite: bool = False,
) -> int:
    """Write a video of the events and return its number of frames.

    path: .webm, .mp4, .avi, .mkv, .mov, or a folder of PNG without a suffix. fps: of playback. slow_motion:
    plays so many times slower than it happened; a frame then advances 1e6 / (fps slow_motion) microseconds.
    window_us: each frame shows the events of so many microseconds before its time; by default one advance.
    A recording without events gives one blank frame. Odd sizes are padded by one row or column of background,
    which video coding needs. Raises InputError for an unusable rate, suffix or style.
    """
    colours = find_style(style)
    for name, value in (("fps", fps), ("slow_motion", slow_motion)):
        if not 0 < value < math.inf:
            raise InputError(f"{name} = {value}, expected a positive number")
    step = 1e6 / (fps * slow_motion)
    if step < 1:
        raise InputError(
            f"fps {fps:g} slowed {slow_motion:g} times advances {step:.3g} microseconds a frame, the finest "
            "event time is 1; lower one of them"
        )
    length = step if window_us is None else float(window_us)
    if length < 1:
        raise InputError(f"window_us = {window_us}, expected at least 1")
    span = measure(source)
    first, duration = (span.first_us, span.duration_us) if span else (0, 1)
    ends = [first + round((k + 1) * step) for k in range(max(1, math.ceil(duration / step)))]
    starts = [round(end - length) for end in ends]
    if window_us is None:
        # Rounded steps must neither lose nor repeat an event.
        starts = [first, *ends[:-1]]
    with open_writer(path, fps=fps, overwrite=overwrite) as writer:
        for events in windows(source, zip(starts, ends)):
            writer.write(_even(render_events(events, style), colours.background))
        return writer.frames_written


def _even(picture: NDArray[np.uint8], background: tuple[int, int, int]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return picture
    padded = np.empty((height + height % 2, width + width % 2, 3), np.uint8)
    padded[:] = background
    padded[:height, :width] = picture
    return padded
