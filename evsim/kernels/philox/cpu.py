"""Philox4x32-10 compiled for the CPU: one block, a batch of blocks that vectorises, a whole image."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from evsim.kernels.compiled import INLINE, LOOP

Word = np.uint32
LANES = 8
MULTIPLIERS, KEY_STEPS, ROUNDS = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85), 10

# Every intermediate is cast back to 32 bits: numba widens uint32 arithmetic to 64 bits otherwise.


@numba.njit(**INLINE)
def philox4x32(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Word, Word, Word, Word]:
    """The four words of one counter (c0..c3) under the key (k0, k1), all uint32."""
    for _ in range(ROUNDS):
        first = np.uint64(c0) * np.uint64(MULTIPLIERS[0])
        second = np.uint64(c2) * np.uint64(MULTIPLIERS[1])
        c0 = np.uint32(np.uint32(second >> np.uint64(32)) ^ c1 ^ k0)
        c1 = np.uint32(second)
        c2 = np.uint32(np.uint32(first >> np.uint64(32)) ^ c3 ^ k1)
        c3 = np.uint32(first)
        k0 = np.uint32(k0 + np.uint32(KEY_STEPS[0]))
        k1 = np.uint32(k1 + np.uint32(KEY_STEPS[1]))
    return c0, c1, c2, c3


@intrinsic  # type: ignore[untyped-decorator]
def eight_blocks(
    typing_context: Any,
    counter: Any,
    row: Any,
    frame: Any,
    purpose: Any,
    k0: Any,
    k1: Any,
    words0: Any,
    words1: Any,
    words2: Any,
    words3: Any,
    place: Any,
) -> Any:
    """Words of the blocks counter .. counter + 7, stored at words0[place] .. words3[place + 7].

    Written out as vectors of 64-bit lanes whose upper halves are left as they fall: one multiplication, one
    shift and one exclusive or per word and round. Left to itself the compiler narrows the lanes to 32 bits
    and spends three times as long on repacking them.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide, narrow = ir.VectorType(ir.IntType(64), LANES), ir.VectorType(ir.IntType(32), LANES)

        def splat(value: Any) -> Any:
            vector = builder.insert_element(
                ir.Constant(wide, ir.Undefined),
                builder.zext(value, ir.IntType(64)),
                ir.Constant(ir.IntType(32), 0),
            )
            return builder.shuffle_vector(vector, vector, ir.Constant(narrow, [0] * LANES))

        def constant(value: int) -> Any:
            return ir.Constant(wide, [value] * LANES)

        low, half = constant(0xFFFFFFFF), constant(32)
        c0 = builder.add(splat(arguments[0]), ir.Constant(wide, list(range(LANES))))
        c1, c2, c3 = (splat(value) for value in arguments[1:4])
        keys = list(arguments[4:6])
        for _ in range(ROUNDS):
            first = builder.mul(builder.and_(c0, low), constant(MULTIPLIERS[0]))
            second = builder.mul(builder.and_(c2, low), constant(MULTIPLIERS[1]))
            c0 = builder.xor(builder.xor(builder.lshr(second, half), c1), splat(keys[0]))
            c2 = builder.xor(builder.xor(builder.lshr(first, half), c3), splat(keys[1]))
            c1, c3 = second, first
            keys = [builder.add(key, ir.Constant(ir.IntType(32), step)) for key, step in zip(keys, KEY_STEPS)]
        for position, value in zip(range(6, 10), (c0, c1, c2, c3)):
            array = context.make_array(signature.args[position])(context, builder, arguments[position])
            address = builder.bitcast(builder.gep(array.data, [arguments[10]]), narrow.as_pointer())
            builder.store(builder.trunc(value, narrow), address, align=4)
        return context.get_dummy_value()

    arguments = (counter, row, frame, purpose, k0, k1, words0, words1, words2, words3, place)
    return types.none(*arguments), generate


@numba.njit(**INLINE)
def fill_blocks(
    k0: Word,
    k1: Word,
    first: Word,
    row: Word,
    frame: Word,
    purpose: Word,
    words0: NDArray[np.uint32],
    words1: NDArray[np.uint32],
    words2: NDArray[np.uint32],
    words3: NDArray[np.uint32],
) -> None:
    """Words of the blocks (first + i, row, frame, purpose): word j of block i goes to wordsj[i].

    The arrays have at least LANES elements each.
    """
    last = words0.size - LANES
    for i in range(0, words0.size, LANES):
        # The last eight overlap the ones before: cheaper than finishing one by one.
        start = np.int64(min(i, last))
        counter = np.uint32(first + np.uint32(start))
        eight_blocks(counter, row, frame, purpose, k0, k1, words0, words1, words2, words3, start)


@numba.njit(**LOOP)
def _fill_short_row(
    k0: Word, k1: Word, row: Word, frame: Word, purpose: Word, words: NDArray[np.uint32]
) -> None:
    quarter = words.size // 4
    for i in range(quarter):
        block = philox4x32(np.uint32(i), row, frame, purpose, k0, k1)
        for j in range(4):
            words[j * quarter + i] = block[j]


@numba.njit(**INLINE)
def fill_row(k0: Word, k1: Word, row: Word, frame: Word, purpose: Word, words: NDArray[np.uint32]) -> None:
    """One word per column of a row; `words` has a multiple of four entries, at least the width."""
    quarter = words.size // 4
    if quarter < LANES:
        _fill_short_row(k0, k1, row, frame, purpose, words)
        return
    words0, words1 = words[:quarter], words[quarter : 2 * quarter]
    words2, words3 = words[2 * quarter : 3 * quarter], words[3 * quarter :]
    fill_blocks(k0, k1, np.uint32(0), row, frame, purpose, words0, words1, words2, words3)


@numba.njit(nogil=True, cache=True)
def fill_words(k0: Word, k1: Word, frame: Word, purpose: Word, out: NDArray[np.uint32]) -> None:
    """Fill `out` (H, W) with the words of one frame and purpose."""
    width = out.shape[1]
    words = np.empty((width + 3) // 4 * 4, np.uint32)
    for y in range(out.shape[0]):
        fill_row(k0, k1, np.uint32(y), frame, purpose, words)
        row = out[y]
        for x in range(row.size):
            row[x] = words[x]
