"""Where a sample is cut out and how it is turned: crops, flips, quarter turns and reversed time.

Events, images of any scale and flow fields of a stretch move together.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.configuration import later
from evsim.errors import ConfigError, InputError
from evsim.events import Events
from evsim.models.data.event_augmentation import EventAugmentationConfig
from evsim.models.data.stretch import Stretch, reverse
from evsim.randomness import RandomDraws

MAX_SIDE = 1 << 16
"""A ratio of two image sides has no larger denominator."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The rectangle that is kept, then the mirrors, then the turn, then the direction of time.

    left, top, width, height: pixels of the events. flip_x: mirror left and right. flip_y: mirror top and
    bottom. quarter_turns: counter-clockwise, as numpy.rot90 counts them. reverse_time: see
    `evsim.models.data.stretch.reverse`.
    """

    left: int
    top: int
    width: int
    height: int
    flip_x: bool = False
    flip_y: bool = False
    quarter_turns: int = 0
    reverse_time: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what comes out."""
        return (self.height, self.width) if self.quarter_turns % 2 else (self.width, self.height)

    def stretch(self, stretch: Stretch) -> Stretch:
        """The stretch with everything in it moved; InputError where images have no such whole pixels."""
        scaled = self.scaled(stretch.image_scale)
        inside = self._inside(stretch.events)
        rows = stretch.rows
        if inside is not None:
            rows = np.concatenate([[0], np.cumsum(inside)])[rows]
        turned = self.quarter_turns % 2 == 1
        moved = replace(
            stretch,
            events=self._move(stretch.events if inside is None else stretch.events[inside]),
            images=tuple(image._replace(image=scaled.image(image.image)) for image in stretch.images),
            rows=rows,
            flows=tuple(flow._replace(flow=scaled.flow(flow.flow)) for flow in stretch.flows),
            image_scale=stretch.image_scale[::-1] if turned else stretch.image_scale,
        )
        return reverse(moved) if self.reverse_time else moved

    def scaled(self, scale: tuple[float, float]) -> Placement:
        """The same placement in pixels of images that have `scale` times as many, in x and in y.

        Raises InputError unless the rectangle begins and ends at whole pixels of them.
        """
        if scale == (1.0, 1.0):
            return self
        x, y = (Fraction(value).limit_denominator(MAX_SIDE) for value in scale)
        sides = {
            "left": self.left * x,
            "top": self.top * y,
            "width": self.width * x,
            "height": self.height * y,
        }
        for name, value in sides.items():
            if value.denominator != 1:
                step = (x if name in ("left", "width") else y).denominator
                raise InputError(
                    f"{name} = {getattr(self, name)} pixels of the events are {value} pixels of the images, "
                    f"expected a whole number: choose a crop in multiples of {step}"
                )
        left, top, width, height = (int(value) for value in sides.values())
        return replace(self, left=left, top=top, width=width, height=height)

    def events(self, events: Events) -> Events:
        """The events inside, with coordinates of the result; polarity and times are kept.

        A colour pattern is kept where the rectangle begins with a whole cell of it and is only moved.
        """
        inside = self._inside(events)
        return self._move(events if inside is None else events[inside])

    def image(self, image: NDArray[Any]) -> NDArray[Any]:
        """The same part of an image (H, W) or (H, W, channels) that has the rectangle's pixels."""
        found = image[self.top : self.top + self.height, self.left : self.left + self.width]
        if self.flip_y:
            found = found[::-1]
        if self.flip_x:
            found = found[:, ::-1]
        return np.ascontiguousarray(np.rot90(found, self.quarter_turns))

    def flow(self, flow: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same part of a flow field (H, W, 2) in pixels, x then y, its vectors moved, too."""
        found = self.image(flow) * np.array([-1 if self.flip_x else 1, -1 if self.flip_y else 1], flow.dtype)
        for _ in range(self.quarter_turns % 4):
            found = np.stack([found[..., 1], -found[..., 0]], -1)
        return found

    def _inside(self, events: Events) -> NDArray[np.bool_] | None:
        """Which events lie in the rectangle; None for all of a sensor that it covers."""
        if self.left == self.top == 0 and (self.width, self.height) == (events.width, events.height):
            return None
        right, bottom = self.left + self.width, self.top + self.height
        x, y = events.x, events.y
        return (x >= self.left) & (x < right) & (y >= self.top) & (y < bottom)

    def _move(self, events: Events) -> Events:
        """Events of the rectangle, in coordinates of the result."""
        x, y = events.x, events.y
        if self.left or self.top:
            x, y = x - x.dtype.type(self.left), y - y.dtype.type(self.top)
        if self.flip_x:
            x = x.dtype.type(self.width - 1) - x
        if self.flip_y:
            y = y.dtype.type(self.height - 1) - y
        width, height = self.width, self.height
        for _ in range(self.quarter_turns % 4):
            x, y = y, x.dtype.type(width - 1) - x
            width, height = height, width
        moves_cells = self.left % 2 or self.top % 2 or self.flip_x or self.flip_y or self.quarter_turns % 4
        pattern = None if moves_cells else events.color_pattern
        return replace(events, x=x, y=y, width=width, height=height, color_pattern=pattern)


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How samples are varied; every draw is a function of (seed, epoch, index)."""

    crop: tuple[int, int] | None = None
    """Width and height of the part that is kept, in pixels of the events; none keeps all."""
    random_crop: bool = True
    """Draw the part's place; otherwise it is the centre."""
    flip_x: float = 0.5
    """Probability of mirroring left and right."""
    flip_y: float = 0.0
    """Probability of mirroring top and bottom."""
    quarter_turns: float = later(default=0.0)
    """Probability of a turn by 90, 180 or 270 degrees, each as likely; needs a square crop."""
    reverse_time: float = later(default=0.0)
    """Probability of letting time run backwards."""
    events: EventAugmentationConfig = later(default_factory=EventAugmentationConfig)
    """What is done to the events alone."""

    def __post_init__(self) -> None:
        if self.crop is not None and min(self.crop) < 1:
            raise ConfigError(f"crop = {self.crop}, expected width and height of at least 1")
        for name in ("flip_x", "flip_y", "quarter_turns", "reverse_time"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} = {getattr(self, name)}, expected a probability")
        if self.quarter_turns and self.crop is not None and self.crop[0] != self.crop[1]:
            raise ConfigError(f"crop = {self.crop} with quarter_turns, expected a square")

    def without_draws(self) -> AugmentationConfig:
        """The same crop at the centre and nothing else, as validation wants it."""
        return AugmentationConfig(crop=self.crop, random_crop=False, flip_x=0.0)


def draw_placement(
    config: AugmentationConfig,
    size: tuple[int, int],
    draws: RandomDraws,
    image_scale: tuple[float, float] = (1.0, 1.0),
) -> Placement:
    """The placement of one sample; size is the recording's (width, height).

    image_scale: pixels of the images per pixel of the events; a crop begins where pixels of both do. Raises
    InputError for a crop larger than the recording, and for quarter turns of what is not square.
    """
    width, height = config.crop or size
    spare_x, spare_y = size[0] - width, size[1] - height
    if min(spare_x, spare_y) < 0:
        raise InputError(f"crop of {width}x{height} is larger than the recording of {size[0]}x{size[1]}")
    if config.quarter_turns and width != height:
        raise InputError(f"quarter turns of {width}x{height} pixels, expected a square: set a crop")
    # All draws are always made: changing one probability leaves the other draws as they were.
    fractions = [draws.fraction() for _ in range(6)]
    places = [0, 0]
    for axis, spare in enumerate((spare_x, spare_y)):
        step = Fraction(image_scale[axis]).limit_denominator(MAX_SIDE).denominator
        drawn = int(fractions[axis] * (spare // step + 1))
        places[axis] = step * (drawn if config.random_crop else spare // 2 // step)
    turned = fractions[4] < config.quarter_turns
    return Placement(
        left=places[0],
        top=places[1],
        width=width,
        height=height,
        flip_x=fractions[2] < config.flip_x,
        flip_y=fractions[3] < config.flip_y,
        quarter_turns=1 + int(3 * fractions[4] / config.quarter_turns) if turned else 0,
        reverse_time=fractions[5] < config.reverse_time,
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
