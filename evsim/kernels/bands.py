"""Compiled functions over bands of rows, on plain threads.

numba's own layers either spin while they wait (OpenMP), which costs tens of milliseconds a call as soon as
other processes want the cores, or stop the process when two threads call at once (workqueue). A compiled
function that releases the interpreter lock needs neither: Python's threads hand it one band each.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba

SMALLEST_BAND = 32_768
"""Pixels for which waking a thread pays; smaller images are done in one piece."""


class RowBands:
    """Splits work over rows among threads; results must not depend on where the splits fall.

    threads: None for as many as numba would use (all cores, or NUMBA_NUM_THREADS). No thread is started
    before the first piece of work that is large enough, so a process that never gets there may fork.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
        self._pool: ThreadPoolExecutor | None = None

    def run(self, function: Callable[..., None], shape: tuple[int, int], *arguments: Any) -> None:
        """Call ``function(*arguments, top, end)`` for bands of rows that cover shape = (rows, columns).

        function: compiled with nogil; writes its result into one of its arguments.
        """
        rows, columns = shape
        self.split(function, rows, rows * columns // SMALLEST_BAND, *arguments)

    def split(self, function: Callable[..., None], count: int, parts: int, *arguments: Any) -> None:
        """Call ``function(*arguments, first, last)`` for ranges that cover 0..count - 1.

        parts: how many ranges pay, at most; there are never more than threads.
        """
        parts = max(1, min(self.threads, parts, count))
        if parts == 1:
            function(*arguments, 0, count)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads - 1, "evsim-rows")
        first, *rest = itertools.pairwise(count * part // parts for part in range(parts + 1))
        others = [self._pool.submit(function, *arguments, *band) for band in rest]
        function(*arguments, *first)
        for other in others:
            other.result()

    def share(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call ``function(*arguments)`` on all threads, which divide the work by `evsim.kernels.turns`.

        Whoever returns first has found nothing left to begin; a thread that has not started by then is not
        waited for.
        """
        if self.threads == 1:
            function(*arguments)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads - 1, "evsim-rows")
        others = [self._pool.submit(function, *arguments) for _ in range(self.threads - 1)]
        try:
            function(*arguments)
        finally:
            for other in others:
                if not other.cancel():
                    other.result()
