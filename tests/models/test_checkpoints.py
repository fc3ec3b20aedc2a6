"""Weight files of every layout, ours and the authors', and what is said about files that do not fit."""

from __future__ import annotations

import io
import os
import pickle
import stat
import struct
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from evsim import models
from evsim.errors import CheckpointError, ConfigError, FormatError, InputError
from evsim.models.weights.checkpoints import read_checkpoint
from evsim.models.weights.state import (
    PublishedState,
    drop_aliases,
    find_problems,
    find_state,
    rename_key,
    strip_prefixes,
)
from evsim.models.weights.torch_files import LEGACY_MAGIC, LEGACY_PROTOCOL
from evsim.pickles.values import Inert

LAYOUTS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


@LAYOUTS
def test_tensors_of_every_kind_are_read_as_torch_reads_them(zipped: bool, tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    saved = {
        "whole": base,
        "transposed": base.t(),
        "part": base[1:3, ::2],
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "parameter": nn.Parameter(torch.randn(3)),
        "long": torch.tensor([1, -(2**40)]),
        "half": torch.randn(5).half(),
        "brain": torch.randn(5).bfloat16(),
        "bool": torch.tensor([True, False]),
        "byte": torch.tensor([1, 255], dtype=torch.uint8),
        "double": torch.randn(2, 2, dtype=torch.float64),
        "complex": torch.randn(2, dtype=torch.complex64),
    }
    torch.save(saved, tmp_path / "t.pth", _use_new_zipfile_serialization=zipped)
    wanted = torch.load(tmp_path / "t.pth", weights_only=True)
    given = read_checkpoint(tmp_path / "t.pth").content
    assert list(given) == list(wanted)
    for key, value in given.items():
        assert value.dtype == wanted[key].dtype
        assert torch.equal(value, wanted[key])
    assert not given["parameter"].requires_grad


@LAYOUTS
def test_plain_values_beside_the_tensors_survive(zipped: bool, tmp_path: Path) -> None:
    saved = {
        "epoch": 233,
        "best": np.float64(0.125),
        "count": np.int32(-7),
        "shape": torch.Size([2, 3]),
        "options": OrderedDict(name="x", sizes=[1, 2], pair=(None, True)),
        "bytes": b"\x00\xff",
        "place": Path("some/where"),
        "device": torch.device("cuda:1"),
        "dtype": torch.float32,
    }
    torch.save(saved, tmp_path / "t.pth", _use_new_zipfile_serialization=zipped)
    given = read_checkpoint(tmp_path / "t.pth").content
    assert given["epoch"] == 233
    assert (given["best"], given["count"]) == (0.125, -7)
    assert given["shape"] == (2, 3)
    assert given["options"] == {"name": "x", "sizes": [1, 2], "pair": (None, True)}
    assert given["bytes"] == b"\x00\xff"
    assert given["dtype"] is torch.float32
    assert isinstance(given["place"], Inert)
    assert given["place"].origin == "pathlib.PosixPath"
    assert given["place"].arguments == ("some", "where")


def test_views_of_old_legacy_files_are_read(tmp_path: Path) -> None:
    class ViewPickler(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            place = ("storage", torch.FloatStorage, "root", "cuda:0", 6, ("view", 2, 3))
            return place if thing == "the storage" else None

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            arguments = ("the storage", 1, (2,), (1,), False, OrderedDict())
            return torch._utils._rebuild_tensor_v2, arguments

    path = tmp_path / "views.pth"
    with path.open("wb") as file:
        for value in (LEGACY_MAGIC, LEGACY_PROTOCOL, {"little_endian": True}):
            pickle.dump(value, file, 2)
        ViewPickler(file, 2).dump({"a": Tensor()})
        pickle.dump(["root"], file, 2)
        file.write(struct.pack("<q6f", 6, 0, 1, 2, 3, 4, 5))
    assert read_checkpoint(path).state()["a"].tolist() == [3.0, 4.0]


def test_tar_files_of_the_first_torch_are_read(tmp_path: Path) -> None:
    class TensorPickler(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            return "77" if thing == "the tensor" else None

    def pickled(*values: Any) -> bytes:
        return b"".join(pickle.dumps(value, 2) for value in values)

    content = io.BytesIO()
    TensorPickler(content, 2).dump({"a": "the tensor"})
    views = pickled([(2, 1, 1, 5)])  # key 2 is a view of storage 1 from its second value on
    members = {
        "storages": pickled(1, (1, "cpu", torch.FloatStorage)) + struct.pack("<q6f", 6, *range(6)) + views,
        "tensors": pickled(1, ("77", 2, torch.FloatTensor)) + struct.pack("<q5q", 2, 2, 2, 1, 2, 1),
        "pickle": content.getvalue(),
    }
    with tarfile.open(tmp_path / "old.pth", "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert read_checkpoint(tmp_path / "old.pth").state()["a"].tolist() == [[2.0, 4.0], [3.0, 5.0]]
    whole = (tmp_path / "old.pth").read_bytes()
    for length in range(520, 2900, 97):
        (tmp_path / "old.pth").write_bytes(whole[:length])
        with pytest.raises(FormatError):
            read_checkpoint(tmp_path / "old.pth")


def test_storages_of_a_gpu_are_read_on_the_cpu(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "t.pth", _use_new_zipfile_serialization=False)
    tagged = (tmp_path / "t.pth").read_bytes().replace(b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:3")
    (tmp_path / "t.pth").write_bytes(tagged)
    assert read_checkpoint(tmp_path / "t.pth").state()["a"].device.type == "cpu"


@pytest.mark.needs_data
@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("firenet_plus.pth", 24),
        ("firenet_plus_state_dict.pth", 24),
        ("letc.pth", 10),
        ("trilinear_init.pth", 6),
    ],
)
def test_published_files_hold_what_torch_finds(name: str, tensors: int, data: Path) -> None:
    state = read_checkpoint(data / name).state()
    assert len(state) == tensors
    if name != "firenet_plus.pth":  # which torch refuses without running it
        content = torch.load(data / name, weights_only=True, map_location="cpu")
        wanted = content.get("state_dict", content)
        assert all(torch.equal(state[key], wanted[key]) for key in wanted)


@pytest.mark.needs_data
def test_the_pickled_configuration_of_a_published_file_stays_readable(data: Path) -> None:
    content = read_checkpoint(data / "firenet_plus.pth").content
    assert (content["arch"], content["epoch"]) == ("FireNet", 233)
    assert content["config"].origin == "parse_config.ConfigParser"
    assert content["config"].state["_config"]["trainer"]["epochs"] > 0
    plain = read_checkpoint(data / "firenet_plus_state_dict.pth").state()
    given = read_checkpoint(data / "firenet_plus.pth").state()
    assert all(torch.equal(given[key], plain[key]) for key in plain)


def test_what_save_writes_load_reads(plus_state: Any, tmp_path: Path) -> None:
    network = models.load_state("firenet", plus_state, normalize_voxels=True)
    path = models.save(network, tmp_path / "a.safetensors")
    loaded = models.load("firenet", path)
    assert loaded.config == network.config
    assert not loaded.training
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_saved_files_are_equal_byte_for_byte_and_open_to_other_tools(plus_state: Any, tmp_path: Path) -> None:
    network = models.load_state("firenet", plus_state)
    first = models.save(network, tmp_path / "a.safetensors")
    second = models.save(models.load("firenet", first), tmp_path / "b.safetensors")
    assert first.read_bytes() == second.read_bytes()
    assert sorted(load_file(first)) == sorted(network.state_dict())
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(first.stat().st_mode) == 0o666 & ~umask


def test_a_compiled_network_and_tied_weights_are_saved_under_plain_names(
    plus_state: Any, tmp_path: Path
) -> None:
    network: Any = models.load_state("firenet", plus_state)
    network.recurrent2.out_gate.weight = network.recurrent1.out_gate.weight
    path = models.save(torch.compile(network, backend="eager"), tmp_path / "compiled.safetensors")
    loaded: Any = models.load("firenet", path)
    assert torch.equal(loaded.recurrent2.out_gate.weight, network.recurrent1.out_gate.weight)


def test_saving_refuses_what_it_cannot_write(plus_state: Any, tmp_path: Path) -> None:
    network = models.load_state("firenet", plus_state)
    models.save(network, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="exists"):
        models.save(network, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"\.safetensors"):
        models.save(network, tmp_path / "a.pth")
    with pytest.raises(InputError, match="Linear is no network"):
        models.save(nn.Linear(1, 1), tmp_path / "b.safetensors")


def test_published_tensors_in_a_safetensors_file_are_taken(plus_state: Any, tmp_path: Path) -> None:
    save_file(plus_state, tmp_path / "converted.safetensors")
    assert models.load("firenet", tmp_path / "converted.safetensors").config.channels == 4


@pytest.mark.parametrize(
    ("metadata", "error", "words"),
    [
        ({"evsim": "{"}, FormatError, "not what evsim writes"),
        ({"evsim": '{"network": "firenet", "config": {}, "version": 9}'}, FormatError, "version 9"),
        (
            {"evsim": '{"network": "raft", "config": {}, "version": 1}'},
            CheckpointError,
            "'raft', expected 'firenet'",
        ),
        (
            {"evsim": '{"network": "firenet", "config": {"bin": 3}, "version": 1}'},
            ConfigError,
            "did you mean 'bins'",
        ),
    ],
)
def test_a_header_that_does_not_fit_is_an_error(
    metadata: dict[str, str], error: type[Exception], words: str, plus_state: Any, tmp_path: Path
) -> None:
    save_file(plus_state, tmp_path / "x.safetensors", metadata)
    with pytest.raises(error, match=words):
        models.load("firenet", tmp_path / "x.safetensors")


def test_a_wrong_path_or_kind_of_file_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weight file"):
        models.load("firenet", tmp_path / "absent.pth")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html>")
    with pytest.raises(FormatError, match=r"page\.pth: is no weight file"):
        models.load("firenet", tmp_path / "page.pth")
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps({}) * 3)
    with pytest.raises(FormatError, match="a pickle but not a torch file"):
        models.load("firenet", tmp_path / "pickle.pth")


@pytest.mark.parametrize("wrap", ["state_dict", "model_state", "networks", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.module.", "_orig_mod.module."])
def test_wrappings_and_prefixes_of_training_scripts_come_off(wrap: str, prefix: str, plus_state: Any) -> None:
    wrapped = {"epoch": 3, wrap: {prefix + key: value for key, value in plus_state.items()}}
    assert models.load_state("firenet", wrapped).config.bins == 3


def test_every_key_that_does_not_fit_is_named(plus_state: Any) -> None:
    state = dict(plus_state)
    del state["G1.update_gate.weight"]
    state["G2.fourth_gate.weight"] = torch.zeros(1)
    state["R1.conv1.weight"] = torch.zeros(4, 4, 5, 5)
    state["R2.conv1.bias"] = torch.zeros(4, dtype=torch.int64)
    state["R2.conv2.bias"] = torch.full((4,), float("nan"))
    with pytest.raises(CheckpointError) as caught:
        models.load_state("firenet", state)
    text = str(caught.value)
    assert "1 of 24 keys missing: G1.update_gate.weight" in text
    assert "1 keys left over: G2.fourth_gate.weight" in text
    assert "R1.conv1.weight [4, 4, 5, 5] expected [4, 4, 3, 3]" in text
    assert "R2.conv1.bias torch.int64 expected torch.float32" in text
    assert "1 not finite: R2.conv2.bias" in text
    with pytest.raises(CheckpointError, match="and 16 more") as caught:
        models.load_state("firenet", {"other.weight": torch.zeros(1)})
    missing, extra = caught.value.details
    assert missing == f"24 of 24 keys missing: {', '.join(plus_state)}"
    assert extra == "1 keys left over: other.weight"


def test_weights_of_half_precision_are_widened(plus_state: Any) -> None:
    network = models.load_state("firenet", {key: value.half() for key, value in plus_state.items()})
    assert network.head.weight.dtype == torch.float32


def test_a_state_without_tensors_says_what_was_found() -> None:
    with pytest.raises(CheckpointError, match="1 tensors beside epoch, expected tensors by name"):
        find_state({"a": torch.zeros(1), "epoch": 3}, "x.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        find_state([1], "x.pth")


def test_second_names_of_a_tensor_are_dropped() -> None:
    one, two = torch.ones(1), torch.zeros(1)
    aliases = {"second": "first"}
    assert drop_aliases({"first": one, "second": two}, aliases) == {"first": one}
    assert drop_aliases({"second": two}, aliases) == {"first": two}


def test_only_prefixes_that_all_keys_carry_come_off() -> None:
    tensor = torch.ones(1)
    assert strip_prefixes({"module.a": tensor, "b": tensor}, ["module."]) == {"module.a": tensor, "b": tensor}
    assert (
        rename_key("net.resblocks.0.conv.x", {"net.resblocks.0": "a", "net.resblocks.0.conv": "b"}) == "b.x"
    )
    assert rename_key("G10.x", {"G1": "a"}) == "G10.x"


def test_a_network_that_fits_has_no_problems() -> None:
    layer = nn.Linear(2, 2)
    assert find_problems(layer, PublishedState(state=layer.state_dict())) == {}


def test_names_and_hyper_parameters_are_checked() -> None:
    assert "firenet" in models.names()
    with pytest.raises(InputError, match=r"unknown network 'firenett' \(did you mean 'firenet'\?\)"):
        models.create("firenett")
    with pytest.raises(ConfigError, match=r"firenet\.channel.*did you mean 'channels'"):
        models.create("firenet", channel=8)
    with pytest.raises(ConfigError, match="kernel_size = 4, expected an odd number"):
        models.create("firenet", kernel_size=4)
    assert models.create("firenet").training
    with pytest.raises(AttributeError, match="no attribute 'download'"):
        _ = models.download
    assert dir(models) == sorted(models.__all__)
