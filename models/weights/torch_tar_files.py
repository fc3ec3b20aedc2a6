"""The first layout of `torch.save`, a tar archive (before torch 0.1.11), read in memory.

`storages` holds the flat data and the views on it, `tensors` the shapes and strides, `pickle` the object
whose persistent ids are the keys of the tensors.
"""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Callable
from typing import Any, BinaryIO

import torch

from evsim.models.weights.unpickling import (
    MOST_DIMENSIONS,
    build_tensor,
    fill_tensor,
    flat_tensor,
    unpickle,
)
from evsim.pickles.values import PickleError

TAR_MAGIC = b"ustar"
TAR_MAGIC_AT = 257


def is_tar(start: bytes) -> bool:
    """Whether a file that begins so is a tar archive; 512 bytes are enough."""
    return start[TAR_MAGIC_AT:].startswith(TAR_MAGIC)


def read_tar(file: BinaryIO, file_size: int) -> Any:
    """What was saved, tensors on the CPU; raises whatever a broken file leads to."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        storages = _in_member(archive, "storages", file_size, lambda part: _read_storages(part, file_size))
        tensors = _in_member(archive, "tensors", file_size, lambda part: _read_tensors(part, storages))

        def find(identifier: Any) -> Any:
            # A tuple is a module: its class and source, which nothing here needs.
            if type(identifier) is tuple and identifier:
                return identifier[0]
            return tensors[tensor_key(identifier)]

        return _in_member(archive, "pickle", file_size, lambda part: unpickle(part, find))


def _in_member(archive: tarfile.TarFile, name: str, file_size: int, read: Callable[[BinaryIO], Any]) -> Any:
    """What `read` makes of a member; its PickleError names the member."""
    found = archive.extractfile(name)
    if found is None or archive.getmember(name).size > file_size:
        raise PickleError("it is no plain file of the archive", name)
    try:
        return read(found)  # type: ignore[arg-type]
    except PickleError as error:
        raise error.inside(name) from error


def tensor_key(key: Any) -> int:
    """The number under which a tensor or storage is kept. Raises PickleError for anything else."""
    if type(key) is int and key.bit_length() <= 64:
        return key
    if type(key) is str and key.isdecimal() and len(key) <= 20:
        return int(key)
    raise PickleError("a key that is no number")


def _count(file: BinaryIO) -> int:
    """How many entries a pickle announces."""
    count = unpickle(file)
    if type(count) is not int:
        raise PickleError("no number where one is announced")
    return count


def _entry(value: Any, length: int) -> tuple[Any, ...]:
    if type(value) is not tuple or len(value) != length:
        raise PickleError(f"an entry that is no {length} values")
    return value


def _read_storages(file: BinaryIO, file_size: int) -> dict[int, torch.Tensor]:
    storages: dict[int, torch.Tensor] = {}
    for _ in range(_count(file)):
        key, _, dtype = _entry(unpickle(file), 3)
        (count,) = struct.unpack("<q", file.read(8))
        storage = flat_tensor(dtype, count, file_size)
        fill_tensor(storage, file)
        storages[tensor_key(key)] = storage
    views = unpickle(file)
    if type(views) is not list:
        raise PickleError("a pickle that is no list of views")
    for view in views:
        key, root, offset, count = _entry(view, 4)
        storages[tensor_key(key)] = storages[tensor_key(root)].narrow(0, offset, count)
    return storages


def _read_tensors(file: BinaryIO, storages: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    tensors = {}
    for _ in range(_count(file)):
        key, storage, _ = _entry(unpickle(file), 3)
        # The number of dimensions stands in eight bytes, of which four count.
        dimensions = struct.unpack("<i4x", file.read(8))[0]
        if not 0 <= dimensions <= MOST_DIMENSIONS:
            raise PickleError(f"a tensor of {dimensions} dimensions")
        size = struct.unpack(f"<{dimensions}q", file.read(8 * dimensions))
        stride = struct.unpack(f"<{dimensions}q", file.read(8 * dimensions))
        (offset,) = struct.unpack("<q", file.read(8))
        tensors[tensor_key(key)] = build_tensor(storages[tensor_key(storage)], offset, size, stride)
    return tensors
