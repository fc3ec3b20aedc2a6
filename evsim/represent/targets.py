"""Voxel grids on both sides of a target instant, as TimeLens and the networks built on it take them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from evsim.errors import InputError
from evsim.events import Events
from evsim.represent.arrays import is_tensor, output, positions, take
from evsim.represent.voxels import fill_windows


class TargetVoxels(NamedTuple):
    """Voxel grids float32 (S, bins, H, W) for S target instants."""

    before: Any
    """Events before the target."""
    reversed_before: Any
    """The same with time and polarity reversed: as if the scene ran from the target back to the start."""
    after: Any
    """Events at and after the target."""


def target_voxels(
    events: Events,
    targets_us: ArrayLike,
    bins: int = 5,
    *,
    rule: str = "timelens",
    window: tuple[float, float] | None = None,
    threads: int = 1,
    backend: str | None = None,
) -> TargetVoxels:
    """Voxel grids of the events before and after each target instant, all in one call.

    An event at the target belongs to `after`. With rule "timelens" (Sim2Real) the window runs from the first
    to the last event, with "rpg" (rpg_timelens) from frame to frame: give those times as `window`. The bins
    of `before` span (window start, target), those of `after` (target, window end). targets_us: (S,), may be
    fractions. A side without events gives zeros. Raises InputError for targets outside the window and as
    `voxel_grid` does.
    """
    targets = np.atleast_1d(np.asarray(targets_us, np.float64))
    if window is None:
        window = tuple(take(events.t, np.array([0, -1])).tolist()) if len(events.t) else (0.0, 0.0)
    if len(events.t) and targets.size and not (window[0] <= targets.min() and targets.max() <= window[1]):
        raise InputError(f"targets {targets.tolist()!r:.60} outside the window {window[0]}..{window[1]} us")
    count, last = len(targets), len(events.t)
    splits = positions(events.t, targets)
    ranges = np.concatenate([np.stack([0 * splits, splits], 1), np.stack([splits, 0 * splits + last], 1)])
    ends = np.concatenate(
        [np.stack([0 * targets + window[0], targets], 1), np.stack([targets, 0 * targets + window[1]], 1)]
    )
    shape = (2 * count, bins, events.height, events.width)
    grids = output(None, shape, np.float32, events.t)
    fill_windows(events, bins, rule, ranges, ends, grids, threads=threads, backend=backend)
    before = grids[:count]
    return TargetVoxels(before, reverse_time(before), grids[count:])


def reverse_time(voxel: Any) -> Any:
    """The signed voxel grid (.., bins, H, W) of the events running backwards: bins flipped, signs changed."""
    return -voxel.flip(-3) if is_tensor(voxel) else -voxel[..., ::-1, :, :]


def frames_to_voxel(frames: Any, bins: int) -> Any:
    """float32 (bins, H, W) from polarity frames (T, H, W), one per interval (Sim2Real on simulated data).

    Frame k of T > bins lies at the start of its interval, tau = k (bins - 1) / T, and is shared linearly
    between bins floor(tau) and floor(tau) + 1; T <= bins frames are copied to the first T bins.
    numpy gives an array, torch a tensor. Raises InputError unless frames are (T, H, W) and bins positive.
    """
    if frames.ndim != 3 or bins < 1:
        raise InputError(f"frames of shape {tuple(frames.shape)} and {bins} bins, expected (T, H, W)")
    count = len(frames)
    voxel = output(None, (bins, *frames.shape[1:]), np.float32, frames)
    voxel[...] = 0
    for k in range(count):
        tau = k if count <= bins else k * (bins - 1) / count
        low = int(tau)
        share = tau - low
        voxel[low] += frames[k] * (1 - share)
        if share and low + 1 < bins:
            voxel[low + 1] += frames[k] * share
    return voxel
