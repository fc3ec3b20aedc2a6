"""Work that threads take in counters: each piece once, all of it, also when threads start late or never."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from evsim.kernels.compiled import LOOP
from evsim.kernels.threads.bands import RowBands
from evsim.kernels.threads.counters import make_counters, take, take_piece, wait_until


@njit(**{**LOOP, "cache": False})
def fill_and_sum(
    pieces: int,
    done: NDArray[np.int64],
    sums: NDArray[np.int64],
    counters: NDArray[np.int64],
    threads: int,
    thread: int,
) -> None:
    """Mark every piece, then, when all are marked, add the marks up once for every piece."""
    piece = take_piece(counters, 1, thread, threads, pieces)
    while piece >= 0:
        done[piece] += 1
        take(counters, 0)
        piece = take_piece(counters, 1, thread, threads, pieces)
    wait_until(counters, 0, pieces)
    piece = take_piece(counters, 1 + threads, thread, threads, pieces)
    while piece >= 0:
        sums[piece] = done.sum()
        piece = take_piece(counters, 1 + threads, thread, threads, pieces)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("pieces", [1, 4, 37])
def test_every_piece_is_done_once_and_before_the_next_stage(threads: int, pieces: int) -> None:
    bands, counters = RowBands(threads), make_counters(1 + 2 * threads)
    for _ in range(100):
        counters[:] = 0
        done, sums = np.zeros(pieces, np.int64), np.zeros(pieces, np.int64)
        bands.share(fill_and_sum, pieces, done, sums, counters, threads)
        np.testing.assert_array_equal(done, 1)
        np.testing.assert_array_equal(sums, pieces)


def test_a_thread_takes_its_own_share_first() -> None:
    counters, pieces = make_counters(3), []
    for _ in range(10):
        pieces.append(take_one(counters, 1, 3, 8))
    assert pieces == [2, 3, 4, 5, 6, 7, 0, 1, -1, -1]


@njit(**{**LOOP, "cache": False})
def take_one(counters: NDArray[np.int64], thread: int, threads: int, pieces: int) -> int:
    return take_piece(counters, 0, thread, threads, pieces)


def test_an_error_of_any_thread_is_raised() -> None:
    begun = threading.Event()

    def fail(thread: int) -> None:
        if thread:
            begun.set()
            raise ValueError("no such piece")
        assert begun.wait(60)  # a thread that has not begun when the caller is done is not waited for

    with pytest.raises(ValueError, match="no such piece"):
        RowBands(2).share(fail)
