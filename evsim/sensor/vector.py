"""Operations that keep numba's loops free of branches, so that the compiler turns them into vector code.

A Python conditional on array elements may become a branch or a masked load; `select` always is the
machine's select. The bit views and the bit count have no other spelling in numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

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


@njit(nogil=True, cache=True, error_model="numpy")
def natural_log(value: Any) -> Any:
    """Natural logarithm of a positive normal float32, to 2 ulp, in operations that vectorise.

    value = m 2^e with m within sqrt(1/2)..sqrt(2); ln m = 2 artanh((m - 1) / (m + 1)) as a series.
    """
    shifted = np.int32(bits_of(np.float32(value)) - HALF_EXPONENT)
    exponent = np.int32(shifted >> np.int32(23))
    m = float_of(np.int32(np.int32(shifted & MANTISSA) + HALF_EXPONENT))
    s = (m - np.float32(1)) / (m + np.float32(1))
    q = s * s
    tail = q * (
        np.float32(1 / 3) + q * (np.float32(1 / 5) + q * (np.float32(1 / 7) + q * np.float32(1 / 9)))
    )
    return np.float32(exponent) * LN2 + np.float32(2) * (s + s * tail)


@njit(nogil=True, cache=True, error_model="numpy")
def one_minus_exp(value: Any) -> Any:
    """1 - exp(-value) of a float32 within 0..1, to 1 ulp of 1."""
    total = np.float32(1)
    for k in range(11, 1, -1):
        total = np.float32(1) - np.float32(value) * np.float32(1 / k) * total
    return np.float32(value) * total
