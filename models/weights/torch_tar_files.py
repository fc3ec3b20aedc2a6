"""The first layout of `torch.save`, a tar archive (before torch 0.1.11), read in memory.

`storages` holds the flat data and the views on it, `tensors` the shapes and strides, `pickle` the object
whose persistent ids are the keys of the tensors.
"""

from __future__ import annotations

import struct
import tarfile
from typing import Any, BinaryIO

import torch

from evsim.models.weights.unpickling import build_tensor, fill_tensor, flat_tensor, unpickle

TAR_MAGIC = b"ustar"
TAR_MAGIC_AT = 257


def is_tar(start: bytes) -> bool:
    """Whether a file that begins so is a tar archive; 512 bytes are enough."""
    return start[TAR_MAGIC_AT:].startswith(TAR_MAGIC)


def read_tar(file: BinaryIO, file_size: int) -> Any:
    """What was saved, tensors on the CPU; raises whatever a broken file leads to."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        storages = _read_storages(_member(archive, "storages"), file_size)
        tensors = _read_tensors(_member(archive, "tensors"), storages)

        def find(identifier: Any) -> Any:
            # A tuple is a module: its class and source, which nothing here needs.
            return identifier[0] if isinstance(identifier, tuple) else tensors[int(identifier)]

        return unpickle(_member(archive, "pickle"), find)


def _member(archive: tarfile.TarFile, name: str) -> BinaryIO:
    found = archive.extractfile(name)
    if found is None:
        raise ValueError(f"member {name!r} is no file")
    return found  # type: ignore[return-value]


def _read_storages(file: BinaryIO, file_size: int) -> dict[Any, torch.Tensor]:
    storages: dict[Any, torch.Tensor] = {}
    for _ in range(unpickle(file)):
        key, _, dtype = unpickle(file)
        (count,) = struct.unpack("<q", file.read(8))
        storages[key] = flat_tensor(dtype, count, file_size)
        fill_tensor(storages[key], file.read(count * dtype.itemsize))
    for key, root, offset, count in unpickle(file):
        storages[key] = storages[root].narrow(0, offset, count)
    return storages


def _read_tensors(file: BinaryIO, storages: dict[Any, torch.Tensor]) -> dict[int, torch.Tensor]:
    tensors = {}
    for _ in range(unpickle(file)):
        key, storage, _ = unpickle(file)
        # The number of dimensions stands in eight bytes, of which four count.
        dimensions = struct.unpack("<i4x", file.read(8))[0]
        size = struct.unpack(f"<{dimensions}q", file.read(8 * dimensions))
        stride = struct.unpack(f"<{dimensions}q", file.read(8 * dimensions))
        (offset,) = struct.unpack("<q", file.read(8))
        tensors[int(key)] = build_tensor(storages[storage], offset, size, stride)
    return tensors
