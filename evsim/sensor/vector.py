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
from numpy.typing import NDArray

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
def trailing_zeros(typing_context: Any, value: Any) -> Any:
    """How many low bits of a uint32 other than 0 are clear, as uint32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint32(types.uint32), generate


@intrinsic  # type: ignore[untyped-decorator]
def falling(typing_context: Any, values: Any, start: Any) -> Any:
    """Bit i, of 16, is set where values[start + i] < values[start + i - 1]; a uint32 array, start >= 1."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, start = arguments
        before = builder.sub(start, ir.Constant(ir.IntType(64), 1))
        here, last = (
            builder.load(_lane_address(context, builder, signature.args[0], values, place, LANES), align=4)
            for place in (start, before)
        )
        bits = builder.bitcast(builder.icmp_unsigned("<", here, last), ir.IntType(LANES))
        return builder.zext(bits, ir.IntType(32))

    return types.uint32(values, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def order_pairs(typing_context: Any, values: Any, start: Any) -> Any:
    """Exchange values[start + 2 i] and values[start + 2 i + 1], of 16, where the first is larger; uint32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _lane_address(context, builder, signature.args[0], *arguments, LANES)
        indices = ir.VectorType(ir.IntType(32), LANES)
        here = builder.load(address, align=4)
        there = builder.shuffle_vector(here, here, ir.Constant(indices, [i ^ 1 for i in range(LANES)]))
        less = builder.icmp_unsigned("<", here, there)
        low, high = builder.select(less, here, there), builder.select(less, there, here)
        # Lane i of `low`, or of `high`, whose lanes are numbered on from there.
        order = ir.Constant(indices, [i + LANES * (i % 2) for i in range(LANES)])
        builder.store(builder.shuffle_vector(low, high, order), address, align=4)
        return context.get_dummy_value()

    return types.none(values, types.int64), generate


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


def _has_feature(name: str) -> bool:
    """Whether numba's code may use a feature of the processor.

    numba compiles for this machine unless NUMBA_CPU_NAME or NUMBA_CPU_FEATURES say otherwise.
    """
    if config.CPU_NAME is None and config.CPU_FEATURES is None:
        return bool(llvmlite.binding.get_host_cpu_features().get(name, False))
    return f"+{name}" in (config.CPU_FEATURES or "").split(",")


def _pack_lanes() -> tuple[str, int] | None:
    """The compiler's operation that packs chosen lanes, and of how many; None where there is no fast one.

    With AVX-512 that is one instruction, with AVX2 a permutation looked up by the mask.
    """
    if _has_feature("avx512f") and llvmlite.binding.llvm_version_info[0] in range(19, 23):
        return "llvm.experimental.vector.compress.v16i32", 16
    return ("llvm.x86.avx2.permd", 8) if _has_feature("avx2") else None


def _lane_orders(module: Any) -> Any:
    """Table of 256 orders of 8 lanes: those whose bit is set come first."""
    eight = ir.VectorType(ir.IntType(32), 8)
    orders = []
    for mask in range(256):
        lanes = [lane for lane in range(8) if mask >> lane & 1]
        orders.append(ir.Constant(eight, lanes + [0] * (8 - len(lanes))))
    table = ir.Constant(ir.ArrayType(eight, 256), orders)
    return cgutils.global_constant(module, "lane_orders", table)


@intrinsic  # type: ignore[untyped-decorator]
def can_compress(typing_context: Any) -> Any:
    """Whether `compress` may be called on this machine; a constant, so that the other branch vanishes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant(types.boolean, _pack_lanes() is not None)

    return types.boolean(), generate


def _lane_address(context: Any, builder: Any, kind: Any, array: Any, index: Any, lanes: int) -> Any:
    """Address of `lanes` elements of 32 bits of a 1-D array from `index`."""
    data = context.make_array(kind)(context, builder, array).data
    vector = ir.VectorType(ir.IntType(32), lanes)
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _lanes_above(builder: Any, address: Any, level: Any, lanes: int) -> Any:
    """Mask of the lanes at `address` that are larger than `level`."""
    vector = ir.VectorType(ir.IntType(32), lanes)
    levels = builder.insert_element(ir.Constant(vector, ir.Undefined), level, ir.Constant(ir.IntType(32), 0))
    levels = builder.shuffle_vector(levels, levels, ir.Constant(vector, [0] * lanes))
    return builder.icmp_signed(">", builder.load(address, align=4), levels)


@intrinsic  # type: ignore[untyped-decorator]
def any_above(typing_context: Any, count: Any, level: Any, start: Any) -> Any:
    """Whether one of the 16 elements of `count` (int32 array) from `start` is larger than `level` (int32)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count, level, start = arguments
        address = _lane_address(context, builder, signature.args[0], count, start, LANES)
        bits = builder.bitcast(_lanes_above(builder, address, level, LANES), ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(count, level, start), generate


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
        found = _pack_lanes()
        if found is None:
            return context.get_constant(types.int64, 0)
        name, lanes = found
        wide, narrow = ir.IntType(64), ir.IntType(32)
        integers, mask_type = ir.VectorType(narrow, lanes), ir.VectorType(ir.IntType(1), lanes)
        appended = ir.Constant(wide, 0)
        for first in range(0, LANES, lanes):
            here = builder.add(start, ir.Constant(wide, first))
            place = builder.add(used, appended)
            address = _lane_address(context, builder, signature.args[0], count, here, lanes)
            mask = _lanes_above(builder, address, level, lanes)
            bits = builder.bitcast(mask, ir.IntType(lanes))
            chosen = builder.load(
                _lane_address(context, builder, signature.args[2], source, here, lanes), align=4
            )
            if lanes == LANES:
                kind = ir.FunctionType(integers, [integers, mask_type, integers])
                operands = [chosen, mask, ir.Constant(integers, ir.Undefined)]
            else:
                kind = ir.FunctionType(integers, [integers, integers])
                row = [ir.Constant(wide, 0), builder.zext(bits, wide)]
                operands = [chosen, builder.load(builder.gep(_lane_orders(builder.module), row))]
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            packed = builder.call(function, operands)
            target = _lane_address(context, builder, signature.args[4], out, place, lanes)
            builder.store(packed, target, align=4)
            appended = builder.add(appended, builder.zext(builder.ctpop(bits), wide))
        return appended

    return types.int64(count, level, source, start, out, used), generate


CODES = 64
"""Codes that `look_up` handles at once."""


@intrinsic  # type: ignore[untyped-decorator]
def can_look_up(typing_context: Any) -> Any:
    """Whether `look_up` may be called on this machine; a constant, so that the other branch vanishes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant(types.boolean, _has_feature("avx512vbmi"))

    return types.boolean(), generate


@intrinsic  # type: ignore[untyped-decorator]
def look_up(typing_context: Any, codes: Any, start: Any, table: Any, out: Any) -> Any:
    """out[x] = the float32 of codes[x], for 64 columns x from `start`.

    codes: uint8 array. table: uint8[1024], the first bytes of all 256 float32, then the second, and so on
    (`byte_planes`), each of which fits into four registers. out: float32 array.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not _has_feature("avx512vbmi"):
            return context.get_dummy_value()
        codes, start, table, out = arguments
        byte, word, wide = ir.IntType(8), ir.IntType(32), ir.IntType(64)
        bytes_type, words_type = ir.VectorType(byte, CODES), ir.VectorType(word, LANES)
        kind = ir.FunctionType(bytes_type, [bytes_type] * 3)
        choose = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpermi2var.qi.512")

        def address(which: int, array: Any, index: Any, vector: Any) -> Any:
            data = context.make_array(signature.args[which])(context, builder, array).data
            return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())

        def shuffled(first: Any, second: Any, order: list[int]) -> Any:
            indices = ir.Constant(ir.VectorType(word, len(order)), order)
            return builder.shuffle_vector(first, second, indices)

        # Interleaving works within quarters of a register: hand them the codes so that results are in order.
        loaded = builder.load(address(0, codes, start, words_type), align=1)
        order = [4 * (lane % 4) + lane // 4 for lane in range(LANES)]
        code = builder.bitcast(shuffled(loaded, loaded, order), bytes_type)
        upper = builder.icmp_signed("<", code, ir.Constant(bytes_type, [0] * CODES))
        planes = []
        for plane in range(4):
            parts = [
                builder.load(
                    address(2, table, ir.Constant(wide, 256 * plane + CODES * part), bytes_type), align=1
                )
                for part in range(4)
            ]
            low = builder.call(choose, [parts[0], code, parts[1]])
            high = builder.call(choose, [parts[2], code, parts[3]])
            planes.append(builder.select(upper, high, low))
        halves = ir.VectorType(ir.IntType(16), CODES // 2)
        for quarter in range(4):
            # Within each 128 bits: 8 of 16 bytes of two planes to words, then 4 of 8 words to float32.
            byte_order = [
                16 * lane + 8 * (quarter // 2) + i // 2 + CODES * (i % 2)
                for lane in range(4)
                for i in range(16)
            ]
            pairs = [builder.bitcast(shuffled(planes[i], planes[i + 1], byte_order), halves) for i in (0, 2)]
            word_order = [
                8 * lane + 4 * (quarter % 2) + i // 2 + CODES // 2 * (i % 2)
                for lane in range(4)
                for i in range(8)
            ]
            values = builder.bitcast(shuffled(*pairs, word_order), words_type)
            place = builder.add(start, ir.Constant(wide, LANES * quarter))
            builder.store(values, address(3, out, place, words_type), align=4)
        return context.get_dummy_value()

    return types.none(codes, types.int64, table, out), generate


def byte_planes(table: NDArray[np.float32]) -> NDArray[np.uint8]:
    """uint8[1024] of a float32[256] in the order that `look_up` wants."""
    return np.ascontiguousarray(table.view(np.uint8).reshape(256, 4).T).reshape(-1)


@njit(**INLINE)
def append_above(count: Any, level: Any, source: Any, out: Any, used: Any, rare: Any) -> Any:
    """Append source[x] to `out` after `used` for every x with count[x] > level; returns the new `used`.

    `out` needs LANES elements more than are used in the end. rare: few are, so that passing over 16 columns
    without any is worth a branch.
    """
    place = np.uint64(used)
    first = 0
    if can_compress():
        first = count.size // LANES * LANES
        for start in range(0, first, LANES):
            if rare and not any_above(count, np.int32(level), np.int64(start)):
                continue
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
