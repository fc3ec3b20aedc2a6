"""Atomic counters for threads inside compiled code: each thread takes the next piece of work when it is free.

A thread that starts late then only does less: nothing waits for it. Every counter has cache lines of its
own; the compiled functions may be called by any number of threads at once. Adding is sequentially consistent
and loading acquires: what a thread wrote before it raised a counter is seen by whoever reads the new value.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from evsim.kernels.compiled import INLINE, LOOP

SPACING = 16
"""Distance of counters in words of 64 bits: two cache lines, which processors load together."""


def make_counters(count: int) -> NDArray[np.int64]:
    """int64[count * SPACING]: counters at 0; a pass sets them to 0 again before it shares them."""
    return np.zeros(count * SPACING, np.int64)


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(array.data, [arguments[1]])


@intrinsic  # type: ignore[untyped-decorator]
def _add(typing_context: Any, counters: Any, place: Any, number: Any) -> Any:
    """Atomically add to counters[place]; returns what it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments)
        return builder.atomic_rmw("add", address, arguments[2], "seq_cst")

    return types.int64(counters, types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _load(typing_context: Any, counters: Any, place: Any) -> Any:
    """Atomically read counters[place]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_address(context, builder, signature, arguments), "acquire", 8)

    return types.int64(counters, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _yield_processor(typing_context: Any) -> Any:
    """Let a thread run that waits for this processor, where the system can be asked for that."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if hasattr(os, "sched_yield"):
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.none(), generate


@intrinsic  # type: ignore[untyped-decorator]
def _processor(typing_context: Any) -> Any:
    """The number of the processor that runs this, or -1 where the system does not tell."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not hasattr(os, "sched_getaffinity"):
            return context.get_constant(types.int32, -1)
        kind = ir.FunctionType(ir.IntType(32), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_getcpu"), [])

    return types.int32(), generate


@njit(**LOOP)
def current_processor() -> int:
    """The number of the processor that runs this, or -1 where the system does not tell."""
    return np.int64(_processor())


@njit(**INLINE)
def take(counters: NDArray[np.int64], which: int) -> int:
    """The value of a counter, which is one higher from then on: no two calls get the same."""
    return _add(counters, np.int64(which * SPACING), np.int64(1))


@njit(**INLINE)
def take_piece(counters: NDArray[np.int64], first: int, thread: int, threads: int, pieces: int) -> int:
    """A piece of the work that nobody has begun, or -1.

    Each of the threads has a counter, from number `first` on, for its share of neighbouring pieces. It takes
    those first, so that memory which one core has written comes back to that core, then steals from others.
    """
    for k in range(threads):
        share = (thread + k) % threads
        piece = share * pieces // threads + take(counters, first + share)
        if piece < (share + 1) * pieces // threads:
            return piece
    return -1


@njit(**LOOP)
def wait_until(counters: NDArray[np.int64], which: int, value: int) -> None:
    """Spin until a counter has reached `value`; only for work that another thread has already begun."""
    while _load(counters, np.int64(which * SPACING)) < value:
        _yield_processor()


@njit(**LOOP)
def read_counter(counters: NDArray[np.int64], which: int) -> int:
    """The value of a counter."""
    return _load(counters, np.int64(which * SPACING))


@njit(**LOOP)
def add_to_counter(counters: NDArray[np.int64], which: int, number: int) -> None:
    """Raise a counter by `number`."""
    _add(counters, np.int64(which * SPACING), np.int64(number))


@njit(**LOOP)
def finish_and_watch(
    counters: NDArray[np.int64],
    finished: int,
    number: int,
    changes: int,
    seen: int,
    spins: int,
    delay: int,
) -> bool:
    """Raise counter `finished` by `number`, then watch for counter `changes` to leave the value `seen`.

    Returns True when it has, after `delay` more spins, or False after `spins` of them.
    """
    _add(counters, np.int64(finished * SPACING), np.int64(number))
    for _ in range(spins):
        if _load(counters, np.int64(changes * SPACING)) != seen:
            for _ in range(delay):
                _yield_processor()
            return True
        _yield_processor()
    return False
