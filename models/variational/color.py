"""Colour from the events of a sensor under a Bayer mosaic (RGGB, red at pixel (0, 0))."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.models.log_video.planes import enlarge_plane
from evsim.models.variational.solver import Weights
from evsim.models.variational.windows import SolvedWindow
from evsim.represent.levels import Thresholds

PLANES = ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2))
"""Row and column of a plane in its cell of 2x2 pixels, and its channel of R, G, B."""
COARSE = 7
"""Pixels, each way, whose mean brightness the planes know better than the mosaic as a whole."""
PERIOD_TWO = np.array([1, 2, 1], np.float32) / 4
"""A filter along one axis that removes what alternates from pixel to pixel, as a mosaic does."""


class SolvedColorWindow:
    """One window in colour: each plane of the mosaic by itself at half resolution, detail from all pixels.

    The grey solution of the whole mosaic has the detail that half resolution lacks, and the mosaic. What it
    has more than the enlarged planes, less all that has the mosaic's period and all that is coarse, is detail
    in any colour, and is added to all three channels.
    """

    def __init__(
        self,
        events: Events,
        times_us: NDArray[np.float64],
        thresholds: Thresholds,
        weights: Weights,
        iterations: int,
    ) -> None:
        if events.width % 2 or events.height % 2:
            raise InputError(f"a colour mosaic of {events.width}x{events.height} pixels, expected even sides")
        self.times_us = times_us
        parts = [events, *(_plane(events, row, column) for row, column, _ in PLANES)]
        self._windows = [SolvedWindow(part, times_us, thresholds, weights, iterations) for part in parts]
        self.explained = sum(window.explained for window in self._windows)
        self.power = sum(window.power for window in self._windows)

    @property
    def gain(self) -> float:
        """Factor on log intensity."""
        return self._windows[0].gain

    @gain.setter
    def gain(self, value: float) -> None:
        for window in self._windows:
            window.gain = value

    def at(self, times_us: ArrayLike) -> NDArray[np.float32]:
        """float32 (T, H, W, 3) log intensity of red, green and blue."""
        grey, *planes = (window.at(times_us) for window in self._windows)
        channels = np.zeros((*grey.shape, 3), np.float32)
        for (row, column, channel), plane in zip(PLANES, planes, strict=True):
            channels[..., channel] += enlarge_plane(plane, row, column) / (2 if channel == 1 else 1)
        brightness = (channels[..., 0] + 2 * channels[..., 1] + channels[..., 2]) / 4
        detail = np.stack([_detail(frame) for frame in grey - brightness])
        return channels + (detail - detail.mean((1, 2), keepdims=True))[..., None]


def _detail(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 (H, W): what is finer than `COARSE` and does not alternate from pixel to pixel."""
    smooth = cv2.sepFilter2D(frame, -1, PERIOD_TWO, PERIOD_TWO, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(smooth - cv2.blur(smooth, (COARSE, COARSE), borderType=cv2.BORDER_REFLECT), np.float32)


def _plane(events: Events, row: int, column: int) -> Events:
    mine = (events.y % 2 == row) & (events.x % 2 == column)
    x, y = events.x[mine] // 2, events.y[mine] // 2
    return Events(events.t[mine], x, y, events.p[mine], events.width // 2, events.height // 2)
