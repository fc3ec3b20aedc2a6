"""Small event streams for the tests of representations."""

from __future__ import annotations

import numpy as np

from evsim.events import Events


def stream(rows: list[tuple[int, int, int, int]], width: int = 4, height: int = 3) -> Events:
    """Events from rows t, x, y, p."""
    t, x, y, p = np.array(rows, np.int64).reshape(-1, 4).T
    return Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8), width, height)


def random_stream(n: int, seed: int = 0, span: int = 10_000) -> Events:
    rng = np.random.default_rng(seed)
    return Events(
        np.sort(rng.integers(0, span, n)) + 10**15,
        rng.integers(0, 20, n).astype(np.uint16),
        rng.integers(0, 10, n).astype(np.uint16),
        rng.integers(0, 2, n).astype(np.uint8),
        20,
        10,
    )
