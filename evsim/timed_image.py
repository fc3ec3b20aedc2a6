"""`TimedImage`: an image with its exposure, on the clock of the events beside it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray

ImageKind = Literal["frame", "blurry", "sharp"]
"""frame: as a camera gives it; blurry: averaged over its exposure; sharp: the truth behind a blurry one."""


class TimedImage(NamedTuple):
    """An image of a scene and when it was exposed.

    image: uint8, uint16 (codes) or float32 (full scale 1), (H, W) grey or (H, W, 3) RGB; of the sensor's size
    or of another one. t_us: end of exposure, microseconds. exposure_us: its length, 0 where it is not known
    or none: the image then stands for the moment t_us.
    """

    image: NDArray[Any]
    t_us: float
    exposure_us: float = 0.0
    kind: ImageKind = "frame"

    @property
    def middle_us(self) -> float:
        """The middle of the exposure."""
        return self.t_us - self.exposure_us / 2
