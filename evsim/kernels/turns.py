"""Counters that threads inside compiled code share: each takes the next piece of work when it is free.

A thread that starts late then only does less: nothing waits for it. Every counter has cache lines of its
own; the compiled functions may be called by any number of threads at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from evsim.kernels.compiled import INLINE

SPACING = 16
"""Counters lie so many words of 64 bits apart: two cache lines, which processors load together."""


def make_turns(count: int) -> NDArray[np.int64]:
    """So many counters at 0; a pass sets them to 0 again before it starts its threads."""
    return np.zeros(count * SPACING, np.int64)


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(array.data, [arguments[1]])


@intrinsic  # type: ignore[untyped-decorator]
def _add_one(typing_context: Any, counters: Any, place: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments)
        return builder.atomic_rmw("add", address, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(counters, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _load(typing_context: Any, counters: Any, place: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_address(context, builder, signature, arguments), "acquire", 8)

    return types.int64(counters, types.int64), generate


@njit(**INLINE)
def take(turns: NDArray[np.int64], which: int) -> int:
    """The value of a counter, which then is one higher: no two calls get the same."""
    return _add_one(turns, np.int64(which * SPACING))


@njit(**INLINE)
def wait_until(turns: NDArray[np.int64], which: int, value: int) -> None:
    """Return when a counter has reached `value`; only for work that another thread already has in hand."""
    while _load(turns, np.int64(which * SPACING)) < value:
        pass
