"""The bytes of a pickle, taken only after their announced number was compared with what is left."""

from __future__ import annotations

import os
from typing import BinaryIO

from evsim.pickles.values import PickleError


class Source:
    """A file read from where it stands; what lies behind the pickle stays unread.

    position: byte offset of the next byte. size: bytes from the start of the pickle to the end of the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.position = file.tell()
        self._end = file.seek(0, os.SEEK_END)
        file.seek(self.position)
        self.size = self._end - self.position

    @property
    def left(self) -> int:
        """How many bytes follow."""
        return self._end - self.position

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if not 0 <= count <= self._end - self.position:
            raise PickleError(f"{count} bytes are announced where {self.left} are left")
        content = self._file.read(count)
        self.position += count
        if len(content) != count:
            raise PickleError("it ends in the middle")
        return content

    def number(self, count: int) -> int:
        """The next `count` bytes as a little-endian whole number from 0 on."""
        return int.from_bytes(self.take(count), "little")

    def line(self, longest: int | None = None) -> bytes:
        """The text up to the next line end, without it, of `longest` bytes at most where that is given."""
        most = self.left if longest is None else min(longest + 1, self.left)
        content = self._file.readline(most)
        self.position += len(content)
        if not content.endswith(b"\n"):
            raise PickleError(
                "a line ends nowhere" if len(content) < most or longest is None else "a line is too long"
            )
        return content[:-1]
