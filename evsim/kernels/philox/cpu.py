"""Philox4x32-10 compiled for the CPU: one block, a batch of blocks that vectorises, a whole image."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Word = np.uint32

# Every intermediate is cast back to 32 bits: numba widens uint32 arithmetic to 64 bits otherwise.


@numba.njit(nogil=True, cache=True, forceinline=True)
def philox4x32(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Word, Word, Word, Word]:
    """The four words of one counter (c0..c3) under the key (k0, k1), all uint32."""
    for _ in range(10):
        first = np.uint64(c0) * np.uint64(0xD2511F53)
        second = np.uint64(c2) * np.uint64(0xCD9E8D57)
        c0 = np.uint32(np.uint32(second >> np.uint64(32)) ^ c1 ^ k0)
        c1 = np.uint32(second)
        c2 = np.uint32(np.uint32(first >> np.uint64(32)) ^ c3 ^ k1)
        c3 = np.uint32(first)
        k0 = np.uint32(k0 + np.uint32(0x9E3779B9))
        k1 = np.uint32(k1 + np.uint32(0xBB67AE85))
    return c0, c1, c2, c3


@numba.njit(nogil=True, cache=True, forceinline=True)
def fill_blocks(
    k0: Word,
    k1: Word,
    first: Word,
    row: Word,
    frame: Word,
    purpose: Word,
    words0: NDArray[np.uint32],
    words1: NDArray[np.uint32],
    words2: NDArray[np.uint32],
    words3: NDArray[np.uint32],
) -> None:
    """Words of the blocks (first + i, row, frame, purpose): word j of block i goes to wordsj[i]."""
    for i in range(words0.size):
        a, b, c, d = philox4x32(np.uint32(first + np.uint32(i)), row, frame, purpose, k0, k1)
        words0[i] = a
        words1[i] = b
        words2[i] = c
        words3[i] = d


@numba.njit(nogil=True, cache=True, forceinline=True)
def fill_row(k0: Word, k1: Word, row: Word, frame: Word, purpose: Word, words: NDArray[np.uint32]) -> None:
    """One word per column of a row; `words` has a multiple of four entries, at least the width."""
    quarter = words.size // 4
    fill_blocks(
        k0,
        k1,
        np.uint32(0),
        row,
        frame,
        purpose,
        words[:quarter],
        words[quarter : 2 * quarter],
        words[2 * quarter : 3 * quarter],
        words[3 * quarter :],
    )


@numba.njit(nogil=True, cache=True)
def fill_words(k0: Word, k1: Word, frame: Word, purpose: Word, out: NDArray[np.uint32]) -> None:
    """Fill `out` (H, W) with the words of one frame and purpose."""
    width = out.shape[1]
    words = np.empty((width + 3) // 4 * 4, np.uint32)
    for y in range(out.shape[0]):
        fill_row(k0, k1, np.uint32(y), frame, purpose, words)
        out[y, :] = words[:width]
