"""The checks that representations need before they write to pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from evsim.errors import InputError
from evsim.events import Events


def require_pixels(events: Events) -> Events:
    """`events` if all coordinates are whole pixels of the sensor. Raises InputError otherwise."""
    require_whole(events)
    for name, column, side in (("x", events.x, events.width), ("y", events.y, events.height)):
        if len(column) and (column.max() >= side or column.min() < 0):
            outside = int(np.count_nonzero((column >= side) | (column < 0)))
            raise InputError(
                f"{outside} of {len(events)} events lie outside the sensor of "
                f"{events.width}x{events.height}: {name} spans {column.min()}..{column.max()}"
            )
    return events


def has_subpixels(events: Events) -> bool:
    """True for float coordinates, of numpy or torch."""
    x: Any = events.x
    return x.dtype.kind == "f" if isinstance(x, np.ndarray) else x.is_floating_point()


def require_whole(events: Events) -> None:
    """Raises InputError for sub-pixel coordinates."""
    if has_subpixels(events):
        raise InputError("the events have sub-pixel coordinates; round them to whole pixels first")


def flat_index(events: Events) -> np.ndarray:
    """int64[N] position of each event's pixel in a flattened (H, W) image."""
    return events.y.astype(np.int64) * events.width + events.x
