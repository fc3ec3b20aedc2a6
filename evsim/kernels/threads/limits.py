"""How many threads a pass may use: the one place that decides, and tells the libraries that ask for it.

A pass that is not told a number asks `allowed_threads`. Whoever carries out several jobs at a time starts its
worker processes within `limited_environment` and calls `limit_process` in each; `limited` holds for a while,
in the calling thread. Nothing heavy is imported here.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar

THREAD_VARIABLES = (
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "OPENCV_FFMPEG_THREADS",
)
"""What libraries read when they are loaded."""

_LIMIT: ContextVar[int | None] = ContextVar("evsim_threads", default=None)


def allowed_threads() -> int:
    """Threads of a pass that is not told a number: the limit that holds, or as many as numba would use.

    That is all cores, or NUMBA_NUM_THREADS.
    """
    import numba

    limit = _LIMIT.get()
    return int(numba.config.NUMBA_NUM_THREADS) if limit is None else limit  # type: ignore[attr-defined]


@contextlib.contextmanager
def limited_environment(threads: int) -> Iterator[None]:
    """Processes that are started meanwhile are limited before they load anything.

    A process that is spawned loads the libraries of the main script before it does what it is for.
    """
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def limit_process(threads: int) -> None:
    """Limit this process for good, one that `limited_environment` may not have seen.

    numba's own pool, which no pass of evsim uses, keeps the size that the environment gave it.
    """
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    if "numba" in sys.modules:
        sys.modules["numba"].config.NUMBA_NUM_THREADS = threads
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


@contextlib.contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Limit passes that this thread begins, and OpenCV and torch if they are loaded; None limits nothing."""
    if threads is None:
        yield
        return
    cv2, torch = sys.modules.get("cv2"), sys.modules.get("torch")
    opencv_threads = cv2.getNumThreads() if cv2 else 0
    torch_threads = torch.get_num_threads() if torch else 0
    token = _LIMIT.set(threads)
    if cv2:
        cv2.setNumThreads(threads)
    if torch:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        _LIMIT.reset(token)
        if cv2:
            cv2.setNumThreads(opencv_threads)
        if torch:
            torch.set_num_threads(torch_threads)
