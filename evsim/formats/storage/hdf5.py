"""What HDF5 formats share: opening, checks before a read, messages, a file that survives a full disk."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from evsim.errors import EvsimError, FormatError, InputError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
RESERVE = 64 << 20
"""Bytes of the disk that a file of at least this length asks for at a time."""
INSTALL_PLUGIN = "pip install 'evsim[formats]' (or pip install hdf5plugin)"


@contextlib.contextmanager
def hdf5_errors(path: str | os.PathLike[str], place: str = "") -> Iterator[None]:
    """Turn whatever h5py raises inside the block into a FormatError that names the file and the place."""
    try:
        yield
    except EvsimError:
        raise
    except (
        OSError,
        RuntimeError,
        LookupError,
        AttributeError,
        ValueError,
        TypeError,
        OverflowError,
    ) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise FormatError(path, f"damaged or cut short: {first}", place=place) from error


def open_hdf5(path: Path) -> h5py.File:
    """The file opened for reading. Raises FormatError when it is damaged, cut short or no HDF5 file."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with hdf5_errors(path):
        return h5py.File(path, "r")


def holds(path: Path, head: bytes, *choices: tuple[str, ...]) -> bool:
    """True if the file is HDF5 and has every dataset of one of the choices.

    Raises FormatError for an HDF5 file that cannot be opened at all.
    """
    if not head.startswith(SIGNATURE):
        return False
    with open_hdf5(path) as file, hdf5_errors(path):
        return any(
            all(isinstance(file.get(name, getclass=False), h5py.Dataset) for name in names)
            for names in choices
        )


