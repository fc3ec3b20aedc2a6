"""What the upsample stage asks of whatever makes frames in between, and the plainest one: blending."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


class PreparedPair(Protocol):
    """Two frames, ready to be asked for any pictures in between."""

    def pictures(self, fractions: Sequence[float]) -> Iterable[NDArray[np.float32]]:
        """The pictures at these fractions (0 to 1) of the way, (H, W) or (H, W, 3) in the frames' units.

        All that are wanted of a pair are asked for at once: a network may make them in one pass, or one by
        one where they are large, so they are taken in order and none is asked for twice.
        """
        ...


class Interpolator(Protocol):
    """Makes pictures between two frames; works once per pair, then once per picture.

    Used in one process only: whoever works in several makes one in each.
    """

    @property
    def files(self) -> Mapping[str, str]:
        """SHA-256 of every file it has loaded by name, such as network and flow estimator; may be empty."""
        ...

    def prepare(self, frame0: NDArray[Any], frame1: NDArray[Any]) -> PreparedPair:
        """A pair of images of one shape and type (uint8, uint16 or float32), ready for `pictures`."""
        ...


@runtime_checkable
class MovingPair(Protocol):
    """A prepared pair that also knows its motion, as the adaptive number of steps needs."""

    def displacement_px(self) -> float:
        """Robust largest motion between the two frames in pixels; 0 where nothing moves."""
        ...


class BlendedPair:
    """The linear blend of two frames, as float32 in their own units; equal pixels stay exactly equal."""

    def __init__(self, frame0: NDArray[Any], frame1: NDArray[Any]) -> None:
        self._image0 = frame0.astype(np.float32)
        self._difference = frame1.astype(np.float32) - self._image0

    def pictures(self, fractions: Sequence[float]) -> Iterator[NDArray[np.float32]]:
        """frame0 + fraction * (frame1 - frame0) of each fraction, one at a time."""
        return (self._image0 + np.float32(fraction) * self._difference for fraction in fractions)

    def displacement_px(self) -> float:
        """0: a blend moves nothing."""
        return 0.0
