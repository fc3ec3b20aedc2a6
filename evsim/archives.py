"""Zip archives from anywhere: what a member claims to unpack to is compared with its own bytes first."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from evsim.errors import FormatError

COMPRESSION = 100
ROOM = 256 << 20
"""What compressed members may unpack to: so many times their bytes in the archive, and so many bytes more."""

HEADER = 30
"""Bytes before the name of a member."""

PIECE = 16 << 20
READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def check_archive(path: str | os.PathLike[str], archive: zipfile.ZipFile) -> None:
    """Refuse an archive whose members claim more than the bytes of the file can hold.

    Raises FormatError that names the member: one stored plainly whose two sizes differ, one packed by a
    method that cannot be unpacked piece by piece, members that lie over each other, far too much to unpack.
    """
    size = Path(path).stat().st_size
    packed = unpacked = 0
    for member in archive.infolist():
        place = _shown(member.filename)
        if member.compress_type not in READABLE:
            raise FormatError(
                path, f"is packed by method {member.compress_type}, expected plain or deflated", place=place
            )
        if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
            raise FormatError(
                path, f"claims {member.file_size} bytes and holds {member.compress_size}", place=place
            )
        if not 0 <= member.header_offset <= size - HEADER - member.compress_size:
            raise FormatError(path, f"lies outside the {size} bytes of the file", place=place)
        packed += member.compress_size
        unpacked += member.file_size
        if packed > size:
            raise FormatError(path, f"its members claim more than the {size} bytes of the file", place=place)
        if unpacked > COMPRESSION * packed + ROOM:
            raise FormatError(
                path, f"would unpack to {unpacked} bytes and more from a file of {size}", place=place
            )


def read_member(archive: zipfile.ZipFile, member: str | zipfile.ZipInfo) -> bytes:
    """All bytes of a member, never more than the archive says it holds.

    Raises zipfile.BadZipFile where there are fewer, or where they are damaged.
    """
    info = archive.getinfo(member) if isinstance(member, str) else member
    with archive.open(info) as opened:
        # Without a size, all that the compressed bytes unpack to would be made before it is cut.
        content = opened.read(info.file_size)
        complete = len(content) == info.file_size and not opened.read(1)
    if not complete:
        raise zipfile.BadZipFile(f"{_shown(info.filename)} is cut short")
    return content


def fill_from_member(archive: zipfile.ZipFile, member: str, target: memoryview) -> None:
    """Fill a buffer of bytes with the start of a member, piece by piece.

    Raises zipfile.BadZipFile where the member is shorter, or where its bytes are damaged.
    """
    filled = 0
    with archive.open(member) as opened:
        while filled < len(target):
            piece = opened.read(min(PIECE, len(target) - filled))
            if not piece:
                raise zipfile.BadZipFile(f"{_shown(member)} is cut short")
            target[filled : filled + len(piece)] = piece
            filled += len(piece)


def _shown(name: str) -> str:
    return ascii(name)[1:-1][:200]
