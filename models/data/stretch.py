"""`Stretch`: what a sample is made from, whatever it comes from: events, timed images, windows of time.

Recordings, clips simulated on the fly and image triplets all give stretches; a network's transform makes its
sample of one. So one transform trains from any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.randomness import RandomDraws
from evsim.timed_image import TimedImage

NO_IMAGE = -1
"""In place of an image's number: there is none."""


class TimedFlow(NamedTuple):
    """Where the pixels of one image are in another.

    flow: float32 (H, W, 2), displacement in pixels of the images, x (columns) then y (rows), of every pixel
    at from_us until to_us, which may be earlier.
    """

    flow: NDArray[np.float32]
    from_us: float
    to_us: float


def _none() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Stretch:
    """The events, images and windows of some time of one recording, clip or set of images.

    events: in order, those of all windows; what lies in none may be left out. images: in order of time, all
    of one size. rows: int64 (K, 2), window k holds the events rows[k, 0]..rows[k, 1] - 1 by position.
    edges_us: float64 (K, 2), begin and end of each window on the clock of the events. window_images: int64
    (K,), the image that belongs to the end of each window, NO_IMAGE where there is none. image_scale: pixels
    of the images per pixel of the events, in x and in y. key: names the stretch in messages: of what, and
    which part. opening_images: int64 (K,), the image at the begin of each window (empty: none); a window
    stored around an image has that image as both. flows: between the images.
    Raises InputError for windows that do not match each other or the events, and for images of another size.
    """

    events: Events
    images: tuple[TimedImage, ...]
    rows: NDArray[np.int64]
    edges_us: NDArray[np.float64]
    window_images: NDArray[np.int64]
    image_scale: tuple[float, float] = (1.0, 1.0)
    key: str = ""
    opening_images: NDArray[np.int64] = field(default_factory=_none)
    flows: tuple[TimedFlow, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.rows)
        if not len(self.opening_images):
            object.__setattr__(self, "opening_images", np.full(count, NO_IMAGE, np.int64))
        for name, shape in (
            ("rows", (count, 2)),
            ("edges_us", (count, 2)),
            ("window_images", (count,)),
            ("opening_images", (count,)),
        ):
            found = np.shape(getattr(self, name))
            if found != shape:
                raise InputError(f"{self.key}: {name} has shape {found}, expected {shape}")
        if count and not 0 <= self.rows.min() <= self.rows.max() <= len(self.events):
            raise InputError(f"{self.key}: windows reach outside the {len(self.events)} events")
        for name in ("window_images", "opening_images"):
            numbers = getattr(self, name)
            if count and not NO_IMAGE <= numbers.min() <= numbers.max() < len(self.images):
                raise InputError(f"{self.key}: {name} name other than the {len(self.images)} images")
        wanted = (
            round(self.events.width * self.image_scale[0]),
            round(self.events.height * self.image_scale[1]),
        )
        for number, image in enumerate(self.images):
            height, width = image.image.shape[:2]
            if (width, height) != wanted:
                raise InputError(
                    f"{self.key}: image {number} is {width}x{height}, expected {wanted[0]}x{wanted[1]}: "
                    f"{self.events.width}x{self.events.height} of the events times {self.image_scale}; all "
                    "images of a stretch have one size"
                )

    def __len__(self) -> int:
        return len(self.rows)

    def window(self, number: int) -> Events:
        """The events of a window, as views."""
        start, stop = self.rows[number]
        return self.events[int(start) : int(stop)]

    def window_image(self, number: int) -> TimedImage | None:
        """The image at the end of a window."""
        image = int(self.window_images[number])
        return None if image == NO_IMAGE else self.images[image]

    def opening_image(self, number: int) -> TimedImage | None:
        """The image at the begin of a window."""
        image = int(self.opening_images[number])
        return None if image == NO_IMAGE else self.images[image]

    def without_images(self) -> Stretch:
        """The same events and windows, without images and flows."""
        none = np.full(len(self), NO_IMAGE, np.int64)
        return replace(self, images=(), flows=(), window_images=none, opening_images=none)

    @property
    def span_us(self) -> tuple[float, float]:
        """Begin of the first and end of the last window. Raises InputError without windows."""
        if not len(self):
            raise InputError(f"{self.key} has no windows")
        return float(self.edges_us[:, 0].min()), float(self.edges_us[:, 1].max())


Transform = Callable[[Stretch, RandomDraws], Any]
"""A stretch and the draws of its sample -> the sample. It runs in a loader's process and draws from nothing
else. A transform whose samples do not stack has an attribute `collate`: a list of samples -> the batch."""

StretchAugmentation = Callable[[Stretch, RandomDraws], Stretch]
"""A stretch varied by the draws of its sample."""


def scale_of_images(images: Sequence[TimedImage], size: tuple[int, int]) -> tuple[float, float]:
    """`Stretch.image_scale` of images beside a sensor of (width, height); 1 without images."""
    if not images:
        return (1.0, 1.0)
    height, width = images[0].image.shape[:2]
    return width / size[0], height / size[1]


def reverse(stretch: Stretch) -> Stretch:
    """The stretch as if time ran backwards, within the same span.

    A time t becomes begin + end - t, rounded once for the whole stretch so that events stay at whole
    microseconds. Events come in the opposite order, also those of one time, with the other polarity. Windows
    change their order, an image's exposure ends where it began, images stay in order of time (those that end
    at one time in order of their exposures), and the images at the begin and end of a window change places.
    A flow keeps its values and leads between the same images, so the flow forward has become the flow
    backward. Reversing twice gives the stretch back. A window that held its end and not its begin holds its
    begin and not its end.
    """
    begin, end = stretch.span_us
    both = float(np.rint(begin + end))
    events, count = stretch.events, len(stretch.events)
    images = [image._replace(t_us=both - (image.t_us - image.exposure_us)) for image in stretch.images]
    order = sorted(range(len(images)), key=lambda k: (images[k].t_us, images[k].exposure_us, -k))
    reversed_events = replace(
        events,
        t=np.int64(both) - events.t[::-1],
        x=events.x[::-1],
        y=events.y[::-1],
        p=np.uint8(1) - events.p[::-1],
        label=None if events.label is None else events.label[::-1],
    )
    return replace(
        stretch,
        events=reversed_events,
        images=tuple(images[k] for k in order),
        rows=count - stretch.rows[::-1, ::-1],
        edges_us=both - stretch.edges_us[::-1, ::-1],
        window_images=_renumbered(stretch.opening_images[::-1], order),
        opening_images=_renumbered(stretch.window_images[::-1], order),
        flows=tuple(
            flow._replace(from_us=both - flow.from_us, to_us=both - flow.to_us)
            for flow in stretch.flows[::-1]
        ),
    )


def _renumbered(images: NDArray[np.int64], order: list[int]) -> NDArray[np.int64]:
    """Numbers of images after these are put in an order."""
    return np.array([NO_IMAGE if k == NO_IMAGE else order.index(k) for k in images.tolist()], np.int64)
