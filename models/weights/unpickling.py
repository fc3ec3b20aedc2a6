"""Reading pickles without running them: tensors and plain values come out, everything else stays inert.

A pickle is a program. It names callables (GLOBAL), calls them (REDUCE, NEWOBJ, INST) and hands state to
what they returned (BUILD). `RestrictedUnpickler` gives it nothing to call but the few functions below that
build plain values, and, for every other name, a fresh `Inert` class that only remembers what it was given.
No module is imported and no attribute of an existing object is looked up or set on a pickle's behalf.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import torch

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
NUMBER_CODE = re.compile(r"^[biufc]\d{1,2}$")
STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")
TENSOR_DTYPES = tuple(str(dtype).removeprefix("torch.") for dtype in STORAGE_DTYPES.values())


class Inert:
    """Stands for an object of a class that was not loaded.

    origin: "module.Name" that the pickle asked for. arguments: what it was made with. state: what BUILD
    gave it. items: what was appended or set on it, as values or (key, value) pairs.
    """

    __slots__ = ("arguments", "items", "state")
    origin = ""

    arguments: tuple[Any, ...]
    state: Any
    items: list[Any]

    def __new__(cls, *arguments: Any, **keywords: Any) -> Inert:
        made = super().__new__(cls)
        made.arguments = (*arguments, keywords) if keywords else arguments
        made.state = None
        made.items = []
        return made

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        """Nothing more: the arguments were kept when the object was made."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, value: Any) -> None:
        """Keep a value that the pickle appends (a pickled subclass of list)."""
        self.items.append(value)

    def add(self, value: Any) -> None:
        """Keep a value that the pickle adds (a pickled subclass of set)."""
        self.items.append(value)

    def __repr__(self) -> str:
        return f"<not loaded: {self.origin}>"


class PlainDict(dict[Any, Any]):
    """A dictionary in place of OrderedDict; attributes that the pickle sets on it are dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Drop it: state dictionaries carry a `_metadata` attribute that nothing here needs."""


class Builder:
    """A function that a pickle may call, without an attribute that the pickle could change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("the pickle sets attributes of a function")


class ScalarDtype:
    """A numpy dtype as a pickle describes it: a code such as "f8", then its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *flags: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def read(self, content: bytes) -> Any:
        """The one number that the bytes hold."""
        if not isinstance(self.code, str) or not NUMBER_CODE.match(self.code):
            raise pickle.UnpicklingError(f"a numpy scalar of type {self.code!r}, expected a number")
        dtype = np.dtype((">" if self.order == ">" else "<") + self.code)
        return np.frombuffer(content, dtype, count=1)[0].item()


def build_tensor(storage: torch.Tensor, offset: int, size: Any, stride: Any, *ignored: Any) -> torch.Tensor:
    """The view of a flat storage with this size and stride; gradients and hooks are left out."""
    if not isinstance(storage, torch.Tensor):
        raise pickle.UnpicklingError(f"a tensor on {storage!r}, expected a storage")
    size, stride = tuple(size), tuple(stride)
    if min((offset, *size, *stride)) < 0:
        raise pickle.UnpicklingError(f"a tensor with size {size}, stride {stride}, offset {offset}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if 0 not in size else -1
    if len(size) != len(stride) or last >= storage.numel():
        raise pickle.UnpicklingError(f"a tensor of size {size} reaches outside its storage")
    return storage.as_strided(size, stride, storage.storage_offset() + offset)


def flat_tensor(dtype: Any, count: int, limit: int) -> torch.Tensor:
    """A 1-D tensor to be filled; ValueError when it would take more than `limit` bytes."""
    if not isinstance(dtype, torch.dtype) or not 0 <= count * dtype.itemsize <= limit:
        raise ValueError(f"storage of {count} values of {dtype}, where {limit} bytes are left")
    return torch.empty(count, dtype=dtype)


def fill_tensor(tensor: torch.Tensor, content: bytes) -> None:
    """Copy the bytes of a storage into its tensor. Raises ValueError when there are too few."""
    size = tensor.numel() * tensor.itemsize
    if len(content) < size:
        raise ValueError(f"storage of {size} bytes is cut short")
    if size:
        tensor.view(torch.uint8).numpy()[:] = np.frombuffer(content, np.uint8, size)


def build_parameter(tensor: Any, *ignored: Any) -> Any:
    """The tensor of a parameter."""
    return tensor


def encode_text(text: str, encoding: str = "latin1") -> bytes:
    """Bytes that an old pickle protocol wrote as text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes written as {encoding}, expected latin1")
    return text.encode("latin1")


def read_scalar(dtype: Any, content: Any = b"") -> Any:
    """The Python number of a numpy scalar."""
    if not isinstance(dtype, ScalarDtype) or not isinstance(content, bytes):
        raise pickle.UnpicklingError("a numpy scalar that is not a number")
    return dtype.read(content)


FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): build_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): build_tensor,
    ("torch._utils", "_rebuild_parameter"): build_parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): lambda function, kind, arguments, state: function(*arguments),
    ("torch", "Size"): tuple,
    ("torch", "device"): lambda *place: ":".join(map(str, place)),
    ("_codecs", "encode"): encode_text,
    ("numpy", "dtype"): ScalarDtype,
    ("numpy.core.multiarray", "scalar"): read_scalar,
    ("numpy._core.multiarray", "scalar"): read_scalar,
}


class RestrictedUnpickler(pickle.Unpickler):
    """An unpickler that can only build plain values and tensors; see the module's docstring.

    find_storage: called with a persistent id, returns the flat tensor that holds the storage.
    """

    def __init__(self, file: BinaryIO, find_storage: Callable[[Any], Any] | None = None) -> None:
        super().__init__(file, encoding="utf-8")
        self._find_storage = find_storage

    def find_class(self, module: str, name: str) -> Any:
        """What stands for `module.name`; never the real thing."""
        if module in STORAGE_MODULES and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        if module == "torch" and name in TENSOR_DTYPES:
            return getattr(torch, name)
        if (module, name) == ("collections", "OrderedDict"):
            return type("OrderedDict", (PlainDict,), {"__slots__": ()})
        if (module, name) in FUNCTIONS:
            return Builder(FUNCTIONS[module, name])
        return type(name.rpartition(".")[2], (Inert,), {"__slots__": (), "origin": f"{module}.{name}"})

    def persistent_load(self, identifier: Any) -> Any:
        """The storage, or the object itself, that a persistent id stands for."""
        if self._find_storage is None:
            raise pickle.UnpicklingError("a persistent id outside a tensor file")
        return self._find_storage(identifier)


def unpickle(content: bytes | BinaryIO, find_storage: Callable[[Any], Any] | None = None) -> Any:
    """The next pickled object, with `Inert` objects in place of everything that is not plain.

    Raises whatever the pickle's own mistakes lead to; `torch_files` makes it one FormatError.
    """
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    return RestrictedUnpickler(file, find_storage).load()
