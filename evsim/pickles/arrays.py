"""Arrays and numbers as numpy pickles them, rebuilt from a plain numeric code, a shape and bytes that fit.

numpy's own functions are never called with what a file says: given an object dtype and bytes they make
pointers of them. What is not numeric stays an `Inert` object.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.pickles.values import Inert, Name, PickleError

NUMBER_CODES = frozenset(
    ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
)
BYTE_ORDERS = {"<": "<", ">": ">", "|": "|", "=": "="}
MOST_DIMENSIONS = 32
LONGEST_AXIS = 1 << 48


class DtypeDescription(Inert):
    """A dtype as a pickle describes it: a code such as "f8", then, as its state, the byte order."""

    __slots__ = ()

    def __init__(self, *arguments: Any) -> None:
        super().__init__("numpy.dtype", arguments)

    def numeric(self) -> np.dtype[Any] | None:
        """The dtype of numbers that is meant; None for any other."""
        code, order = self.arguments[0] if self.arguments else None, "<"
        if not isinstance(code, str) or code not in NUMBER_CODES:
            return None
        if self.state is not None:
            plain = isinstance(self.state, tuple) and len(self.state) >= 5 and self.state[2:5] == (None,) * 3
            if not plain or not isinstance(self.state[1], str) or self.state[1] not in BYTE_ORDERS:
                return None
            order = BYTE_ORDERS[self.state[1]]
        return np.dtype(f"{order}{code}")


class ArrayDescription(Inert):
    """An array whose content the pickle has yet to state.

    places: where the memo holds it, to be replaced by the array.
    """

    __slots__ = ("places",)

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        super().__init__("numpy.ndarray", arguments)
        self.places: list[int] = []

    def array(self) -> NDArray[Any] | None:
        """The array of numbers that the state describes; None for one of anything else.

        Raises PickleError where the bytes do not fit.
        """
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            return None
        _, shape, dtype, fortran, content = self.state
        array = build_array(content, dtype, shape, "F" if fortran else "C")
        # In the byte order of this machine, as numpy has it.
        return array if array is None or array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

    def objects(self) -> list[Any] | None:
        """What an array of objects holds, flat; None for another array."""
        content = self.state[-1] if isinstance(self.state, tuple) and len(self.state) == 5 else None
        return content if isinstance(content, list) else None


def build_array(content: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any] | None:
    """The read-only array over these bytes; None for a dtype that is not numeric."""
    numeric = dtype.numeric() if isinstance(dtype, DtypeDescription) else None
    if numeric is None:
        return None
    if (
        type(shape) is not tuple
        or len(shape) > MOST_DIMENSIONS
        or not all(type(length) is int and 0 <= length <= LONGEST_AXIS for length in shape)
    ):
        raise PickleError("an array has no shape of whole numbers")
    data = _content(content)
    if len(data) != math.prod(shape) * numeric.itemsize:
        raise PickleError(f"an array {shape} of {numeric} is given {len(data)} bytes")
    flat = np.frombuffer(data, numeric) if len(data) else np.empty(0, numeric)
    if numeric.kind == "b" and flat.size and flat.view(np.uint8).max() > 1:
        raise PickleError("an array of truth values holds other bytes than 0 and 1")
    flat.flags.writeable = False
    return flat.reshape(shape, order="F" if order == "F" else "C")


def rebuild_array(kind: Any, *arguments: Any) -> Inert:
    """What `_reconstruct` stands for: an array whose content follows."""
    if isinstance(kind, Name) and (kind.module, kind.name) == ("numpy", "ndarray"):
        return ArrayDescription((kind, *arguments))
    return Inert("numpy.core.multiarray._reconstruct", (kind, *arguments))


def array_of_buffer(content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Any:
    """What `_frombuffer` stands for: an array over bytes, its axes in another order where they are given."""
    if order not in ("C", "F", "K"):
        raise PickleError("an array is in an unknown order")
    array = build_array(content, dtype, shape, order)
    if array is None:
        return Inert("numpy.core.numeric._frombuffer", (content, dtype, shape, order, axes))
    if axes is None:
        return array
    if type(axes) is not tuple or sorted(axes) != list(range(array.ndim)):
        raise PickleError("the axes of an array are no permutation")
    return array.transpose(axes)


def read_scalar(dtype: Any, content: Any = b"") -> Any:
    """The Python number of a numpy scalar. Raises PickleError for a scalar of another kind."""
    numeric = dtype.numeric() if isinstance(dtype, DtypeDescription) else None
    if numeric is None:
        raise PickleError("a numpy scalar is no number")
    data = _content(content)
    if len(data) != numeric.itemsize:
        raise PickleError(f"a numpy scalar of {numeric} is given {len(data)} bytes")
    return np.frombuffer(data, numeric)[0].item()


def _content(content: Any) -> bytes | bytearray:
    # Python 2 wrote bytes as its str, which came out as text where they happen to be UTF-8.
    if type(content) is str:
        return content.encode("utf-8")
    if type(content) is bytes or type(content) is bytearray:
        return content
    raise PickleError(f"an array is given a {type(content).__name__} instead of bytes")
