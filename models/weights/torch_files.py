"""Files that `torch.save` wrote, in each of its layouts: zip archive, bare pickles (before 1.6), tar (2017).

The layouts are read here and not through `torch.load`, which may call TorchScript code or write patch files
on behalf of the file that it reads. Tensors come out on the CPU whatever device their storage names.
"""

from __future__ import annotations

import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import torch

from evsim.errors import FormatError
from evsim.models.weights.torch_tar_files import is_tar, read_tar
from evsim.models.weights.unpickling import fill_tensor, flat_tensor, unpickle

ZIP_MAGIC = b"PK\x03\x04"
BROKEN = (
    pickle.UnpicklingError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What reading a damaged file can raise: its pickle makes calls with arguments of any kind."""
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def read_torch_file(path: Path) -> Any:
    """What was saved, with tensors on the CPU and `Inert` objects for foreign classes; nothing is run.

    Raises FormatError where the file is not complete, not a torch file, or a TorchScript archive.
    """
    with path.open("rb") as file:
        start = file.read(512)
        file.seek(0)
        try:
            if start.startswith(ZIP_MAGIC):
                return _read_archive(path, file)
            return read_tar(file, path.stat().st_size) if is_tar(start) else _read_legacy(path, file)
        except FormatError:
            raise
        except BROKEN as error:
            raise FormatError(
                path,
                f"cannot be read as a torch file ({type(error).__name__}: {error}); expected what torch.save "
                "or safetensors wrote, so download it again if it should be",
            ) from error


def _read_archive(path: Path, file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if any(name == "constants.pkl" or name.endswith("/constants.pkl") for name in names):
            raise FormatError(
                path,
                "is a TorchScript archive, which holds code, expected tensors; load it with torch.jit.load "
                "in a place where you trust it and save its state_dict() with torch.save",
            )
        roots = [name.removesuffix("data.pkl") for name in names if name.split("/")[1:] == ["data.pkl"]]
        if len(roots) != 1:
            raise FormatError(
                path, f"is a zip archive of {len(names)} files, expected one that torch.save wrote"
            )
        if f"{roots[0]}byteorder" in names and archive.read(f"{roots[0]}byteorder") != b"little":
            raise FormatError(path, "was written on a big-endian machine; save it again on a common one")
        storages: dict[str, torch.Tensor] = {}

        def find_storage(identifier: Any) -> Any:
            kind, dtype, key, _, count = identifier
            if kind != "storage":
                raise ValueError(f"persistent id of kind {kind!r}")
            if key not in storages:
                content = archive.read(f"{roots[0]}data/{key}")
                storages[key] = flat_tensor(dtype, count, len(content))
                fill_tensor(storages[key], content)
            return storages[key]

        return unpickle(archive.read(f"{roots[0]}data.pkl"), find_storage)


def _read_legacy(path: Path, file: BinaryIO) -> Any:
    if file.read(1) != b"\x80":
        raise FormatError(path, "is no weight file: expected what torch.save or safetensors wrote")
    file.seek(0)
    magic, protocol, system = unpickle(file), unpickle(file), unpickle(file)
    if magic != LEGACY_MAGIC or protocol != LEGACY_PROTOCOL:
        raise FormatError(path, "is a pickle but not a torch file; save it again with torch.save")
    if not system.get("little_endian", True):
        raise FormatError(path, "was written on a big-endian machine; save it again on a common one")
    storages = LegacyStorages(os.fstat(file.fileno()).st_size)
    content = unpickle(file, storages.find)
    for key in unpickle(file):
        storages.fill(key, file)
    storages.require_filled()
    return content


class LegacyStorages:
    """Storages that a pickle refers to before the file holds their bytes."""

    def __init__(self, file_size: int) -> None:
        self._left = file_size
        self._tensors: dict[Any, torch.Tensor] = {}
        self._unfilled: set[Any] = set()

    def find(self, identifier: Any) -> Any:
        """The flat tensor of a persistent id, filled later; for a module, its class."""
        kind, *data = identifier
        if kind == "module":
            return data[0]
        if kind != "storage":
            raise ValueError(f"persistent id of kind {kind!r}")
        dtype, key, _, count, view = data
        if key not in self._tensors:
            self._tensors[key] = flat_tensor(dtype, count, self._left)
            self._left -= count * dtype.itemsize
            self._unfilled.add(key)
        if view is None:
            return self._tensors[key]
        _, offset, length = view
        return self._tensors[key].narrow(0, offset, length)

    def fill(self, key: Any, file: BinaryIO) -> None:
        """Read the bytes of one storage, which stand behind their number of elements."""
        tensor = self._tensors[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count != tensor.numel():
            raise ValueError(f"storage {key!r} of {count} values, announced with {tensor.numel()}")
        fill_tensor(tensor, file.read(count * tensor.itemsize))
        self._unfilled.discard(key)

    def require_filled(self) -> None:
        """ValueError when the file holds no bytes for a storage."""
        if self._unfilled:
            raise ValueError(f"no data for {len(self._unfilled)} storages")
