"""Files that `torch.save` wrote, in both of its layouts (zip archive; bare pickles before torch 1.6).

The layouts are read here and not through `torch.load`, which may call TorchScript code or write patch files
on behalf of the file that it reads. Tensors come out on the CPU whatever device their storage names.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from evsim.errors import FormatError
from evsim.models.unpickling import unpickle

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def read_torch_file(path: Path) -> Any:
    """What was saved, with tensors on the CPU and `Inert` objects for foreign classes; nothing is run.

    Raises FormatError where the file is not complete, not a torch file, or a TorchScript archive.
    """
    with path.open("rb") as file:
        archive = file.read(4) == ZIP_MAGIC
        file.seek(0)
        try:
            return _read_archive(path, file) if archive else _read_legacy(path, file)
        except FormatError:
            raise
        except Exception as error:  # a broken pickle can raise anything that a call can raise
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
                storages[key] = _flat_tensor(bytearray(archive.read(f"{roots[0]}data/{key}")), dtype, count)
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
        self._buffers: dict[str, bytearray] = {}
        self._tensors: dict[Any, torch.Tensor] = {}
        self._unfilled: set[str] = set()

    def find(self, identifier: Any) -> Any:
        """The flat tensor of a persistent id, filled later; for a module, its class."""
        kind, *data = identifier
        if kind == "module":
            return data[0]
        if kind != "storage":
            raise ValueError(f"persistent id of kind {kind!r}")
        dtype, key, _, count, view = data
        if key not in self._tensors:
            self._make(key, dtype, count)
        if view is None:
            return self._tensors[key]
        _, offset, length = view
        return self._tensors[key].narrow(0, offset, length)

    def _make(self, key: str, dtype: torch.dtype, count: int) -> None:
        size = count * dtype.itemsize
        if not 0 <= size <= self._left:
            raise ValueError(f"storage {key!r} of {size} bytes is larger than what is left of the file")
        self._left -= size
        self._buffers[key] = bytearray(size)
        self._tensors[key] = _flat_tensor(self._buffers[key], dtype, count)
        self._unfilled.add(key)

    def fill(self, key: str, file: BinaryIO) -> None:
        """Read the bytes of one storage, which stand behind their number of elements."""
        (count,) = struct.unpack("<q", file.read(8))
        if count != self._tensors[key].numel() or _read_into(file, self._buffers[key]) != len(
            self._buffers[key]
        ):
            raise ValueError(f"storage {key!r} is cut short or has another length than announced")
        self._unfilled.discard(key)

    def require_filled(self) -> None:
        """ValueError when the file holds no bytes for a storage."""
        if self._unfilled:
            raise ValueError(f"no data for the storages {sorted(self._unfilled)}")


def _read_into(file: BinaryIO, buffer: bytearray) -> int:
    read: Callable[[memoryview], int] = file.readinto  # type: ignore[attr-defined]
    return read(memoryview(buffer))


def _flat_tensor(buffer: bytearray, dtype: torch.dtype, count: int) -> torch.Tensor:
    if not isinstance(dtype, torch.dtype) or count < 0 or count * dtype.itemsize > len(buffer):
        raise ValueError(f"storage of {count} values of {dtype} in {len(buffer)} bytes")
    return torch.frombuffer(buffer, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)
