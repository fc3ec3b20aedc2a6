"""Pickled events of GEM samples are read as data; hostile samples are refused with little memory."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evsim.errors import EvsimError, FormatError
from evsim.formats import open_events

BOUNDS = {"exp_start1": 0, "exp_end1": 100, "exp_start2": 200, "exp_end2": 300}
COLUMNS = {
    "t": np.arange(40) * 10,
    "x": np.arange(40) % 4,
    "y": np.arange(40) % 3,
    "p": np.array([1, -1] * 20),
}


def sample(path: Path, **columns: Any) -> Path:
    """A sample as published: the columns in a pickled dictionary."""
    events = np.array({**COLUMNS, **columns}, dtype=object)
    np.savez(path, events=events, blur1=np.zeros((3, 3, 4), np.uint8), scale_factor=1, **BOUNDS)
    return path


def with_member(source: Path, target: Path, name: str, content: bytes) -> Path:
    """The archive with other bytes in one member."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as changed:
        for member in archive.namelist():
            changed.writestr(member, content if member == name else archive.read(member))
    return target


def with_pickle(tmp_path: Path, pickled: bytes) -> Path:
    return with_member(sample(tmp_path / "honest.npz"), tmp_path / "a.npz", "events.npy", OBJECT + pickled)


OBJECT = b"\x93NUMPY\x01\x00\x36\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': ()} \n".ljust(54)


def read(path: Path) -> None:
    with open_events(path, size=(4, 3)) as recording:
        recording.events()
        list(recording.images())


@pytest.mark.parametrize("kind", ["i8", "f8", "u2", ">i4", "b1"])
def test_columns_of_any_kind_of_number_are_read(kind: str, tmp_path: Path) -> None:
    path = sample(tmp_path / "a.npz", p=(np.arange(40) % 2).astype(kind), x=(np.arange(40) % 2).astype(kind))
    with open_events(path) as recording:
        events = recording.events()
    assert events.x.tolist() == (np.arange(40) % 2).tolist()
    assert events.t.tolist() == COLUMNS["t"].tolist()


def text(word: str) -> bytes:
    return b"\x8c" + bytes([len(word)]) + word.encode()


def name(module: str, word: str) -> bytes:
    return text(module) + text(word) + b"\x93"


def forged(code: str, content: bytes) -> bytes:
    """A dictionary with a scalar of the given type made of the bytes, as numpy would unpickle it."""
    dtype = name("numpy", "dtype") + text(code) + b"\x89\x88\x87R(K\x03" + text("|") + b"NNNJ\xff\xff\xff\xff"
    dtype += b"J\xff\xff\xff\xffK?tb"
    scalar = name("numpy._core.multiarray", "scalar") + dtype + b"C" + bytes([len(content)]) + content
    return b"\x80\x04}(" + text("t") + scalar + b"\x86Ru."


HOSTILE = {
    "object pointer": forged("O8", struct.pack("<Q", 0x4141414141414141)),
    "structure": forged("V8", bytes(8)),
    "call": b"\x80\x04" + name("posix", "system") + text("touch trace") + b"\x85R.",
    "length": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**63 - 1) + b".",
    "long": b"\x80\x02\x8b\x00\xca\x9a;" + b"\xff" * 10 + b".",
    "memo": b"\x80\x04}r\x00e\xcd\x1d.",
    "hex": b"\x80\x04" + (name("_codecs", "encode") + text("ab") + text("hex") + b"\x86R") + b".",
    "inert columns": b"\x80\x04}(" + b"".join(text(key) + name("numpy", "ndarray") for key in "txyp") + b"u.",
    "no dictionary": b"\x80\x04]K\x01a.",
}


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_hostile_samples_are_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = with_pickle(tmp_path, HOSTILE[kind])
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=r"a\.npz \(events[,)]") as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "trace").exists()


def header(descr: str, shape: str) -> bytes:
    body = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body


HEADS = {
    "huge": header("<f4", "(3, 100000, 100000)"),
    "beyond 64 bits": header("<f4", "(4294967296, 4294967296, 4294967296)"),
    "negative": header("<f4", "(-1, -1)"),
    "nothing times much": header("<f4", f"(0, {2**62})"),
    "empty items": header("<U0", "(1000000000000,)"),
    "objects": header("|O", "(1,)"),
    "parentheses": header("<f4", "(" * 5000 + ")" * 5000)[:9000],
    "minus signs": header("<f4", "-" * 6000 + "1"),
    "another version": b"\x93NUMPY\x09\x00" + header("<f4", "(1,)")[8:] + bytes(4),
    "no header": b"nothing of the kind",
    "cut short": header("<f4", "(3, 4, 5)") + bytes(100),
}


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_heads_of_arrays_are_compared_with_their_bytes(kind: str, tmp_path: Path) -> None:
    path = with_member(sample(tmp_path / "honest.npz"), tmp_path / "a.npz", "blur1.npy", HEADS[kind])
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=r"a\.npz \(blur1\)"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_an_array_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    big = np.zeros(400 << 20, np.uint8)
    np.savez_compressed(tmp_path / "a.npz", blur1=big, **BOUNDS, events=np.array(COLUMNS, dtype=object))
    with pytest.raises(FormatError, match="would unpack to"):
        read(tmp_path / "a.npz")


def test_mutants_of_an_honest_sample_raise_errors_of_ours_only(tmp_path: Path) -> None:
    honest = sample(tmp_path / "honest.npz")
    with zipfile.ZipFile(honest) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    draw = random.Random(0)
    refused = 0
    tracemalloc.start()
    try:
        for number in range(200):
            member = draw.choice(["events.npy"] * 6 + ["blur1.npy", "exp_end1.npy"])
            mutant = bytearray(members[member])
            for _ in range(draw.choice([1, 2, 4])):
                mutant[draw.randrange(len(mutant))] = draw.randrange(256)
            if number % 10 == 0:
                del mutant[draw.randrange(len(mutant)) :]
            try:
                read(with_member(honest, tmp_path / "a.npz", member, bytes(mutant)))
            except EvsimError as error:
                refused += 1
                assert_one_line(error)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert refused > 50


def assert_one_line(error: Exception) -> None:
    assert "\n" not in str(error)
