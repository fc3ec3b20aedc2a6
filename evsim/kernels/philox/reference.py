"""Philox4x32-10 in numpy, as the publication writes it: the definition."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
LOW = np.uint64(0xFFFFFFFF)


def philox4x32(counter: ArrayLike, key: ArrayLike) -> NDArray[np.uint32]:
    """uint32[4, ...] from counter uint32[4, ...] and key uint32[2, ...], broadcast."""
    c0, c1, c2, c3 = np.asarray(counter, np.uint64)
    k0, k1 = np.asarray(key, np.uint64)
    for _ in range(ROUNDS):
        first, second = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (second >> np.uint64(32)) ^ c1 ^ k0,
            second & LOW,
            (first >> np.uint64(32)) ^ c3 ^ k1,
            first & LOW,
        )
        k0 = (k0 + np.uint64(KEY_STEPS[0])) & LOW
        k1 = (k1 + np.uint64(KEY_STEPS[1])) & LOW
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3)).astype(np.uint32)


def fill_words(
    key_low: np.uint32, key_high: np.uint32, frame: np.uint32, purpose: np.uint32, out: NDArray[np.uint32]
) -> None:
    """Fill `out` (H, W) with the words of one frame and purpose."""
    height, width = out.shape
    quarter = -(-width // 4)
    block, row = np.broadcast_arrays(np.arange(quarter)[None], np.arange(height)[:, None])
    frames, purposes = np.full_like(block, frame), np.full_like(block, purpose)
    words = philox4x32(np.stack([block, row, frames, purposes]), (key_low, key_high))
    out[:] = words.transpose(1, 0, 2).reshape(height, 4 * quarter)[:, :width]
