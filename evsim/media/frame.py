"""What flows between the stages before the sensor: timed frames, and where they come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Transfer = Literal["srgb", "gamma", "linear", "raw", "log"]
"""How code values stand for light. srgb: IEC 61966-2-1; gamma: a power of 2.2; linear: proportional to
light; raw: proportional to light, in the camera's colours; log: natural logarithm of the DN 0..255 value."""


class Frame(NamedTuple):
    """One image at one time.

    image: (H, W) grey or (H, W, 3) RGB; uint8 or uint16 code values, or float32 with full scale 1.0.
    t_ns: int64 nanoseconds.
    cut: True if a scene cut lies between the previous frame and this one.
    source_index: index of this frame in its source, or None where it was interpolated.
    """

    image: NDArray[Any]
    t_ns: int
    cut: bool = False
    source_index: int | None = None


class FrameSource(Protocol):
    """A clip that can be read from the start any number of times.

    name: what error messages call it. width, height: pixels, after cropping and resizing.
    channels: 1 or 3. dtype: of the images. transfer: what their code values mean.
    frame_count: how many frames will come, or None when only reading can tell.
    """

    name: str
    width: int
    height: int
    channels: int
    dtype: np.dtype[Any]
    transfer: Transfer
    frame_count: int | None

    def __iter__(self) -> Iterator[Frame]:
        """The frames in order of strictly increasing time."""
        ...
