"""What the network is fitted to: changes of log intensity between time samples, from the events."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evsim.errors import InputError
from evsim.events import Events
from evsim.models.evinr.step import Targets
from evsim.represent import evinr_stack
from evsim.represent.levels import Thresholds, event_levels
from evsim.represent.pixels import require_whole

UNIT = Thresholds(1.0, 1.0)
GRID = 4
"""Points per time sample at which the share of events is looked up."""


def published_targets(
    events: Events,
    frames: int,
    window_us: tuple[float, float],
    *,
    event_threshold: float = 1.0,
    color: bool = False,
) -> Targets:
    """As in the published code: chunks of equal event count, each dated to its middle (Wang et al. 2024).

    The change from the middle of a chunk to that of the next is taken to be the sum of the whole first one;
    the last chunk is not used. Sensors higher than wide are transposed. Raises InputError for fewer events
    than frames.
    """
    stack = evinr_stack(
        events, frames, contrast_threshold=event_threshold, window=window_us, color=color, landscape=True
    )
    return Targets(torch.from_numpy(stack.stamps[:, 0]), torch.from_numpy(stack.frames[:-1]))


def aligned_targets(events: Events, frames: int, *, color: bool = False) -> Targets:
    """Changes between frames + 1 sample times from the first to the last event, in units of the threshold.

    Each change is that of the pixel's level between exactly these two times, its level being connected
    linearly from event to event. color: of the half-size planes of an RGGB mosaic. Raises InputError for
    events without duration, sub-pixel coordinates, and odd sides of a colour sensor.
    """
    require_whole(events)
    if not len(events) or events.t[-1] == events.t[0]:
        raise InputError(f"{len(events)} events of no duration, expected events at two times or more")
    times = sample_times(events.t, frames)
    levels = event_levels(events, times, UNIT)
    planes = half_planes(levels) if color else levels[..., None]
    first, last = times[0], times[-1]
    own = 2 * (times - first) / (last - first) - 1
    return Targets(torch.from_numpy(own.astype(np.float32)), torch.from_numpy(np.diff(planes, axis=0)))


def sample_times(t: NDArray[np.int64], frames: int) -> NDArray[np.float64]:
    """float64 (frames + 1,): increasing times that cut both events and duration into about equal parts.

    Parts of equal event count alone would leave quiet periods without a sample: each part has an equal share
    of the mean of both, so that none lasts longer than twice the equal duration.
    """
    grid = np.linspace(t[0], t[-1], GRID * frames + 1)
    share = np.searchsorted(t, grid, side="right") / len(t)
    share[0] = 0.0
    mixed = (share + np.linspace(0, 1, len(grid))) / 2
    times: NDArray[np.float64] = np.interp(np.linspace(0, 1, frames + 1), mixed, grid)
    return times


def half_planes(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, H / 2, W / 2, 3) red, mean of the greens and blue of an RGGB mosaic (T, H, W)."""
    if planes.shape[1] % 2 or planes.shape[2] % 2:
        raise InputError(
            f"a colour mosaic of {planes.shape[2]}x{planes.shape[1]} pixels, expected even sides"
        )
    green = (planes[:, 1::2, 0::2] + planes[:, 0::2, 1::2]) / 2
    return np.stack([planes[:, 0::2, 0::2], green, planes[:, 1::2, 1::2]], -1)


def levels_of(targets: Targets) -> Tensor:
    """float32 (F, H, W, C): the changes summed up, 0 in the first frame."""
    first = torch.zeros_like(targets.changes[:1])
    return torch.cat([first, targets.changes.cumsum(0)])
