"""Events to colours: one picture of a window of events, alone or over an image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.media.transfer import full_scale
from evsim.registry import nearest

Colour = tuple[int, int, int]


class Style(NamedTuple):
    """RGB colours, 0 to 255, of pixels where ON or OFF events prevail, and of all others."""

    on: Colour
    off: Colour
    background: Colour


STYLES = {
    "red-blue": Style((214, 40, 40), (29, 78, 216), (255, 255, 255)),
    "dark": Style((255, 99, 88), (96, 165, 250), (17, 19, 24)),
    "grey": Style((255, 255, 255), (0, 0, 0), (128, 128, 128)),
}
"""Named styles; red and blue, light and dark stay distinguishable in every form of colour blindness."""


def render_events(
    events: Events, style: str = "red-blue", *, background: Colour | None = None, full_at: int = 1
) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) RGB picture of which polarity prevails at each pixel.

    style: a name in `STYLES`. background: replaces the style's. full_at: so many more events of one polarity
    than of the other give the full colour, fewer a blend; pixels with as many of both look like background.
    Sub-pixel positions count for the pixel they lie in.
    Raises InputError for an unknown style and for events outside the sensor.
    """
    chosen = find_style(style)
    if full_at < 1:
        raise InputError(f"full_at = {full_at}, expected at least 1")
    net = np.clip(net_polarity(events), -full_at, full_at)
    shades = _shades(chosen, background or chosen.background, full_at)
    return shades[net + full_at]


def overlay(
    image: NDArray[Any], events: Events, *, style: str = "red-blue", opacity: float = 1.0
) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) RGB: the image, with the colour of prevailing events at the pixels that have them.

    image: (H, W) grey or (H, W, 3) RGB of what the sensor sees, uint8, uint16 or floats of full scale 1.0.
    Where it has another size, the smaller of image and events is enlarged: a pixel becomes all those that it
    covers. opacity: of the event colours, 0 to 1. Raises InputError for sides in another proportion.
    """
    size = _common_size(image, events)
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity = {opacity}, expected 0 to 1")
    picture = _enlarged(to_rgb(image), size)
    net = _enlarged(net_polarity(events), size)
    chosen = find_style(style)
    for mask, colour in ((net > 0, chosen.on), (net < 0, chosen.off)):
        blend = (1 - opacity) * picture[mask] + opacity * np.array(colour)
        picture[mask] = np.rint(blend).astype(np.uint8)
    return picture


def _common_size(image: NDArray[Any], events: Events) -> tuple[int, int]:
    """(H, W) in which neither image nor events lose a pixel."""
    height, width = image.shape[:2]
    # One pixel less may be the rounding of a side that was halved.
    if abs(height * events.width - width * events.height) > max(height, width, events.width, events.height):
        raise InputError(
            f"image of shape {image.shape} under events of {events.width}x{events.height} pixels, expected "
            "the same proportion; resize or crop the image first"
        )
    return max(height, events.height), max(width, events.width)


def _enlarged(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Pixels (h, w, ...) repeated to (H, W, ...), each over what it covers."""
    if pixels.shape[:2] == size:
        return pixels
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, pixels.shape))
    return pixels[rows[:, None], columns]


def net_polarity(events: Events) -> NDArray[np.int64]:
    """int64 (H, W): ON events minus OFF events of each pixel. InputError for events outside the sensor."""
    shape = (events.height, events.width)
    if not len(events):
        return np.zeros(shape, np.int64)
    x, y = _pixel(events.x), _pixel(events.y)
    if min(x.min(), y.min()) < 0 or x.max() >= events.width or y.max() >= events.height:
        raise InputError(
            f"events reach x {x.min()}..{x.max()}, y {y.min()}..{y.max()} "
            f"on a sensor of {events.width}x{events.height} pixels; give the right size or crop"
        )
    pixel, pixels = y * events.width + x, events.width * events.height
    on = events.p > 0
    net = np.bincount(pixel[on], minlength=pixels) - np.bincount(pixel[~on], minlength=pixels)
    return net.reshape(shape)


def _pixel(position: NDArray[Any]) -> NDArray[np.int64]:
    # Rounding towards zero would take what lies just outside the left or top border into the sensor.
    return (np.floor(position) if position.dtype.kind == "f" else position).astype(np.int64)


def find_style(name: str) -> Style:
    """The style of that name; InputError with the nearest name for an unknown one."""
    if name not in STYLES:
        raise InputError(f"unknown style {name!r}{nearest(name, list(STYLES))}; known: {', '.join(STYLES)}")
    return STYLES[name]


def to_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) copy of a grey or RGB image of any type, full scale kept."""
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise InputError(f"image of shape {image.shape}, expected (H, W) or (H, W, 3)")
    if image.dtype != np.uint8:
        scaled = np.clip(image / np.float64(full_scale(image.dtype)), 0.0, 1.0) * 255.0
        image = np.rint(scaled).astype(np.uint8)
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image.copy()


def _shades(style: Style, background: Colour, full_at: int) -> NDArray[np.uint8]:
    """Colours for net polarity -full_at .. full_at, uint8 (2 full_at + 1, 3)."""
    strength = np.abs(np.arange(-full_at, full_at + 1))[:, None] / full_at
    colours = np.where(np.arange(-full_at, full_at + 1)[:, None] > 0, style.on, style.off)
    return np.rint(strength * colours + (1 - strength) * np.array(background)).astype(np.uint8)
