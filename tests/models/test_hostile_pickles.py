"""Whatever a weight file asks for, reading it runs nothing, writes nothing and changes nothing."""

from __future__ import annotations

import contextlib
import copyreg
import os
import pickle
import random
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from evsim import models
from evsim.errors import CheckpointError, EvsimError, FormatError
from evsim.models.weights.checkpoints import read_checkpoint
from evsim.models.weights.torch_files import LEGACY_MAGIC, LEGACY_PROTOCOL
from evsim.models.weights.unpickling import unpickle
from evsim.pickles.values import Inert

CALLS: list[str] = []


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.what = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.what


class RunsOnState:
    """Would leave a trace when it is made or given state."""

    def __init__(self) -> None:
        self.value = 1

    def __getstate__(self) -> dict[str, int]:
        return {"value": 1}

    def __setstate__(self, state: Any) -> None:
        CALLS.append("setstate")


class RunsOnAppend(list):
    """Would leave a trace when something is appended to it."""

    def append(self, value: Any) -> None:
        CALLS.append("append")

    def extend(self, values: Any) -> None:
        CALLS.append("extend")


class RunsOnNew:
    """Would leave a trace when it is made without its constructor."""

    def __new__(cls, *arguments: Any) -> RunsOnNew:
        if arguments:
            CALLS.append("new")
        return super().__new__(cls)

    def __getnewargs__(self) -> tuple[int]:
        return (1,)


def leaves_a_trace(*arguments: Any) -> Any:
    CALLS.append("called")
    return arguments


@pytest.fixture(autouse=True)
def _quiet_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    monkeypatch.chdir(tmp_path)


