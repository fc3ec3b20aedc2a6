"""Brightness from events alone: each event moves its pixel by a contrast threshold, and the sum may leak."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.represent.arrays import numpy_events, same_kind
from evsim.represent.frames import increasing_times
from evsim.represent.pixels import flat_index, require_pixels


def integrate(
    events: Events,
    times_us: ArrayLike,
    *,
    contrast_threshold_on: float,
    contrast_threshold_off: float,
    time_constant_us: float | None = None,
    initial: NDArray[np.floating] | None = None,
) -> Any:
    """float32 (T, H, W) log intensity at the given times, relative to the start.

    Every ON event adds `contrast_threshold_on` to its pixel and every OFF event subtracts
    `contrast_threshold_off`; with `time_constant_us` the value decays to 0 by exp(-dt / time constant), which
    keeps noise from piling up (leaky integrator; Scheerlinck et al. 2018 call it a high-pass filter).
    torch columns give a tensor on their device (computed on the CPU).
    times_us: increasing microseconds; events with t <= times_us[i] are in frame i. initial: (H, W) log
    intensity at the first event, or at times_us[0] if that is earlier. Raises InputError for events outside
    the sensor, times out of order, a shape or a time constant that does not fit.
    """
    times = increasing_times(times_us, at_least=1).astype(np.float64)
    like, events = events.t, require_pixels(numpy_events(events))
    if time_constant_us is not None and not time_constant_us > 0:
        raise InputError(f"time constant of {time_constant_us} us, expected a positive one or none")
    shape = (events.height, events.width)
    level = np.zeros(shape[0] * shape[1])
    if initial is not None:
        if initial.shape != shape:
            raise InputError(f"initial image has shape {initial.shape}, expected {shape}")
        level[:] = initial.reshape(-1)
    pixel = flat_index(events)
    steps = np.where(events.p > 0, contrast_threshold_on, -contrast_threshold_off)
    borders = np.searchsorted(events.t, times, "right")
    frames = np.empty((len(times), level.size), np.float32)
    start, before = 0, min(float(events.t[0]), times[0]) if len(events) else times[0]
    for frame, stop, time in zip(frames, borders, times):
        weights = steps[start:stop]
        if time_constant_us is not None:
            level *= np.exp((before - time) / time_constant_us)
            weights = weights * np.exp((events.t[start:stop] - time) / time_constant_us)
        level += np.bincount(pixel[start:stop], weights, level.size)
        frame[:] = level
        start, before = stop, time
    return same_kind(frames.reshape(-1, *shape), like)


def to_display(
    log_frames: NDArray[np.floating], *, low: float = 1.0, high: float = 99.0
) -> NDArray[np.uint8]:
    """uint8 frames for the eye: the values between two percentiles of the whole sequence, spread over 0..255.

    One mapping for all frames, so that nothing flickers; constant input gives mid grey. The mapping stays
    in the logarithm, close to how displays encode light. Raises InputError unless 0 <= low < high <= 100.
    """
    if not 0 <= low < high <= 100:
        raise InputError(f"percentiles {low} and {high}, expected 0 <= low < high <= 100")
    if not log_frames.size:
        return np.zeros(log_frames.shape, np.uint8)
    darkest, brightest = np.percentile(log_frames, [low, high])
    if brightest <= darkest:
        darkest, brightest = float(log_frames.min()), float(log_frames.max())
    if brightest <= darkest:
        return np.full(log_frames.shape, 128, np.uint8)
    scaled = (log_frames - darkest) * (255.0 / (brightest - darkest))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
