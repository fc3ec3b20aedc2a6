"""Work that threads take in turns: each piece once, all of it, also when threads start late or never."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from evsim.kernels.bands import RowBands
from evsim.kernels.compiled import LOOP
from evsim.kernels.turns import make_turns, take, wait_until


@njit(**{**LOOP, "cache": False})
def fill_and_sum(
    pieces: int, done: NDArray[np.int64], sums: NDArray[np.int64], turns: NDArray[np.int64]
) -> None:
    """Mark every piece, then, when all are marked, add the marks up once for every piece."""
    piece = take(turns, 0)
    while piece < pieces:
        done[piece] += 1
        take(turns, 1)
        piece = take(turns, 0)
    wait_until(turns, 1, pieces)
    piece = take(turns, 2)
    while piece < pieces:
        sums[piece] = done.sum()
        piece = take(turns, 2)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_piece_is_done_once_and_before_the_next_stage(threads: int) -> None:
    bands, turns = RowBands(threads), make_turns(3)
    for _ in range(200):
        turns[:] = 0
        done, sums = np.zeros(37, np.int64), np.zeros(37, np.int64)
        bands.share(fill_and_sum, 37, done, sums, turns)
        np.testing.assert_array_equal(done, 1)
        np.testing.assert_array_equal(sums, 37)


def test_an_error_of_any_thread_is_raised() -> None:
    def fail() -> None:
        time.sleep(0.05)  # long enough for the other thread to start
        raise ValueError("no such piece")

    with pytest.raises(ValueError, match="no such piece"):
        RowBands(2).share(fail)
