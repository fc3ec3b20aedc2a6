"""Philox4x32-10, the counter-based random generator: 128 bits that are a pure function of counter and key.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". There is no stream to advance, so any
thread, chunk or machine finds the same words. `random_words` lays them out over the columns of an image row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evsim.kernels.backend import chosen_backend, load_backend

BACKENDS = {"cpu": "evsim.kernels.philox.cpu", "reference": "evsim.kernels.philox.reference"}


def random_words(
    key: int, size: tuple[int, int], frame: int, purpose: int, *, backend: str | None = None
) -> NDArray[np.uint32]:
    """uint32 (H, W) of random bits, one word per pixel, for one frame and purpose.

    key: 64 bits. size: (width, height). Row y, column x: with Q = ceil(W / 4), i = x mod Q and j = x div Q,
    the pixel gets word j of the block with counter (i, y, frame, purpose).
    backend: "cpu" or "reference", else EVSIM_BACKEND, else cpu. Raises BackendError.
    """
    width, height = size
    words = np.empty((height, width), np.uint32)
    fill = load_backend("fill_words", BACKENDS, chosen_backend("fill_words", BACKENDS, backend, "cpu"))
    fill(np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32), np.uint32(frame), np.uint32(purpose), words)
    return words
