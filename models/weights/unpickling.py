"""What `torch.save` pickles, read as data: storages, tensors and the names that stand for them.

The interpreter of `evsim.pickles` calls nothing but the few functions below, which build tensors from plain
values that they check; every other name becomes an `Inert` object that only remembers what it was given.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any, BinaryIO

import torch

from evsim.pickles.interpreter import KnownNames, read_pickle
from evsim.pickles.values import Name, PickleError

STORAGE_DTYPES: dict[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")
MOST_DIMENSIONS = 64
EXPANDED = 1 << 12
"""Elements that a tensor may have although its storage is smaller: constants are saved expanded."""


def build_tensor(storage: Any, offset: Any, size: Any, stride: Any, *ignored: Any) -> torch.Tensor:
    """The view of a flat storage with this size and stride; gradients and hooks are left out.

    Raises PickleError for a view that reaches outside, or that repeats a small storage over and over.
    """
    if not isinstance(storage, torch.Tensor) or storage.ndim != 1:
        raise PickleError("a tensor without a storage")
    if not all(type(numbers) in (tuple, list) for numbers in (size, stride)) or not all(
        type(number) is int and 0 <= number < 1 << 62 for number in (offset, *size, *stride)
    ):
        raise PickleError("a tensor whose size, stride or offset are no whole numbers from 0 on")
    if len(size) != len(stride) or len(size) > MOST_DIMENSIONS:
        raise PickleError(f"a tensor of {len(size)} dimensions with {len(stride)} strides")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if 0 not in size else -1
    if last >= storage.numel():
        raise PickleError(f"a tensor of size {tuple(size)} reaches outside its storage")
    if math.prod(max(n, 1) for n in size) > max(storage.numel(), EXPANDED):
        raise PickleError(
            f"a tensor of size {tuple(size)} repeats {storage.numel()} values; save it contiguous"
        )
    return storage.as_strided(tuple(size), tuple(stride), storage.storage_offset() + offset)


def flat_tensor(dtype: Any, count: Any, limit: int) -> torch.Tensor:
    """A 1-D tensor to be filled; PickleError when it would take more than `limit` bytes."""
    if not isinstance(dtype, torch.dtype) or type(count) is not int:
        raise PickleError("a storage without a number of values of one kind")
    if not 0 <= count * dtype.itemsize <= limit:
        raise PickleError(f"a storage of {count} values of {dtype}, where {limit} bytes are left")
    return torch.empty(count, dtype=dtype)


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a 1-D tensor, to be filled."""
    return tensor.view(torch.uint8).numpy().data if tensor.numel() else memoryview(bytearray())


def fill_tensor(tensor: torch.Tensor, file: BinaryIO) -> None:
    """Read the bytes of a storage into its tensor. Raises PickleError when there are too few."""
    memory = bytes_of(tensor)
    filled = 0
    while filled < len(memory):
        count: int = file.readinto(memory[filled:])  # type: ignore[attr-defined]
        if not count:
            raise PickleError(f"a storage of {len(memory)} bytes is cut short")
        filled += count


def build_parameter(tensor: Any, *ignored: Any) -> Any:
    """The tensor of a parameter."""
    return tensor


def build_subclass(function: Any, kind: Any, arguments: Any, state: Any = None) -> Any:
    """The plain tensor of a subclass of tensors."""
    known = TENSOR_FUNCTIONS.get((function.module, function.name)) if isinstance(function, Name) else None
    if known is None or type(arguments) is not tuple:
        raise PickleError("a tensor that is rebuilt by something else than torch")
    return known(*arguments)


def build_size(lengths: Any = ()) -> tuple[Any, ...]:
    """The size of a tensor."""
    if type(lengths) not in (tuple, list):
        raise PickleError("a size that is no tuple")
    return tuple(lengths)


def device_name(kind: Any, number: Any = None) -> str:
    """A device as text, for example "cuda:0"."""
    if type(kind) is not str or not (number is None or type(number) is int):
        raise PickleError("a device without a name")
    return kind if number is None else f"{kind}:{number}"


TENSOR_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): build_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): build_tensor,
    ("torch._utils", "_rebuild_parameter"): build_parameter,
}
NAMES = KnownNames(
    functions={
        **TENSOR_FUNCTIONS,
        ("torch._tensor", "_rebuild_from_type_v2"): build_subclass,
        ("torch", "Size"): build_size,
        ("torch", "device"): device_name,
    },
    constants={
        **{(module, name): dtype for module in STORAGE_MODULES for name, dtype in STORAGE_DTYPES.items()},
        **{("torch", str(dtype).removeprefix("torch.")): dtype for dtype in STORAGE_DTYPES.values()},
    },
)


def unpickle(content: bytes | BinaryIO, find_storage: Callable[[Any], Any] | None = None) -> Any:
    """The next pickled object, with `Inert` objects in place of everything that is not plain.

    find_storage: called with a persistent id, returns the flat tensor that holds the storage. Raises
    PickleError for everything that is wrong; `torch_files` makes it a FormatError.
    """
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    return read_pickle(file, names=NAMES, find_storage=find_storage)
