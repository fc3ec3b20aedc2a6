"""Memory of the passes: arrays that are used together lie in one piece, from cache line to cache line.

Small pages cost a pass over a million pixels a few percent of its time, so a piece that is large is made so
large that numpy asks the system for huge pages.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LINE = 64
"""Bytes of a cache line: vector loads that straddle two cost 7 to 10 % of a pass."""
STAGGER = 5 * LINE
"""Distance added between arrays: planes of whole pages would otherwise compete for the same cache lines."""
WORTH_HUGE, HUGE = 1 << 20, 1 << 22
"""Bytes of a piece from which huge pages are worth while, and from which numpy asks for them."""

Kind = tuple[Sequence[int], DTypeLike]


def zeros_together(kinds: Iterable[Kind]) -> list[NDArray[Any]]:
    """Zeros of the given shapes and types, in one piece of memory; each begins with a cache line."""
    shapes = [(tuple(shape), np.dtype(kind)) for shape, kind in kinds]
    sizes = [math.prod(shape) * kind.itemsize for shape, kind in shapes]
    room = [-(-size // LINE) * LINE + STAGGER for size in sizes]
    total = LINE + sum(room)
    memory = np.zeros(max(total, HUGE) if total >= WORTH_HUGE else total, np.uint8)
    begin = -memory.ctypes.data % LINE
    starts = itertools.accumulate(room, initial=begin)
    return [
        memory[start : start + size].view(kind).reshape(shape)
        for start, size, (shape, kind) in zip(starts, sizes, shapes)
    ]


def copies_together(arrays: Iterable[NDArray[Any]]) -> list[NDArray[Any]]:
    """Copies of arrays as by `zeros_together`."""
    found = list(arrays)
    copies = zeros_together((array.shape, array.dtype) for array in found)
    for copy, array in zip(copies, found):
        copy[...] = array
    return copies
