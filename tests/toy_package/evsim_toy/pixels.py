"""A pixel model as another package would add it: an event at the end of an interval that changed enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evsim.sensor import RandomFields, SensorConfig
from evsim.sensor.listing import Listing, put
from evsim.sensor.per_pixel import PerPixelModel


@dataclass(frozen=True, kw_only=True)
class ToyConfig(SensorConfig):
    """A pixel that fires when its light has changed since the last frame."""

    model: Literal["toy"] = "toy"
    """Pixel model."""
    step_dn: float = 10.0
    """Change of light that makes an event."""

    def create_pixels(
        self, size: tuple[int, int], key: int, given: RandomFields, threads: int, recycle: bool
    ) -> ToyPixels:
        return ToyPixels(self, size, key, given, threads, recycle)


def list_changes(
    change: NDArray[np.float32], step: float, slots: int, listing: Listing, first: int, last: int
) -> None:
    height, blocks = len(change), listing.used.size
    for block in range(first, last):
        for y in range(block * height // blocks, (block + 1) * height // blocks):
            for x in np.flatnonzero(np.abs(change[y]) >= step):
                kind = 4 if change[y, x] > 0 else 0
                listing.used[block] = put(block, listing.used[block], slots - 1, y, int(x), kind, listing)


class ToyPixels(PerPixelModel):
    _config: ToyConfig

    def start(self, frame: NDArray[Any], t_ns: int, *, first: bool) -> None:
        self._read_dn(frame, self._planes["low_pass"])

    def log_intensity(self, frame: NDArray[Any]) -> NDArray[np.float32]:
        level = np.empty(frame.shape, np.float32)
        self._read_dn(frame, level)
        return level

    def _make_planes(self, pattern: RandomFields) -> dict[str, NDArray[Any]]:
        threshold = np.full((1, 1), self._config.step_dn, np.float32)
        level = np.zeros(self._size[::-1], np.float32)
        return {"low_pass": level, "base": level, "theta_on": threshold, "theta_off": threshold}

    def _advance(self, frame: NDArray[Any], t0_ns: int, t1_ns: int, index: int) -> None:
        level = self.log_intensity(frame)
        change = level - self._planes["low_pass"]
        self._list_events(list_changes, change, self._config.step_dn, t1_ns // 1000 - t0_ns // 1000)
        self._planes["low_pass"] = self._planes["base"] = level
