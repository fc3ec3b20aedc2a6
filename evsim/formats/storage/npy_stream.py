"""Arrays in the .npy layout written piece by piece, when their length is known only at the end."""

from __future__ import annotations

import io
import mmap
import shutil
import tokenize
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import DTypeLike, NDArray

from evsim.errors import FormatError

MAGIC = b"\x93NUMPY"
HEADER_ERRORS = (OSError, ValueError, EOFError, SyntaxError, TypeError, OverflowError, tokenize.TokenError)
"""What numpy raises for a damaged header, which it reads as a Python literal."""


def npy_header(dtype: np.dtype, shape: tuple[int, ...], *, fortran: bool = False) -> bytes:
    """The bytes that numpy.save writes before the data; their number does not depend on shape[0]."""
    buffer = io.BytesIO()
    description = {
        "descr": npy_format.dtype_to_descr(dtype),
        "fortran_order": fortran,
        "shape": shape,
    }
    npy_format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()


class NpyColumn:
    """A C-ordered array written row by row to an open file; `finish` puts the true length into the header."""

    def __init__(self, file: IO[bytes], dtype: DTypeLike, row_shape: tuple[int, ...] = ()) -> None:
        self.file = file
        self.dtype = np.dtype(dtype)
        self.row_shape = row_shape
        self.length = 0
        self.file.write(npy_header(self.dtype, (0, *row_shape)))

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows so far, ...)."""
        return (self.length, *self.row_shape)

    def append(self, rows: NDArray) -> None:
        """Add rows, converted to the column's dtype."""
        block = np.ascontiguousarray(rows, self.dtype).reshape(-1, *self.row_shape)
        self.file.write(block.data if block.size else b"")
        self.length += len(block)

    def finish(self) -> None:
        """Write the header again, now with the length."""
        self.rewrite_header(npy_header(self.dtype, self.shape))
        self.file.flush()

    def rewrite_header(self, header: bytes) -> None:
        """Replace the header by another of equal length."""
        if len(header) != len(npy_header(self.dtype, (0, *self.row_shape))):
            raise ValueError(f"header of {len(header)} bytes does not fit the place kept for it")
        self.file.seek(0)
        self.file.write(header)
        self.file.seek(0, io.SEEK_END)

    def rows(self, start: int, stop: int) -> NDArray:
        """Rows start..stop-1 of what was written so far."""
        row_bytes = self.dtype.itemsize * int(np.prod(self.row_shape, dtype=np.int64))
        self.file.seek(len(npy_header(self.dtype, (0, *self.row_shape))) + start * row_bytes)
        data = self.file.read((stop - start) * row_bytes)
        self.file.seek(0, io.SEEK_END)
        return np.frombuffer(data, self.dtype).reshape(-1, *self.row_shape)

    def copy_data_to(self, target: IO[bytes]) -> None:
        """Append the data, without header, to another file."""
        self.file.flush()
        self.file.seek(len(npy_header(self.dtype, (0, *self.row_shape))))
        shutil.copyfileobj(self.file, target, 1 << 20)


def release_pages(*arrays: Any) -> None:
    """Let go of what was read through maps so far: else a pass over a large file counts as memory in use."""
    for array in arrays:
        mapping = getattr(array, "_mmap", None)
        if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)


def map_npy(path: Path) -> NDArray:
    """The array in a .npy file, mapped into memory. Raises FormatError when it is damaged or pickled."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except HEADER_ERRORS as error:
        raise FormatError(
            path, f"damaged or no plain .npy file: {(str(error) or 'cut short').splitlines()[0]}"
        ) from error
