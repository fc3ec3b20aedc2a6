"""The contact sheet: a whole recording on one page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.view.rendering import Style, find_style, render_events, to_rgb
from evsim.view.stream import EventSource, Span, measure, windows

_EVENTS_PER_PIXEL = 0.15
_NARROW, _WIDE = 240, 480
_MARGIN, _LINE = 12, 26
_ROUNDS_UP = 0.9995  # from here on three digits read 1000, which is the next unit


class _Layout(NamedTuple):
    """Pixels: of one picture (width, height), how sensor pixels map to it, and how many stand beside it."""

    width: int
    height: int
    shrink: int
    enlarge: int
    columns: int


def contact_sheet(
    source: EventSource,
    *,
    panels: int = 8,
    window_us: int | None = None,
    style: str = "red-blue",
    columns: int | None = None,
) -> NDArray[np.uint8]:
    """uint8 RGB page with panels spread evenly over a recording, each captioned with its time and events.

    source: events or an opened recording; where it has images, the one before the end of the window stands
    to the left of the events. window_us: microseconds of events a panel shows; by default about as many as
    show a moving edge without smearing it. columns: of panels, by default a page a little wider than high.
    Small sensors are enlarged without smoothing; large ones are binned, so that no event disappears.
    A source without events gives one blank panel that says so. Raises InputError for values below 1.
    """
    for name, value in (("panels", panels), ("window_us", window_us), ("columns", columns)):
        if value is not None and value < 1:
            raise InputError(f"{name} = {value}, expected at least 1")
    colours = find_style(style)
    span = measure(source)
    with_images = not isinstance(source, Events) and source.image_count > 0
    if span is None:
        panels = 1
    layout = _lay_out(source.width, source.height, panels, columns, with_images)
    limits = _limits(source, span, panels, window_us)
    images = _images_before(source, [end for _, end in limits]) if with_images else iter(())
    cells = []
    for (start, end), events in zip(limits, windows(source, limits)):
        picture = _event_picture(events, style, layout)
        if with_images:
            picture = np.hstack([_fit(next(images), layout), _space(layout.height, 4, colours), picture])
        origin = span.first_us if span else 0
        cells.append(_captioned(picture, _caption(start - origin, end - origin, events, span), colours))
    return _page(cells, _heading(source, span, limits), layout.columns, colours)


def _limits(
    source: EventSource, span: Span | None, panels: int, window_us: int | None
) -> list[tuple[int, int]]:
    if span is None:
        return [(0, 1)]
    share = span.duration_us / panels
    if window_us is None:
        fitting = _EVENTS_PER_PIXEL * source.width * source.height * span.duration_us / span.events
        window_us = max(1, round(min(fitting, share)))
    middles = [span.first_us + (k + 0.5) * share for k in range(panels)]
    starts = [math.floor(middle - window_us / 2) for middle in middles]
    return [(start, start + window_us) for start in starts]


def _lay_out(width: int, height: int, panels: int, columns: int | None, with_images: bool) -> _Layout:
    shrink = max(1, math.ceil(width / _WIDE))
    enlarge = max(1, _NARROW // width)
    shown = (math.ceil(width / shrink) * enlarge, math.ceil(height / shrink) * enlarge)
    if columns is None:
        cell = (shown[0] * (2 if with_images else 1) + _MARGIN, shown[1] + _LINE + _MARGIN)
        columns = max(1, min(panels, round(math.sqrt(panels * 1.6 * cell[1] / cell[0]))))
    return _Layout(*shown, shrink, enlarge, columns)


def _event_picture(events: Events, style: str, layout: _Layout) -> NDArray[np.uint8]:
    shrink = layout.shrink
    if shrink > 1:
        events = replace(
            events,
            x=(events.x // shrink).astype(np.uint16),
            y=(events.y // shrink).astype(np.uint16),
            width=math.ceil(events.width / shrink),
            height=math.ceil(events.height / shrink),
        )
    picture = render_events(events, style, full_at=shrink)
    return picture.repeat(layout.enlarge, axis=0).repeat(layout.enlarge, axis=1)


def _images_before(source: EventSource, ends: list[int]) -> Iterator[NDArray[np.uint8]]:
    """For each time, the last image at or before it; the first image where there is none."""
    if isinstance(source, Events):
        return
    images = iter(source.images())
    shown = following = next(images)
    for end in ends:
        while following is not None and following.t_us <= end:
            shown, following = following, next(images, None)
        yield shown.image


def _fit(image: NDArray[np.uint8], layout: _Layout) -> NDArray[np.uint8]:
    smaller = image.shape[1] > layout.width
    method = cv2.INTER_AREA if smaller else cv2.INTER_NEAREST
    return np.asarray(
        cv2.resize(to_rgb(image), (layout.width, layout.height), interpolation=method), np.uint8
    )


def _caption(start: int, end: int, events: Events, span: Span | None) -> str:
    if span is None:
        return "no events"
    return f"{format_us((start + end) / 2)}   {format_count(len(events))} events"


def _heading(source: EventSource, span: Span | None, limits: list[tuple[int, int]]) -> str:
    size = f"{source.width}x{source.height}"
    if span is None:
        return f"{size}   no events"
    start, end = limits[0]
    return (
        f"{size}   {format_count(span.events)} events in {format_us(span.duration_us)}   "
        f"{100 * span.on / span.events:.0f}% ON   {format_us(end - start)} per panel"
    )


def _captioned(picture: NDArray[np.uint8], text: str, colours: Style) -> NDArray[np.uint8]:
    framed = cv2.copyMakeBorder(picture, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=_between(colours, 0.2))
    return np.vstack([np.asarray(framed, np.uint8), _text(framed.shape[1], text, colours)])


def _page(cells: list[NDArray[np.uint8]], heading: str, columns: int, colours: Style) -> NDArray[np.uint8]:
    height, width = cells[0].shape[:2]
    rows = math.ceil(len(cells) / columns)
    page_width = _MARGIN + columns * (width + _MARGIN)
    top = _LINE + _MARGIN
    page = _space(top + rows * (height + _MARGIN), page_width, colours)
    page[_MARGIN // 2 : _MARGIN // 2 + _LINE, _MARGIN:] = _text(page_width - _MARGIN, heading, colours)
    for k, cell in enumerate(cells):
        y, x = top + (k // columns) * (height + _MARGIN), _MARGIN + (k % columns) * (width + _MARGIN)
        page[y : y + height, x : x + width] = cell
    return page


def _text(width: int, text: str, colours: Style) -> NDArray[np.uint8]:
    strip = _space(_LINE, width, colours)
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, 1
    needed = cv2.getTextSize(text, font, 0.5, thickness)[0][0]
    scale = 0.5 * min(1.0, (width - 4) / max(1, needed))
    place = (2, _LINE - 9)
    cv2.putText(strip, text, place, font, scale, _between(colours, 0.8), thickness, cv2.LINE_AA)
    return strip


def _space(height: int, width: int, colours: Style) -> NDArray[np.uint8]:
    space = np.empty((height, width, 3), np.uint8)
    space[:] = colours.background
    return space


def _between(colours: Style, share: float) -> tuple[int, int, int]:
    """Ink that lies `share` of the way from the background to its opposite, black or white."""
    opposite = 0 if sum(colours.background) > 380 else 255
    red, green, blue = (round(part + share * (opposite - part)) for part in colours.background)
    return red, green, blue


def format_us(microseconds: float) -> str:
    """Microseconds in the unit that reads best: '12.3 ms'."""
    for limit, unit in ((1e6, "s"), (1e3, "ms")):
        if abs(microseconds) >= limit * _ROUNDS_UP:
            return f"{microseconds / limit:.3g} {unit}"
    return f"{microseconds:.3g} us"


def format_count(count: int) -> str:
    """A count with its thousands as k, M or G: '53.4k'."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit * _ROUNDS_UP:
            return f"{count / limit:.3g}{unit}"
    return str(count)
