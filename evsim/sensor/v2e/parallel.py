"""The linear pass on several threads, block by block; imported only when more than one is asked for.

numba's own threads are started by the first call here and never in a process that uses one thread, which
therefore may be forked at will.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba import njit, prange

from evsim.sensor.sorting import Bins, Columns, scatter, unpack
from evsim.sensor.v2e.linear import run_block
from evsim.sensor.v2e.records import Fields, Light, Pass, Planes, Scratch

def on_threads(threads: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """`run_blocks` and `write_all` on that many of numba's threads (at most as many as it has)."""
    _prefer_openmp()
    threads = min(threads, numba.config.NUMBA_NUM_THREADS)

    def limited(function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            before = numba.get_num_threads()
            numba.set_num_threads(threads)
            try:
                function(*arguments)
            finally:
                numba.set_num_threads(before)

        return call

    return limited(run_blocks), limited(write_all)


def _prefer_openmp() -> None:
    """Choose numba's OpenMP threads unless the user chose: its waiting threads wake for phases below 1 ms.

    Two threads give 1.8-2.1x with OpenMP; with the TBB layer, which numba prefers, 1.1-1.8x.
    """
    if numba.config.THREADING_LAYER == "default":
        try:
            from numba.np.ufunc import omppool  # noqa: F401
        except ImportError:
            return
        numba.config.THREADING_LAYER = "omp"


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def run_blocks(
    first: int,
    last: int,
    light: Light,
    planes: Planes,
    fields: Fields,
    now: Pass,
    scratch: Scratch,
    bins: Bins,
) -> None:
    """As `linear.run_blocks`."""
    for block in prange(first, last):
        run_block(block, light, planes, fields, now, scratch, bins)


@njit(nogil=True, cache=True, parallel=True, error_model="numpy")
def write_all(height: int, slots: int, origin: int, bins: Bins, columns: Columns) -> None:
    """As `linear.write_all`."""
    blocks = bins.keys.shape[0]
    for block in prange(blocks):
        scatter(block, block * height // blocks, (block + 1) * height // blocks, slots, bins)
    for part in prange(blocks):
        unpack(part * slots // blocks, (part + 1) * slots // blocks, origin, bins, columns)
