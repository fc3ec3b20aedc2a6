"""A zip archive that claims more than its bytes can hold is refused before anything is unpacked."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from evsim.archives import check_archive, fill_from_member, read_member
from evsim.errors import FormatError

CLAIM = 1 << 40


def archive_at(path: Path, content: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a", content)
    return path


def patched(path: Path, *, local: int | None, central: int) -> None:
    """Write another unpacked size into the two headers of the only member."""
    whole = bytearray(path.read_bytes())
    at = whole.index(b"PK\x01\x02")
    struct.pack_into("<I", whole, at + 24, central)
    if local is not None:
        struct.pack_into("<I", whole, 22, local)
    path.write_bytes(whole)


def checked(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        check_archive(path, archive)


def test_honest_archives_pass_and_are_read_whole(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = archive_at(tmp_path / f"{method}.zip", bytes(100_000) + b"end", method)
        checked(path)
        with zipfile.ZipFile(path) as archive:
            assert read_member(archive, "a") == bytes(100_000) + b"end"
            target = bytearray(100_003)
            fill_from_member(archive, "a", memoryview(target))
            assert target.endswith(b"end")
            with pytest.raises(zipfile.BadZipFile, match="a is cut short"):
                fill_from_member(archive, "a", memoryview(bytearray(100_004)))


def test_a_stored_member_holds_what_it_claims(tmp_path: Path) -> None:
    patched(archive_at(tmp_path / "a.zip", b"1234"), local=4_000_000_000, central=4_000_000_000)
    with pytest.raises(FormatError, match=r"a\.zip \(a\): claims 4000000000 bytes and holds 4"):
        checked(tmp_path / "a.zip")


def test_a_packed_member_unpacks_to_what_its_bytes_explain(tmp_path: Path) -> None:
    path = archive_at(tmp_path / "a.zip", bytes(1000), zipfile.ZIP_DEFLATED)
    patched(path, local=4_000_000_000, central=4_000_000_000)
    with pytest.raises(FormatError, match="would unpack to 4000000000 bytes"):
        checked(path)


def test_a_member_that_hides_its_size_is_unpacked_no_further(tmp_path: Path) -> None:
    path = archive_at(tmp_path / "a.zip", bytes(200 << 20), zipfile.ZIP_DEFLATED)
    patched(path, local=1000, central=1000)
    checked(path)
    tracemalloc.start()
    try:
        with zipfile.ZipFile(path) as archive, pytest.raises((zipfile.BadZipFile, zlib.error)):
            read_member(archive, "a")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_members_over_each_other_or_outside_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in "abcdefgh":
            archive.writestr(name, bytes(1000))
    whole = bytearray(path.read_bytes())
    places = [at for at in range(len(whole)) if whole.startswith(b"PK\x01\x02", at)]
    for at in places:
        struct.pack_into("<II", whole, at + 20, 5000, 5000)  # each reaches over those behind it
        struct.pack_into("<I", whole, at + 42, 0)
    path.write_bytes(whole)
    with pytest.raises(FormatError, match="claim more than the"):
        checked(path)
    struct.pack_into("<I", whole, places[0] + 42, len(whole) - 10)
    path.write_bytes(whole)
    with pytest.raises(FormatError, match="lies outside"):
        checked(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_methods_that_unpack_without_bounds_are_refused(method: int, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="expected plain or deflated"):
        checked(archive_at(tmp_path / "a.zip", bytes(1000), method))
