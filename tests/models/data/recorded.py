"""Small recordings for tests: a pattern that moves, and events that are drawn, not simulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evsim.events import Events
from evsim.formats import NativeWriter


def drawn_events(
    seed: int, count: int = 3000, size: tuple[int, int] = (20, 16), end_us: int = 90_000
) -> Events:
    """Events at drawn times and pixels."""
    rs = np.random.RandomState(seed)
    width, height = size
    return Events(
        np.sort(rs.randint(0, end_us, count)).astype(np.int64),
        rs.randint(0, width, count).astype(np.uint16),
        rs.randint(0, height, count).astype(np.uint16),
        rs.randint(0, 2, count).astype(np.uint8),
        width,
        height,
    )


def write_recording(path: Path, seed: int, *, images: int = 10, size: tuple[int, int] = (20, 16)) -> Path:
    """A native file with an image every 10 ms; the value of a pixel is a function of place and image."""
    with NativeWriter(path, *size) as writer:
        writer.append(drawn_events(seed, size=size))
        y, x = np.mgrid[: size[1], : size[0]]
        for k in range(images):
            writer.append_image(((8 * x + 5 * y + 13 * k + 7 * seed) % 256).astype(np.uint8), 10_000.0 * k)
    return path
