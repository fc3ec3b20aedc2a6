"""Compiled functions over bands of rows, on the threads of a `ThreadPool`: each is handed one band."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

from evsim.kernels.threads.limits import allowed_threads
from evsim.kernels.threads.pool import ThreadPool

SMALLEST_BAND = 32_768
"""Pixels for which waking a thread pays; smaller images are done in one piece."""


class RowBands:
    """Splits work over rows among threads; results must not depend on where the splits fall.

    threads: None for as many as `allowed_threads` says. No thread is started before the first piece of work
    that is large enough. A process may fork at any time.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or allowed_threads()
        self._pool = ThreadPool(self.threads)

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
        bands = itertools.pairwise(count * part // parts for part in range(parts + 1))
        self._pool.run([functools.partial(function, *arguments, *band) for band in bands])

    def share(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call ``function(*arguments, thread)`` on all threads, which take pieces by shared counters.

        thread: 0 for the caller, which returns when it has found nothing left to begin; a thread that has
        not started by then is not waited for.
        """
        self._pool.share([functools.partial(function, *arguments, k) for k in range(self.threads)])
