"""Operations that keep numba's loops free of branches, so that the compiler turns them into vector code.

A Python conditional on array elements may become a branch or a masked load; `select` always is the
machine's select. The bit views and the bit count have no other spelling in numba.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from evsim.kernels.compiled import INLINE

LANES = 16
"""Pixels that `compress` handles at once; arrays it writes to need this many spare elements."""

LN2 = np.float32(0.6931471805599453)
MANTISSA = np.int32(0x007FFFFF)
HALF_EXPONENT = np.int32(0x3F3504F3)  # bits of the float32 nearest sqrt(1/2)


@intrinsic  # type: ignore[untyped-decorator]
def select(typing_context: Any, condition: Any, yes: Any, no: Any) -> Any:
    """`yes` where `condition` holds, else `no`; both of one type, both evaluated."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return yes(types.boolean, yes, no), generate


@intrinsic  # type: ignore[untyped-decorator]
def bits_of(typing_context: Any, value: Any) -> Any:
    """The int32 with the bits of a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def float_of(typing_context: Any, value: Any) -> Any:
    """The float32 with the bits of an int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic  # type: ignore[untyped-decorator]
def bit_count(typing_context: Any, value: Any) -> Any:
    """How many of the 32 bits are set, as uint32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint32(types.uint32), generate


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of array[index] without waiting for it; 1-D arrays, any index within."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        # For reading, to be kept in all cache levels, data.
        builder.call(function, [address, *(ir.Constant(word, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return types.none(array, index), generate


def _compress_name() -> str | None:
    """The compiler's name of the operation that packs chosen lanes, where it is fast: with AVX-512.

    numba compiles for this machine unless NUMBA_CPU_NAME or NUMBA_CPU_FEATURES say otherwise.
    """
    if config.CPU_NAME is None and config.CPU_FEATURES is None:
        fast = llvmlite.binding.get_host_cpu_features().get("avx512f", False)
    else:
        fast = "+avx512f" in (config.CPU_FEATURES or "")
    known = llvmlite.binding.llvm_version_info[0] in range(19, 23)
    return "llvm.experimental.vector.compress.v16i32" if known and fast else None


@intrinsic  # type: ignore[untyped-decorator]
def can_compress(typing_context: Any) -> Any:
    """Whether `compress` may be called on this machine; a constant, so that the other branch vanishes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant(types.boolean, _compress_name() is not None)

    return types.boolean(), generate


@intrinsic  # type: ignore[untyped-decorator]
def compress(
    typing_context: Any, count: Any, level: Any, source: Any, start: Any, out: Any, used: Any
) -> Any:
    """Append source[x] to `out` after `used` for those of 16 columns x from `start` with count[x] > level.

    count: int32 array, level: int32. source, out: uint32 arrays. Returns how many were appended; the rest of
    16 elements of `out` is overwritten.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count, level, source, start, out, used = arguments
        name = _compress_name()
        if name is None:
            return context.get_constant(types.int64, 0)
        integers, mask_type = ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.IntType(1), LANES)

        def place(position: int, array: Any, index: Any) -> Any:
            data = context.make_array(signature.args[position])(context, builder, array).data
            element = builder.gep(data, [index])
            return builder.bitcast(element, integers.as_pointer())

        counts = builder.load(place(0, count, start), align=4)
        levels = ir.Constant(integers, ir.Undefined)
        levels = builder.insert_element(levels, level, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(integers, [0] * LANES)
        levels = builder.shuffle_vector(levels, levels, zeros)
        mask = builder.icmp_signed(">", counts, levels)
        chosen = builder.load(place(2, source, start), align=4)
        kind = ir.FunctionType(integers, [integers, mask_type, integers])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        packed = builder.call(function, [chosen, mask, ir.Constant(integers, ir.Undefined)])
        builder.store(packed, place(4, out, used), align=4)
        bits = builder.bitcast(mask, ir.IntType(LANES))
        return builder.zext(builder.ctpop(bits), ir.IntType(64))

    return types.int64(count, level, source, start, out, used), generate


@njit(**INLINE)
def append_above(count: Any, level: Any, source: Any, out: Any, used: Any) -> Any:
    """Append source[x] to `out` after `used` for every x with count[x] > level; returns the new `used`.

    `out` needs LANES elements more than are used in the end.
    """
    place = np.uint64(used)
    first = 0
    if can_compress():
        first = count.size // LANES * LANES
        for start in range(0, first, LANES):
            place += np.uint64(
                compress(count, np.int32(level), source, np.int64(start), out, np.int64(place))
            )
    for x in range(np.uint64(first), np.uint64(count.size)):
        out[place] = source[x]
        place += np.uint64(count[x] > level)
    return np.int64(place)


@njit(**INLINE)
def natural_log(value: Any) -> Any:
    """Natural logarithm of a positive normal float32, to 2 ulp, in operations that vectorise.

    value = m 2^e with m within sqrt(1/2)..sqrt(2); ln m = 2 artanh((m - 1) / (m + 1)) as a series.
    """
    shifted = np.int32(bits_of(np.float32(value)) - HALF_EXPONENT)
    exponent = np.int32(shifted >> np.int32(23))
    m = float_of(np.int32(np.int32(shifted & MANTISSA) + HALF_EXPONENT))
    s = (m - np.float32(1)) / (m + np.float32(1))
    q = s * s
    tail = q * (np.float32(1 / 3) + q * (np.float32(1 / 5) + q * (np.float32(1 / 7) + q * np.float32(1 / 9))))
    return np.float32(exponent) * LN2 + np.float32(2) * (s + s * tail)


@njit(**INLINE)
def one_minus_exp(value: Any) -> Any:
    """1 - exp(-value) of a float32 within 0..1, to 1 ulp of 1."""
    total = np.float32(1)
    for k in range(11, 1, -1):
        total = np.float32(1) - np.float32(value) * np.float32(1 / k) * total
    return np.float32(value) * total