def hostile(trace: Path) -> dict[str, Any]:
    return {
        "os.system": Calls(os.system, f"touch {trace}"),
        "eval": Calls(eval, f"open({str(trace)!r}, 'w')"),
        "getattr": Calls(getattr, Calls(__import__, "os"), "system"),
        "torch.save": Calls(torch.save, {}, str(trace)),
        "torch.load": Calls(torch.load, str(trace)),
        "a function here": Calls(leaves_a_trace, 1),
        "setstate": RunsOnState(),
        "append": RunsOnAppend([1, 2, 3]),
        "new": RunsOnNew(),
        "open": Calls(open, str(trace), "w"),
        "reconstructor": Calls(copyreg._reconstructor, RunsOnState, object, None),
        "ordered dict of calls": OrderedDict(a=Calls(leaves_a_trace)),
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", sorted(hostile(Path("x"))))
def test_nothing_of_a_hostile_file_runs(kind: str, zipped: bool, tmp_path: Path, plus_state: Any) -> None:
    trace, path = tmp_path / "trace", tmp_path / "model.pth"
    content = {"state_dict": plus_state, "config": hostile(trace)[kind]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    models.load_state("firenet", plus_state)  # torch imports parts of itself when they are first used
    modules = set(sys.modules)
    network = models.load("firenet", path)
    assert network.config.channels == 4
    assert CALLS == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model.pth"]
    assert set(sys.modules) == modules


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickled_network_object_is_refused_with_the_mend(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(RunsOnState(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"class test_hostile_pickles\.RunsOnState.*save its state_dict"
    ):
        models.load("firenet", path)
    assert CALLS == []


OPCODES = {
    "global and reduce": b"cos\nsystem\n(S'touch trace'\ntR.",
    "inst": b"(S'touch trace'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'touch trace'\no.",
    "newobj": b"\x80\x02cos\nsystem\n(S'touch trace'\nt\x81.",
    "newobj_ex": b"\x80\x04cos\nsystem\n(S'touch trace'\nt}\x92.",
    "dotted name": b"\x80\x04\x8c\x02os\x8c\x0bpath.exists\x93(S'x'\ntR.",
    "attribute of an allowed class": b"\x80\x04\x8c\x0bcollections\x8c\x1aOrderedDict.__subclasses__\x93(tR.",
    "storage as a function": b"\x80\x02ctorch.cuda\nsystem\n(S'touch trace'\ntR.",
}


@pytest.mark.parametrize("name", sorted(OPCODES))
def test_every_way_to_name_a_callable_gives_an_inert_object(name: str, tmp_path: Path) -> None:
    made = unpickle(OPCODES[name])
    assert isinstance(made, Inert)
    assert list(tmp_path.iterdir()) == []


SPOILING = {
    "attribute of a builder": b"ctorch._utils\n_rebuild_tensor_v2\n}S'_function'\ncos\nsystem\nsb.",
    "attribute of an inert class": b"cos\nsystem\n}S'x'\nI1\nsb.",
    "attribute of the ordered dict": b"ccollections\nOrderedDict\n}S'items'\nI1\nsb.",
    "attribute of a dtype": b"ctorch\nFloatStorage\n}S'x'\nI1\nsb.",
    "slots of a dtype": b"ctorch\nfloat32\n(N}S'x'\nI1\nstb.",
    "call of a dtype": b"ctorch\nFloatStorage\n(I9\ntR.",
    "call of an inert object": b"cos\nsystem\n(tR(S'touch trace'\ntR.",
    "nested getattr": b"c__builtin__\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'mkdir'\ntR(S'x'\ntR.",
    "object dtype": b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\ntRS'x'\ntR.",
    "long dtype": b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'f8,f8'\ntRS'x'\ntR.",
    "unknown codec": b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
    "tensor without storage": b"ctorch._utils\n_rebuild_tensor_v2\n(I1\nI0\n(t(tI00\nNtR.",
    "extension registry": b"\x80\x02\x82\x01.",
    "memo that is not there": b"g99\n.",
    "endless nesting": b"(" * 5 + b"l" * 9 + b".",
    "persistent id": b"S'x'\nQ.",
}


@pytest.mark.parametrize("name", sorted(SPOILING))
def test_a_pickle_cannot_change_what_it_is_given(name: str, tmp_path: Path) -> None:
    before = torch._utils._rebuild_tensor_v2
    with pytest.raises((pickle.UnpicklingError, TypeError, AttributeError, ValueError, IndexError, KeyError)):
        unpickle(SPOILING[name])
    assert torch._utils._rebuild_tensor_v2 is before
    assert not hasattr(Inert, "x")
    assert list(tmp_path.iterdir()) == []


class Shadowed:
    """Pickles as an ordered dictionary with an attribute called `items`."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, (), {"items": RunsOnState()}, None, iter(self.content.items())


def test_attributes_set_on_a_dictionary_do_not_shadow_its_methods(plus_state: Any, tmp_path: Path) -> None:
    torch.save({"state_dict": Shadowed(plus_state)}, tmp_path / "model.pth")
    assert models.load("firenet", tmp_path / "model.pth").config.bins == 3
    assert CALLS == []


def storage_file(path: Path, *, count: int, size: tuple[int, ...], offset: int = 0, kept: int = 4) -> None:
    """A legacy file of one tensor whose storage announces `count` values and holds `kept`."""

    class Storage:
        pass

    class TensorPickler(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            found = ("storage", torch.FloatStorage, "0", "cpu", count, None)
            return found if isinstance(thing, Storage) else None

    stride = tuple(range(len(size), 0, -1))
    call = Calls(torch._utils._rebuild_tensor_v2, Storage(), offset, size, stride, False, OrderedDict())
    with path.open("wb") as file:
        for value in (LEGACY_MAGIC, LEGACY_PROTOCOL, {"little_endian": True}):
            pickle.dump(value, file, 2)
        TensorPickler(file, 2).dump({"a": call})
        pickle.dump(["0"], file, 2)
        file.write(struct.pack("<q", kept) + bytes(4 * kept))


def test_a_plain_storage_is_read(tmp_path: Path) -> None:
    storage_file(tmp_path / "good.pth", count=4, size=(3,), offset=1)
    assert read_checkpoint(tmp_path / "good.pth").state()["a"].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "lie",
    [
        {"count": 4, "size": (9,)},
        {"count": 4, "size": (4,), "offset": 1},
        {"count": 4, "size": (2,), "offset": -1},
        {"count": 4, "size": (-2,)},
        {"count": 10**12, "size": (4,)},
        {"count": -4, "size": (4,)},
        {"count": 4, "size": (4,), "kept": 3},
    ],
    ids=str,
)
def test_a_tensor_never_reaches_outside_its_storage(lie: dict[str, Any], tmp_path: Path) -> None:
    storage_file(tmp_path / "lie.pth", **lie)
    with pytest.raises(FormatError, match=r"lie\.pth"):
        read_checkpoint(tmp_path / "lie.pth")


def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/data.pkl", pickle.dumps({}))
        archive.writestr("script/constants.pkl", pickle.dumps(()))
    with pytest.raises(FormatError, match="TorchScript archive"):
        read_checkpoint(tmp_path / "script.pt")


def test_source_code_in_a_file_writes_no_patch(tmp_path: Path) -> None:
    class ModulePickler(pickle.Pickler):
        seen = False

        def persistent_id(self, thing: Any) -> Any:
            if thing is not RunsOnState or self.seen:
                return None
            self.seen = True  # the class inside the identifier is pickled as a name
            return "module", RunsOnState, "file.py", "source"

    path = tmp_path / "module.pth"
    with path.open("wb") as file:
        for value in (LEGACY_MAGIC, LEGACY_PROTOCOL, {"little_endian": True}):
            pickle.dump(value, file, 2)
        ModulePickler(file, 2).dump({"a": RunsOnState()})
        pickle.dump([], file, 2)
    assert isinstance(read_checkpoint(path).content["a"], Inert)
    assert [entry.name for entry in tmp_path.iterdir()] == ["module.pth"]


@pytest.mark.parametrize("suffix", ["zip", "legacy", "safetensors"])
def test_damaged_files_are_one_kind_of_error(suffix: str, tmp_path: Path, plus_state: Any) -> None:
    path = tmp_path / f"model.{suffix}"
    if suffix == "safetensors":
        models.save(models.load_state("firenet", plus_state), path)
    else:
        torch.save({"state_dict": plus_state}, path, _use_new_zipfile_serialization=suffix == "zip")
    content, draw = path.read_bytes(), random.Random(0)
    for trial in range(150):
        damaged = bytearray(content)
        if trial % 3:
            for _ in range(3):
                damaged[draw.randrange(min(len(damaged), 3000))] = draw.randrange(256)
        else:
            damaged = damaged[: draw.randrange(len(damaged))]
        path.write_bytes(damaged)
        with contextlib.suppress(EvsimError):  # and nothing else
            models.load("firenet", path)
    assert CALLS == []
    assert len(list(tmp_path.iterdir())) == 1
