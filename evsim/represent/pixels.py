"""The one check that every representation needs before it writes to pixels."""

from __future__ import annotations

import numpy as np

from evsim.errors import InputError
from evsim.events import Events


def require_pixels(events: Events) -> Events:
    """`events` if all coordinates are whole pixels of the sensor. Raises InputError otherwise."""
    if events.x.dtype.kind == "f":
        raise InputError("the events have sub-pixel coordinates; round them to whole pixels first")
    for name, column, side in (("x", events.x, events.width), ("y", events.y, events.height)):
        if len(column) and column.max() >= side:
            outside = int(np.count_nonzero(column >= side))
            raise InputError(
                f"{outside} of {len(events)} events lie outside the sensor of "
                f"{events.width}x{events.height}: {name} reaches {column.max()}"
            )
    return events


def flat_index(events: Events) -> np.ndarray:
    """int64[N] position of each event's pixel in a flattened (H, W) image."""
    return events.y.astype(np.int64) * events.width + events.x
