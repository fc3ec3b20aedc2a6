"""Events varied as sensors vary: left out, added as noise, by hot pixels, inverted, or paused.

Each augmentation is a `StretchAugmentation`. Those of a sample draw from streams of their own, so that
switching one on changes neither the others nor anything else in the sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.configuration import require_range
from evsim.errors import InputError
from evsim.events import SHOT_NOISE, Events
from evsim.models.data.stretch import NO_IMAGE, Stretch, StretchAugmentation
from evsim.randomness import RandomDraws
from evsim.timed_image import TimedImage


@dataclass(frozen=True, kw_only=True)
class EventAugmentationConfig:
    """What is done to the events of a sample; images stay as they are. All is off by default."""

    pause: float = 0.0
    """Probability that a running sequence stands still for a window: no events, the image before again."""
    stay_paused: float = 0.9
    """Probability that a sequence which stands still does so for one more window."""
    drop: float = 0.0
    """Up to this share of the events is left out; the share is uniform from 0 on, drawn for each sample."""
    noise_rate_hz: float = 0.0
    """Up to so many events of noise per pixel and second are added; likewise."""
    hot_pixels: float = 0.0
    """Up to this share of the pixels is hot; likewise."""
    hot_pixel_rate_hz: float = 1000.0
    """Events per second of a hot pixel, all of one polarity."""
    invert_polarity: float = 0.0
    """Probability that ON and OFF change places: for what does not depend on the sign, such as flow."""

    def __post_init__(self) -> None:
        for name in ("pause", "stay_paused", "drop", "hot_pixels", "invert_polarity"):
            require_range(name, getattr(self, name), 0, 1)
        for name in ("noise_rate_hz", "hot_pixel_rate_hz"):
            require_range(name, getattr(self, name), 0, 1e6)

    def augmentations(self) -> dict[str, StretchAugmentation]:
        """Those that are on, by name, in the order in which they are applied."""
        return {name: make(self) for name, make in _AUGMENTATIONS.items() if getattr(self, name) > 0}


def augment_events(config: EventAugmentationConfig, stretch: Stretch, draws: RandomDraws) -> Stretch:
    """The stretch with the augmentations that are on. One number is drawn, whichever they are."""
    seed = draws.seed()
    for name, augmentation in config.augmentations().items():
        stretch = augmentation(stretch, RandomDraws(seed, name, "event augmentation"))
    return stretch


@dataclass(frozen=True)
class Pauses:
    """Windows without events in which time passes, each with the image before it; later windows are lost.

    begin: probability that a pause begins after a window. stay: that it goes on. What comes after a pause is
    later by the length of the windows that it took. Raises InputError for windows that overlap, and for
    flows, which a pause would make wrong.
    """

    begin: float
    stay: float

    def __call__(self, stretch: Stretch, draws: RandomDraws) -> Stretch:
        """See the class."""
        if np.any(stretch.rows[1:, 0] < stretch.rows[:-1, 1]) or stretch.flows:
            raise InputError(f"{stretch.key}: pauses need windows that do not overlap, and no flows")
        paused, source = False, -1
        sources: list[int] = []  # the window that each window of the result shows
        for fraction in draws.fractions(len(stretch)).tolist():
            paused = source >= 0 and fraction < (self.stay if paused else self.begin)
            source += not paused
            sources.append(source)
        return _with_pauses(stretch, sources)


def _with_pauses(stretch: Stretch, sources: list[int]) -> Stretch:
    """Windows `sources` one after another; a number that comes again stands for a pause after it."""
    shown = np.array(sources, np.int64)
    pausing = np.concatenate([[False], shown[1:] == shown[:-1]])
    lengths = np.rint(stretch.edges_us[shown, 1] - stretch.edges_us[shown, 0]).astype(np.int64)
    delays = np.cumsum(np.where(pausing, lengths, 0))
    edges = stretch.edges_us[shown] + delays[:, None]
    edges[1:, 0] = np.where(pausing[1:], edges[:-1, 1], edges[1:, 0])
    parts = [stretch.events[:0]]
    for source, delay, paused in zip(sources, delays, pausing):
        events = stretch.window(source)
        parts.append(events[:0] if paused else replace(events, t=events.t + delay))
    stops = np.cumsum([len(part) for part in parts])
    images, openings, ends = _images_with_pauses(stretch, sources, delays.tolist(), pausing.tolist())
    return replace(
        stretch,
        events=Events.concatenate(parts),
        images=images,
        rows=np.stack([stops[:-1], stops[1:]], 1),
        edges_us=edges,
        window_images=ends,
        opening_images=openings,
    )


def _images_with_pauses(
    stretch: Stretch, sources: list[int], delays: list[int], pausing: list[bool]
) -> tuple[tuple[TimedImage, ...], NDArray[np.int64], NDArray[np.int64]]:
    """The images of such windows, and which of them belong to the begin and the end of each."""
    images: list[TimedImage] = []
    numbers: dict[tuple[int, int], int] = {}

    def number_of(image: int, delay: int) -> int:
        if image != NO_IMAGE and (image, delay) not in numbers:
            numbers[image, delay] = len(images)
            images.append(stretch.images[image]._replace(t_us=stretch.images[image].t_us + delay))
        return numbers.get((image, delay), NO_IMAGE)

    openings: list[int] = []
    ends: list[int] = []
    for source, delay, paused in zip(sources, delays, pausing):
        opening, end = int(stretch.opening_images[source]), int(stretch.window_images[source])
        openings.append(ends[-1] if paused else number_of(opening, delay))
        if not paused and opening != NO_IMAGE:
            for between in range(opening + 1, end):
                number_of(between, delay)
        ends.append(number_of(end, delay))
    return tuple(images), np.array(openings, np.int64), np.array(ends, np.int64)


@dataclass(frozen=True)
class DropEvents:
    """A share of the events, drawn between 0 and `share`, is left out at random."""

    share: float

    def __call__(self, stretch: Stretch, draws: RandomDraws) -> Stretch:
        """See the class."""
        share = draws.uniform(0.0, self.share)
        kept = draws.fractions(len(stretch.events)) >= share
        return replace(
            stretch,
            events=stretch.events[kept],
            rows=np.concatenate([[0], np.cumsum(kept)])[stretch.rows],
        )


@dataclass(frozen=True)
class NoiseEvents:
    """Events at random times, pixels and polarities, at a rate drawn between 0 and `rate_hz` per pixel."""

    rate_hz: float

    def __call__(self, stretch: Stretch, draws: RandomDraws) -> Stretch:
        """See the class."""
        events = stretch.events
        pixels = events.width * events.height
        times = _arrivals(stretch, draws.uniform(0.0, self.rate_hz) * pixels, draws)
        chosen = (draws.fractions(len(times)) * pixels).astype(np.int64)
        polarity = draws.fractions(len(times)) < 0.5
        return _with_events(stretch, times, chosen, polarity)


@dataclass(frozen=True)
class HotPixels:
    """Pixels that fire at random times whatever they see; up to `share` of all, each of one polarity."""

    share: float
    rate_hz: float

    def __call__(self, stretch: Stretch, draws: RandomDraws) -> Stretch:
        """See the class."""
        pixels = stretch.events.width * stretch.events.height
        count = int(draws.uniform(0.0, self.share) * pixels)
        hot = (draws.fractions(count) * pixels).astype(np.int64)
        is_on = draws.fractions(count) < 0.5
        times = _arrivals(stretch, self.rate_hz * count, draws)
        chosen = (draws.fractions(len(times)) * count).astype(np.int64)
        return _with_events(stretch, times, hot[chosen], is_on[chosen])


@dataclass(frozen=True)
class InvertPolarity:
    """With a probability, ON and OFF change places in the whole stretch."""

    probability: float

    def __call__(self, stretch: Stretch, draws: RandomDraws) -> Stretch:
        """See the class."""
        if draws.fraction() >= self.probability:
            return stretch
        return replace(stretch, events=replace(stretch.events, p=np.uint8(1) - stretch.events.p))


_AUGMENTATIONS: dict[str, Callable[[EventAugmentationConfig], StretchAugmentation]] = {
    "pause": lambda config: Pauses(config.pause, config.stay_paused),
    "drop": lambda config: DropEvents(config.drop),
    "noise_rate_hz": lambda config: NoiseEvents(config.noise_rate_hz),
    "hot_pixels": lambda config: HotPixels(config.hot_pixels, config.hot_pixel_rate_hz),
    "invert_polarity": lambda config: InvertPolarity(config.invert_polarity),
}


def _arrivals(stretch: Stretch, rate_hz: float, draws: RandomDraws) -> NDArray[np.int64]:
    """int64 microseconds of a Poisson process over the span of a stretch, in order."""
    begin, end = stretch.span_us
    expected = rate_hz * (end - begin) / 1e6
    if expected <= 0:
        return np.empty(0, np.int64)
    gaps = np.empty(0)
    while gaps.sum() <= expected:
        missing = expected - gaps.sum()
        gaps = np.concatenate([gaps, -np.log(draws.fractions(int(missing + 4 * missing**0.5) + 8))])
    passed = np.cumsum(gaps)
    times = np.ceil(begin + passed[passed <= expected] * 1e6 / rate_hz)
    return np.clip(times, np.ceil(begin), np.floor(end)).astype(np.int64)


def _with_events(
    stretch: Stretch, times: NDArray[np.int64], pixels: NDArray[np.int64], polarity: NDArray[np.bool_]
) -> Stretch:
    """The stretch with further events in order of time, after those of the same time.

    pixels: y * width + x. At the border of a window an added event counts as one at its end, not its begin.
    """
    events = stretch.events
    places = np.searchsorted(events.t, times, "right")

    def merged(column: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
        return np.insert(column, places, values.astype(column.dtype))

    label = events.label
    more = Events(
        merged(events.t, times),
        merged(events.x, pixels % events.width),
        merged(events.y, pixels // events.width),
        merged(events.p, polarity),
        events.width,
        events.height,
        events.t_origin,
        None if label is None else merged(label, np.full(len(times), SHOT_NOISE)),
        events.color_pattern,
    )
    first, last = (np.searchsorted(places, stretch.rows, side) for side in ("left", "right"))
    before = np.clip(np.searchsorted(times, stretch.edges_us, "right"), first, last)
    return replace(stretch, events=more, rows=stretch.rows + before)