def checked_dataset(path: Path, dataset: h5py.Dataset) -> h5py.Dataset:
    """`dataset` if what is stored fits its declared shape.

    A damaged length makes the HDF5 library allocate or search without end: compare before reading. Raises
    FormatError for a mismatch, InputError when a compression filter is not installed.
    """
    place = dataset.name.lstrip("/")
    with hdf5_errors(path, place):
        length = int(np.prod(dataset.shape, dtype=object)) if dataset.shape is not None else -1
        if length < 0:
            raise FormatError(path, "has no shape, expected an array", place=place)
        if length == 0:
            return dataset
        if dataset.chunks:
            wanted = int(np.prod([-(-n // c) for n, c in zip(dataset.shape, dataset.chunks)], dtype=object))
            what = "chunks"
            if dataset.id.get_create_plist().get_nfilters():
                found = dataset.id.get_num_chunks()
            else:
                # Four times as fast as counting, which shows in files of many small chunks.
                each = int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize
                found, rest = divmod(dataset.id.get_storage_size(), each)
                found = -1 if rest else found
        else:
            wanted, found, what = length * dataset.dtype.itemsize, dataset.id.get_storage_size(), "bytes"
        if found != wanted:
            raise FormatError(
                path, f"declares shape {dataset.shape} and stores {found} of {wanted} {what}", place=place
            )
        _require_filters(path, dataset)
    return dataset


def _require_filters(path: Path, dataset: h5py.Dataset) -> None:
    properties = dataset.id.get_create_plist()
    for index in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(index)
        if h5py.h5z.filter_avail(code):
            continue
        with contextlib.suppress(ImportError):
            importlib.import_module("hdf5plugin")
        if not h5py.h5z.filter_avail(code):
            shown = name.decode(errors="replace") if name else "unnamed"
            raise InputError(
                f"{path}: {dataset.name} is compressed with HDF5 filter {code} ({shown}), "
                f"which is not installed: {INSTALL_PLUGIN}"
            )


def compression_filters(compression: str | None) -> dict[str, Any]:
    """h5py's arguments for compression None or "blosc" (zstd level 5 with byte shuffle, as DSEC has it).

    Raises InputError for another name, or without hdf5plugin.
    """
    if compression is None:
        return {}
    if compression != "blosc":
        raise InputError(f"compression {compression!r} is unknown; expected blosc, or none")
    try:
        plugin = importlib.import_module("hdf5plugin")
    except ImportError as error:
        raise InputError(f"blosc compression needs hdf5plugin: {INSTALL_PLUGIN}") from error
    return dict(plugin.Blosc(cname="zstd", clevel=5, shuffle=plugin.Blosc.SHUFFLE))


def plain(value: Any) -> Any:
    """An attribute as plain Python: numbers, text, lists."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    return value.item() if isinstance(value, np.generic) else value


def plain_attributes(path: Path, holder: h5py.File | h5py.Group) -> dict[str, Any]:
    """All attributes of a file or group as plain Python, in the order HDF5 lists them."""
    with hdf5_errors(path, "attributes"):
        return {
            name: plain(value) for name, value in holder.attrs.items() if not isinstance(value, h5py.Empty)
        }


class SurvivingFile:
    """A file for h5py's `fileobj` driver that never raises while HDF5 writes.

    The HDF5 library cannot close a file whose last blocks cannot be written, and may take the interpreter
    down at exit. Here the first refusal is kept in `failure` for the caller to raise, and what HDF5 writes
    from then on goes to memory, so that closing works. (Only the library's caches follow: a few megabytes.)
    """

    def __init__(self, path: Path) -> None:
        self.failure: OSError | None = None
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self._position = self._end = self._reserved = 0
        self._reserves = hasattr(os, "posix_fallocate")
        self._kept: list[tuple[int, bytes]] = []

    def raise_failure(self) -> None:
        """Raise the OSError that a write met, if any did."""
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """Close the descriptor; a refusal is kept like one of a write."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                try:
                    if os.fstat(descriptor).st_size > self._end:
                        os.ftruncate(descriptor, self._end)
                finally:
                    os.close(descriptor)
            except OSError as error:
                self.failure = self.failure or error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As io.RawIOBase.seek."""
        base = 0 if whence == os.SEEK_SET else self._position if whence == os.SEEK_CUR else self._size()
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """As io.RawIOBase.tell."""
        return self._position

    def write(self, data: Any) -> int:
        """Write all of `data`, or remember why not."""
        view = memoryview(data).cast("B")
        start = self._position
        self._position += len(view)
        self._end = max(self._end, self._position)
        self._reserve()
        done = 0
        while done < len(view) and self.failure is None:
            try:
                done += os.pwrite(self._descriptor, view[done:], start + done)
            except OSError as error:
                self.failure = error
        if done < len(view):
            self._kept.append((start + done, bytes(view[done:])))
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with what was written, also where the disk refused it."""
        view = memoryview(buffer).cast("B")
        start, stop = self._position, self._position + len(view)
        stored = os.pread(self._descriptor, len(view), start)
        view[: len(stored)] = stored
        view[len(stored) :] = bytes(len(view) - len(stored))
        for offset, data in self._kept:
            low, high = max(start, offset), min(stop, offset + len(data))
            if low < high:
                view[low - start : high - start] = data[low - offset : high - offset]
        self._position = stop
        return len(view)

    def read(self, size: int) -> bytes:
        """As io.RawIOBase.read, for a size that is given."""
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(buffer)])

    def truncate(self, size: int | None = None) -> int:
        """As io.RawIOBase.truncate."""
        length = self._position if size is None else size
        self._end, self._reserved = length, 0
        if self.failure is None:
            try:
                os.ftruncate(self._descriptor, length)
            except OSError as error:
                self.failure = error
        return length

    def flush(self) -> None:
        """Nothing is buffered here."""

    def _reserve(self) -> None:
        """Ask for the next blocks of a large file together, which takes less time than one by one."""
        if not self._reserves or self._end < max(RESERVE, self._reserved):
            return
        try:
            os.posix_fallocate(self._descriptor, self._end, RESERVE)
            self._reserved = self._end + RESERVE
        except OSError:
            self._reserves = False  # a write will say so if there really is no room

    def _size(self) -> int:
        return self._end
