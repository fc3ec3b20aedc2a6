"""Files that `torch.save` wrote, in each of its layouts: zip archive, bare pickles (before 1.6), tar (2017).

The layouts are read here and not through `torch.load`, which may call TorchScript code or write patch files
on behalf of the file that it reads. Tensors come out on the CPU whatever device their storage names.
"""

from __future__ import annotations

import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import torch

from evsim.archives import check_archive, fill_from_member, read_member
from evsim.errors import FormatError
from evsim.models.weights.torch_tar_files import is_tar, read_tar
from evsim.models.weights.unpickling import bytes_of, fill_tensor, flat_tensor, unpickle
from evsim.pickles.values import PickleError, printable

ZIP_MAGIC = b"PK\x03\x04"
BROKEN = (
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
"""What reading a damaged file can raise."""
NO_TORCH_FILE = "cannot be read as a torch file"
EXPECTED = "expected what torch.save or safetensors wrote, so download it again if it should be"
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
        except PickleError as error:
            raise FormatError(
                path, f"{NO_TORCH_FILE}: {error.what}; {EXPECTED}", place=error.place
            ) from error
        except BROKEN as error:
            words = printable(" ".join(str(error).split()), 200)
            raise FormatError(
                path, f"{NO_TORCH_FILE} ({type(error).__name__}: {words}); {EXPECTED}"
            ) from error


def _read_archive(path: Path, file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        check_archive(path, archive)
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
        if f"{roots[0]}byteorder" in names and read_member(archive, f"{roots[0]}byteorder") != b"little":
            raise FormatError(path, "was written on a big-endian machine; save it again on a common one")
        storages: dict[str, torch.Tensor] = {}

        def find_storage(identifier: Any) -> Any:
            dtype, key, count, _ = storage_id(identifier)
            if key not in storages:
                member = f"{roots[0]}data/{key}"
                storages[key] = flat_tensor(dtype, count, archive.getinfo(member).file_size)
                fill_from_member(archive, member, bytes_of(storages[key]))
            return storages[key]

        content = read_member(archive, f"{roots[0]}data.pkl")
        try:
            return unpickle(content, find_storage)
        except PickleError as error:
            raise error.inside("data.pkl") from error


def storage_id(identifier: Any) -> tuple[Any, str, Any, Any]:
    """Dtype, key, number of values and view of the storage that a persistent id names.

    Raises PickleError for an id of another kind.
    """
    if type(identifier) is not tuple or len(identifier) not in (5, 6) or identifier[0] != "storage":
        raise PickleError("a persistent id that names no storage")
    _, dtype, key, _, count, *view = identifier
    if type(key) is not str:
        raise PickleError("a storage whose key is no text")
    return dtype, key, count, view[0] if view else None


def _read_legacy(path: Path, file: BinaryIO) -> Any:
    if file.read(1) != b"\x80":
        raise FormatError(path, "is no weight file: expected what torch.save or safetensors wrote")
    file.seek(0)
    magic, protocol, system = unpickle(file), unpickle(file), unpickle(file)
    if magic != LEGACY_MAGIC or protocol != LEGACY_PROTOCOL:
        raise FormatError(path, "is a pickle but not a torch file; save it again with torch.save")
    if type(system) is dict and not system.get("little_endian", True):
        raise FormatError(path, "was written on a big-endian machine; save it again on a common one")
    storages = LegacyStorages(os.fstat(file.fileno()).st_size)
    content, keys = unpickle(file, storages.find), unpickle(file)
    if type(keys) is not list:
        raise PickleError("a pickle that is no list of storages")
    for key in keys:
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
        if type(identifier) is tuple and len(identifier) > 1 and identifier[0] == "module":
            return identifier[1]
        dtype, key, count, view = storage_id(identifier)
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
        if type(key) is not str or key not in self._unfilled:
            raise PickleError("a storage is filled that no tensor has, or twice")
        tensor = self._tensors[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count != tensor.numel():
            raise ValueError(f"storage {key!r} of {count} values, announced with {tensor.numel()}")
        fill_tensor(tensor, file)
        self._unfilled.discard(key)

    def require_filled(self) -> None:
        """ValueError when the file holds no bytes for a storage."""
        if self._unfilled:
            raise ValueError(f"no data for {len(self._unfilled)} storages")
