"""Long recordings: time samples, windows of them that overlap, and how windows are joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.events import Events
from evsim.formats import Recording
from evsim.models.variational.config import VariationalConfig
from evsim.models.variational.solver import Weights, solve
from evsim.represent.levels import EventLevels, Thresholds

EVENTS_PER_SAMPLE = 0.22
"""Events a pixel between two time samples; `smoothness` is given for it, so that slow motion played fast
gives the same images."""
REFERENCE_THRESHOLD = 0.25
LARGEST_BLOCK = 24_000_000
"""Pixels times samples that are solved at once: some 40 bytes each. Shorter windows see less of the scene."""
LEAST_SAMPLES = 8
MARGIN_SAMPLES = 4
"""Samples beyond a window whose events count, so that levels do not end in the middle of a rise."""


@dataclass(frozen=True)
class Samples:
    """Equally spaced time samples, and the windows (first, one past the last) that are solved together."""

    times_us: NDArray[np.float64]
    windows: list[tuple[int, int]]

    @property
    def interval_us(self) -> float:
        """Between two samples."""
        return float(self.times_us[1] - self.times_us[0])


def plan_samples(
    first_us: int, last_us: int, events: int, size: tuple[int, int], config: VariationalConfig
) -> Samples:
    """Samples from the first to the last event; size is (width, height)."""
    pixels = size[0] * size[1]
    wanted = config.train_resolution or round(events / pixels / EVENTS_PER_SAMPLE) + 1
    # Times are whole microseconds: no two samples fall onto one.
    count = max(2, min(wanted, int(last_us - first_us) + 1))
    times = np.linspace(first_us, max(last_us, first_us + 1), count)
    length = min(config.window_samples, max(LEAST_SAMPLES, LARGEST_BLOCK // pixels))
    hop = length - length // 4
    starts = list(range(0, max(1, count - length // 4), hop))
    windows = [(start, min(start + length, count)) for start in starts]
    if len(windows) > 1 and windows[-1][1] - windows[-1][0] < length // 2:
        windows[-2:] = [(windows[-2][0], count)]
    return Samples(times, windows)


def window_events(recording: Recording, samples: Samples) -> Iterator[Events]:
    """The events of each window and of a margin around it; the recording is read once, from start to end."""
    blocks = recording.chunks()
    kept = recording.empty()
    ended = False
    margin = MARGIN_SAMPLES * samples.interval_us
    for start, stop in samples.windows:
        low = int(samples.times_us[start] - margin)
        high = int(np.ceil(samples.times_us[stop - 1] + margin)) + 1
        parts = [kept.between(low, 2**62)]
        while not ended and (not len(parts[-1]) or parts[-1].t[-1] < high):
            block = next(blocks, None)
            ended = block is None
            if block is not None:
                parts.append(block)
        kept = Events.concatenate(parts)
        yield kept.between(low, high)


class SolvedWindow:
    """The log intensity of one window at any time in it, of mean 0 over the window."""

    def __init__(
        self,
        events: Events,
        times_us: NDArray[np.float64],
        thresholds: Thresholds,
        weights: Weights,
        iterations: int,
    ) -> None:
        # Solved for a threshold of 0.25: the weights are meant for it, and every other one scales the result.
        self._scale = (thresholds.on + thresholds.off) / 2 / REFERENCE_THRESHOLD
        scaled = Thresholds(thresholds.on / self._scale, thresholds.off / self._scale)
        self.times_us, self.gain = times_us, 1.0
        self._levels = EventLevels(events, scaled)
        levels = self._levels.at(times_us)
        video = solve(levels, weights, iterations)
        self._apart = video - levels
        video -= video.mean(0)
        levels -= levels.mean(0)
        self.explained, self.power = float(np.vdot(video, levels)), float(np.vdot(video, video))

    def at(self, times_us: ArrayLike) -> NDArray[np.float32]:
        """float32 (T, H, W) log intensity at increasing times; outside the window as at its ends."""
        return np.float32(self._scale * self.gain) * self._video(np.asarray(times_us, np.float64))

    def _video(self, times: NDArray[np.float64]) -> NDArray[np.float32]:
        # What events do not explain changes slowly: it is read between samples.
        position = np.interp(times, self.times_us, np.arange(len(self.times_us)))
        before = np.minimum(position.astype(np.int64), len(self.times_us) - 2)
        share = (position - before).astype(np.float32)[:, None, None]
        return self._levels.at(times) + (1 - share) * self._apart[before] + share * self._apart[before + 1]
