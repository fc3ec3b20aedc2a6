"""Weight files that claim more than they hold are refused in one line, before memory is taken."""

from __future__ import annotations

import io
import pickle
import random
import resource
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from evsim import models
from evsim.errors import CheckpointError, EvsimError, FormatError
from evsim.models.weights.checkpoints import read_checkpoint
from evsim.models.weights.state import find_state
from evsim.models.weights.torch_files import LEGACY_MAGIC, LEGACY_PROTOCOL

MOST_GROWTH = 256 << 20


@pytest.fixture(autouse=True)
def _flat_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test here may raise the most memory that the process ever had by much."""
    monkeypatch.chdir(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_GROWTH


def legacy(path: Path, pickled: bytes) -> Path:
    start = b"".join(
        pickle.dumps(value, 2) for value in (LEGACY_MAGIC, LEGACY_PROTOCOL, {"little_endian": True})
    )
    path.write_bytes(start + pickled + pickle.dumps([], 2))
    return path


def zipped(path: Path, pickled: bytes, **storages: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key.removeprefix('s')}", content)
    return path


REFUSED = {
    "text of 64 GiB": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 36) + b".",
    "extension": b"\x80\x02\x82\x01.",
    "digits": b"\x80\x02I" + b"9" * 100_000 + b"\n.",
    "long digits": b"\x80\x02L" + b"9" * 100_000 + b"L\n.",
    "deep list": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "list that holds itself": b"\x80\x02]q\x00h\x00a.",
    "dictionary that holds itself": b"\x80\x02}q\x00X\x0a\x00\x00\x00state_dicth\x00s.",
    "laughs": b"\x80\x04K\x01\x94" + b"".join(b"h%c\x86\x94" % number for number in range(100)) + b".",
    "list as a key": b"\x80\x02}]K\x01s.",
    "deep tuple as a key": b"\x80\x02}N" + b"\x85" * 100_000 + b"Ns.",
    "deep tuple as a storage": b"\x80\x02(U\x07storageN" + b"\x85" * 100_000 + b"NNNtQ.",
    "call of a type": b"\x80\x02ctorch\nFloatStorage\n)R.",
}
EMPTY = {
    "memo": b"\x80\x02}r\x00e\xcd\x1d.",
    "the last place of the memo": b"\x80\x02}r\xff\xff\xff\xff.",
    "inert key": b"\x80\x02}ca\nb\n)\x81K\x01s.",
    "class made by a pickle": b"\x80\x02cbuiltins\ntype\n(X\x01\x00\x00\x00A)}t\x81.",
    "name": b"\x80\x02cos\nsystem\n.",
}


@pytest.mark.parametrize("layout", [legacy, zipped])
@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_what_a_pickle_claims_is_refused(
    kind: str, layout: Callable[[Path, bytes], Path], tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match=r"a\.pth \((data\.pkl, )?byte \d+\): .*expected what") as caught:
        read_checkpoint(layout(tmp_path / "a.pth", REFUSED[kind]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", [legacy, zipped])
@pytest.mark.parametrize("kind", sorted(EMPTY))
def test_what_is_harmless_holds_no_weights(
    kind: str, layout: Callable[[Path, bytes], Path], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"a\.pth holds .*expected tensors") as caught:
        models.load("firenet", layout(tmp_path / "a.pth", EMPTY[kind]))
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pth"]


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def tuple_of(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(size: tuple[int, ...], stride: tuple[int, ...], *, count: int = 1, kind: str = "Float") -> bytes:
    """A dictionary of one tensor of any size and stride on storage 0, as torch pickles it."""
    text = b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    storage = (
        b"(X\x07\x00\x00\x00storage" + f"ctorch\n{kind}Storage\n".encode() + text + number(count) + b"tQ"
    )
    view = storage + number(0) + tuple_of(*size) + tuple_of(*stride) + b"\x89}tR"
    return b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(" + view + b"s."


def test_a_small_tensor_may_be_saved_expanded(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.pth", tensor((3, 5), (0, 0)), s0=struct.pack("<f", 2.5))
    assert read_checkpoint(path).state()["a"].tolist() == [[2.5] * 5] * 3


@pytest.mark.parametrize(
    ("size", "stride", "count"),
    [
        ((10**6, 10**6), (0, 0), 1),
        ((200_000, 5, 3, 3), (0, 0, 0, 0), 1),
        ((0, 10**12), (1, 0), 1),
        ((2**61, 2**61), (0, 0), 1),
        ((2,), (2**61,), 1),
        ((1,) * 65, (1,) * 65, 1),
        ((1,), (1,), 2),
        ((1,), (1,), 10**15),
        ((1,), (1,), -1),
    ],
)
def test_a_tensor_is_no_larger_than_its_storage(
    size: tuple[int, ...], stride: tuple[int, ...], count: int, tmp_path: Path
) -> None:
    path = zipped(tmp_path / "a.pth", tensor(size, stride, count=count), s0=bytes(4))
    with pytest.raises(FormatError, match=r"a\.pth"):
        read_checkpoint(path)


def test_storages_are_no_larger_than_the_bytes_of_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    count = 500 << 20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", tensor((count,), (1,), count=count, kind="Byte"))
        with archive.open("archive/data/0", "w", force_zip64=True) as member:
            for _ in range(500):
                member.write(bytes(1 << 20))
    with pytest.raises(FormatError, match=r"a\.pth \(archive/data/0\): would unpack to"):
        read_checkpoint(path)
    torch.save({"a": torch.ones(1)}, path)
    whole = path.read_bytes()
    stored = whole.index(b"PK\x03\x04", 10)  # the second member
    central = whole.index(b"PK\x01\x02")
    central = whole.index(b"PK\x01\x02", central + 4)
    changed = bytearray(whole)
    for at in (stored + 18, central + 20):
        struct.pack_into("<II", changed, at, 2_000_000_000, 2_000_000_000)
    path.write_bytes(changed)
    with pytest.raises(FormatError, match="lies outside"):
        read_checkpoint(path)


def tar(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def pickled(*values: Any) -> bytes:
    return b"".join(pickle.dumps(value, 2) for value in values)


STORAGES = pickled(1, (1, "cpu", torch.FloatStorage)) + struct.pack("<q2f", 2, 0, 1) + pickled([])
TENSORS = pickled(1, ("7", 1, torch.FloatTensor)) + struct.pack("<q3q", 1, 2, 1, 0)
TARS = {
    "storage": {"storages": pickled(1, (1, "cpu", torch.FloatStorage)) + struct.pack("<q", 10**15)},
    "negative storage": {"storages": pickled(1, (1, "cpu", torch.FloatStorage)) + struct.pack("<q", -5)},
    "storage without an end": {"storages": pickled(10**18)},
    "dimensions": {"tensors": pickled(1, ("7", 1, torch.FloatTensor)) + struct.pack("<q", 2**31 - 1)},
    "size": {"tensors": pickled(1, ("7", 1, torch.FloatTensor)) + struct.pack("<q3q", 1, 10**12, 0, 0)},
    "key": {"tensors": pickled(1, (("7",), 1, torch.FloatTensor)) + struct.pack("<q3q", 1, 2, 1, 0)},
    "deep key": {"tensors": pickled(1) + b"N" + b"\x85" * 100_000 + b"NN\x87." + bytes(8)},
    "pickle": {"pickle": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 36) + b"."},
}


def test_an_honest_tar_file_is_read(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.pth", storages=STORAGES, tensors=TENSORS, pickle=b"}U\x01aU\x017Qs.")
    assert read_checkpoint(path).state()["a"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("kind", sorted(TARS))
def test_tar_files_that_lie_are_refused(kind: str, tmp_path: Path) -> None:
    honest = {"storages": STORAGES, "tensors": TENSORS, "pickle": b"}U\x01aU\x017Qs."}
    with pytest.raises(FormatError, match=r"a\.pth"):
        read_checkpoint(tar(tmp_path / "a.pth", **{**honest, **TARS[kind]}))


def test_a_network_too_large_for_its_file_is_never_made(tmp_path: Path) -> None:
    channels = 6000
    state = {"head.conv2d.weight": torch.zeros(channels, 3, 3, 3), "head.conv2d.bias": torch.zeros(channels)}
    torch.save(state, tmp_path / "a.pth")  # recurrent layers of 23 GB would follow from it
    with pytest.raises(CheckpointError, match="22 of 24 keys missing"):
        models.load("firenet", tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="channels = 6000"):
        models.load("firenet", tmp_path / "a.pth", channels=2**40)


def test_keys_of_a_file_are_shown_in_one_line() -> None:
    with pytest.raises(CheckpointError) as caught:
        find_state({"a\n\x1b[2J" + "b" * 5000: 1}, "x.pth")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_mutants_of_an_honest_file_raise_errors_of_ours_only(
    kind: str, tmp_path: Path, plus_state: dict[str, torch.Tensor]
) -> None:
    honest, path = tmp_path / "honest.pth", tmp_path / "a.pth"
    torch.save({"state_dict": plus_state, "epoch": 3}, honest, _use_new_zipfile_serialization=kind == "zip")
    draw, said = random.Random(1), []
    for trial in range(200):
        if kind == "zip":  # inside the archive, whose checksums would find any damage first
            with zipfile.ZipFile(honest) as archive, zipfile.ZipFile(path, "w") as changed:
                for name in archive.namelist():
                    content = archive.read(name)
                    changed.writestr(name, mutant(content, draw, trial) if name.endswith(".pkl") else content)
        else:
            path.write_bytes(mutant(honest.read_bytes(), draw, trial))
        try:
            models.load("firenet", path)
        except EvsimError as error:
            said.append(str(error))
    assert len(said) > 50
    assert not any("\n" in message for message in said)


def mutant(content: bytes, draw: random.Random, trial: int) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice([1, 2, 4])):
        changed[draw.randrange(min(len(changed), 3000))] = draw.randrange(256)
    return bytes(changed[: draw.randrange(len(changed))] if trial % 10 == 0 else changed)
