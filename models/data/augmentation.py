"""Crops and flips that move the events and the image of a window together."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evsim.errors import ConfigError, InputError
from evsim.events import Events
from evsim.randomness import RandomDraws


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One crop and flip: the rectangle that is kept, then the mirrors.

    left, top, width, height: pixels. flip_x: mirror left and right. flip_y: mirror top and bottom.
    """

    left: int
    top: int
    width: int
    height: int
    flip_x: bool = False
    flip_y: bool = False

    def events(self, events: Events) -> Events:
        """The events inside, with coordinates of the rectangle; polarity and times are kept.

        A colour pattern is kept where the rectangle begins with a whole cell of it and is not mirrored.
        """
        right, bottom = self.left + self.width, self.top + self.height
        x, y = events.x, events.y
        if not (self.left == self.top == 0 and (self.width, self.height) == (events.width, events.height)):
            events = events[(x >= self.left) & (x < right) & (y >= self.top) & (y < bottom)]
            x, y = events.x - x.dtype.type(self.left), events.y - y.dtype.type(self.top)
        if self.flip_x:
            x = x.dtype.type(self.width - 1) - x
        if self.flip_y:
            y = y.dtype.type(self.height - 1) - y
        whole_cells = not (self.left % 2 or self.top % 2 or self.flip_x or self.flip_y)
        pattern = events.color_pattern if whole_cells else None
        return replace(events, x=x, y=y, width=self.width, height=self.height, color_pattern=pattern)

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The same part of an image (H, W) or (H, W, 3)."""
        found = image[self.top : self.top + self.height, self.left : self.left + self.width]
        if self.flip_y:
            found = found[::-1]
        return np.ascontiguousarray(found[:, ::-1] if self.flip_x else found)


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How samples are varied; every draw is a function of (seed, epoch, index)."""

    crop: tuple[int, int] | None = None
    """Width and height of the part that is kept; none keeps all."""
    random_crop: bool = True
    """Draw the part's place; otherwise it is the centre."""
    flip_x: float = 0.5
    """Probability of mirroring left and right."""
    flip_y: float = 0.0
    """Probability of mirroring top and bottom."""

    def __post_init__(self) -> None:
        if self.crop is not None and min(self.crop) < 1:
            raise ConfigError(f"crop = {self.crop}, expected width and height of at least 1")
        for name in ("flip_x", "flip_y"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} = {getattr(self, name)}, expected a probability")

    def without_draws(self) -> AugmentationConfig:
        """The same crop at the centre and no flips, as validation wants it."""
        return replace(self, random_crop=False, flip_x=0.0, flip_y=0.0)


def draw_placement(config: AugmentationConfig, size: tuple[int, int], draws: RandomDraws) -> Placement:
    """The crop and flips of one sample; size is the recording's (width, height).

    Raises InputError for a crop larger than the recording.
    """
    width, height = config.crop or size
    spare_x, spare_y = size[0] - width, size[1] - height
    if min(spare_x, spare_y) < 0:
        raise InputError(f"crop of {width}x{height} is larger than the recording of {size[0]}x{size[1]}")
    # All four draws are always made: changing one probability leaves the other draws as they were.
    fractions = [draws.fraction() for _ in range(4)]
    left, top = (
        (int(fractions[0] * (spare_x + 1)), int(fractions[1] * (spare_y + 1)))
        if config.random_crop
        else (spare_x // 2, spare_y // 2)
    )
    return Placement(
        left=left,
        top=top,
        width=width,
        height=height,
        flip_x=fractions[2] < config.flip_x,
        flip_y=fractions[3] < config.flip_y,
    )


def published_placement(seed: int, size: tuple[int, int], crop: tuple[int, int]) -> Placement:
    """The placement that NER-Net's loader draws for a seed: Python's generator; row, column, then two coins.

    For comparison with its samples; `draw_placement` is what training uses.
    """
    generator = random.Random(seed)
    (width, height), (wide, high) = size, crop
    top = left = 0
    if (width, height) != (wide, high):
        top, left = generator.randint(0, height - high), generator.randint(0, width - wide)
    flip_x = generator.random() < 0.5
    flip_y = generator.random() < 0.5
    return Placement(left=left, top=top, width=wide, height=high, flip_x=flip_x, flip_y=flip_y)
