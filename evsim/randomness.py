"""Seeded draws that depend on nothing but (seed, clip, purpose): not on threads, workers or order.

Only the raw 64-bit output of Philox4x64-10 is used, whose stream is fixed by its publication; the
distributions are computed here, so a library update cannot change what a seed means.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


def derive_key(seed: int, clip: str, purpose: str) -> int:
    """A 64-bit key that identifies (seed, clip, purpose).

    clip: POSIX path relative to the dataset root, empty for a single video.
    """
    text = f"{seed}\0{clip}\0{purpose}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class RandomDraws:
    """A sequence of scalar draws for one purpose of one clip."""

    def __init__(self, seed: int, clip: str, purpose: str) -> None:
        self._bits = np.random.Philox(key=derive_key(seed, clip, purpose))

    def seed(self) -> int:
        """A seed for draws of their own: uniform over 0..2^63 - 1."""
        return int(self._bits.random_raw()) >> 1

    def fraction(self) -> float:
        """Uniform in the open interval (0, 1), 52 bits."""
        return ((int(self._bits.random_raw()) >> 12) + 0.5) * 2.0**-52

    def fractions(self, count: int) -> NDArray[np.float64]:
        """float64 (count,): what so many calls of `fraction` would give."""
        raw = self._bits.random_raw(count)
        return ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52

    def uniform(self, low: float, high: float) -> float:
        """Uniform between low and high."""
        return low + (high - low) * self.fraction()

    def loguniform(self, low: float, high: float) -> float:
        """Uniform in the logarithm between low and high, both positive."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def normal(self, mean: float, deviation: float) -> float:
        """Normal with the given mean and standard deviation."""
        return mean + deviation * NormalDist().inv_cdf(self.fraction())

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, each equally likely."""
        return options[int(self.fraction() * len(options))]
