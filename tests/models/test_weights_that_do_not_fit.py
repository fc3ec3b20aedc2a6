"""Files given for weights that are something else: what they are is said, and which file was wanted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import nn

from evsim import models
from evsim.cli.conventions import Settings
from evsim.cli.weights import weights
from evsim.errors import CheckpointError, FormatError, InputError
from evsim.models import firenet
from evsim.models.weights.checkpoints import read_checkpoint
from evsim.models.weights.published import find_weights, published_weights
from evsim.models.weights.state import PublishedState, fill_network, find_state

POINTER = """version https://git-lfs.github.com/spec/v1
oid sha256:76122a81cf6313d84036509f388f150127482bcd977d46e8de650b7f841239f8
size 622707
"""


def write(state: dict[str, Any], path: Path, *, kind: str) -> bytes:
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><title>Sign in</title>", "a web page: the link has expired"),
        (b"\n  <html lang=en>", "a web page"),
        (POINTER.encode(), "a git-lfs pointer to a file of 622707 bytes with SHA-256 76122a81"),
        (b"\x7fELF and so on", "is cut after 14 of 622707 bytes"),
    ],
)
def test_what_the_file_is_and_which_was_wanted(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "firenet_plus.pth"
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        models.load("firenet", path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert words in text
    wanted = published_weights()["firenet-plus"]
    assert (
        f"wanted is {wanted.published_as} of {wanted.origin}, 622707 bytes, SHA-256 {wanted.sha256}" in text
    )
    # Under another name the network says what was wanted.
    with pytest.raises(FormatError, match="622707 bytes"):
        models.load("firenet", path.rename(tmp_path / "x.pth"))
    with pytest.raises(FormatError):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_cut_file_is_refused_at_every_length(
    kind: str, share: float, plus_state: Any, tmp_path: Path
) -> None:
    path = tmp_path / "x.pth"
    whole = write(plus_state, path, kind=kind)
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(FormatError, match=r"x\.pth") as caught:
        models.load("firenet", path)
    assert "invalid load key" not in str(caught.value)
    if kind == "zip":
        assert f"is cut after {int(len(whole) * share)} bytes" in str(caught.value)


def test_the_only_weight_file_of_a_folder_is_taken_and_said(plus_state: Any, tmp_path: Path) -> None:
    folder = tmp_path / "train_log"
    (folder / "train_log").mkdir(parents=True)
    (folder / "__MACOSX").mkdir()
    path = folder / "train_log" / "flownet.pkl"
    write(plus_state, path, kind="zip")
    for name in ("train_log/._flownet.pkl", "__MACOSX/flownet.pkl", "model.py", ".hidden.pth"):
        (folder / name).write_bytes(b"Mac OS X")
    with pytest.warns(UserWarning, match=f"{folder} is a folder; its only weight file {path} is taken"):
        assert models.load("firenet", folder).config.bins == 3
    with pytest.warns(UserWarning, match="flownet"):
        assert find_weights(folder, "firenet") == path
    with pytest.warns(UserWarning, match="flownet"):
        done = CliRunner().invoke(
            weights, ["check", str(folder), "--network", "firenet", "--json"], obj=Settings()
        )
    assert json.loads(done.stdout)["file"] == str(path)


def test_several_weight_files_of_a_folder_are_listed(tmp_path: Path) -> None:
    for name in ("b.pth", "sub/a.pkl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"folder of 2 weight files; pass one of b\.pth, sub/a\.pkl"):
        models.load("firenet", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="a folder without a weight file"):
        read_checkpoint(tmp_path / "empty")


def test_only_leading_wrappers_come_off() -> None:
    tensor = torch.ones(1)
    found = find_state({"module.a": tensor, "b": tensor, "a.module.w": tensor}, "x")
    assert set(found) == {"a", "b", "a.module.w"}
    kept = find_state({"module.a": tensor, "a": tensor}, "x")  # two tensors, of which none may be lost
    assert set(kept) == {"module.a", "a"}


def test_keys_with_and_without_wrapper_make_one_network(plus_state: Any) -> None:
    state = {f"module.{key}" if key.startswith("G") else key: value for key, value in plus_state.items()}
    found = models.load_state("firenet", state)
    wanted = models.load_state("firenet", plus_state).state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in found.state_dict().items())


def test_weights_of_another_network_say_whose_they_are(plus_state: Any, tmp_path: Path) -> None:
    for kind in ("zip", "safetensors"):
        write(plus_state, tmp_path / f"x.{kind}", kind=kind)
        with pytest.raises(CheckpointError) as caught:
            models.load("evinr", tmp_path / f"x.{kind}")
        assert str(caught.value).endswith("holds the network 'firenet', expected 'evinr'")
        assert caught.value.details


def test_weights_of_another_size_say_which(plus_state: Any, tmp_path: Path) -> None:
    write(plus_state, tmp_path / "small.pth", kind="zip")
    ours = models.save(models.load("firenet", tmp_path / "small.pth"), tmp_path / "small.safetensors")
    for path in (tmp_path / "small.pth", ours):
        with pytest.raises(CheckpointError) as caught:
            models.load("firenet", path, channels=16)
        assert str(caught.value) == f"{path} holds a firenet of channels = 4 (asked for: 16)"
        assert any("expected [16, 3, 3, 3]" in line for line in caught.value.details)


def test_keys_that_are_ignored_on_purpose_are_reported() -> None:
    layer = nn.Linear(2, 2)
    state = {**layer.state_dict(), "teacher.weight": torch.ones(1), "teacher.bias": torch.ones(1)}
    why = {"teacher.*": "the teacher of the second stage"}
    with pytest.warns(UserWarning, match=r"x: not used: teacher\.weight, teacher\.bias \(the teacher of the"):
        fill_network(layer, PublishedState(state=state, ignored=why), "x")
    with pytest.raises(CheckpointError, match="2 keys left over"):
        fill_network(layer, PublishedState(state=state, ignored={"bias": "no"}), "x")
    # A key of the network is never ignored.
    wanted = PublishedState(
        state={"bias": torch.full((2,), 5.0), "weight": layer.weight}, ignored={"b*": "x"}
    )
    fill_network(layer, wanted, "x")
    assert layer.bias.tolist() == [5, 5]


def test_checking_a_file_says_what_of_it_is_ignored(
    plus_state: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(state: Any) -> PublishedState:
        return replace(firenet.from_published(state), ignored={"steps": "a counter"})

    monkeypatch.setattr(firenet, "ENTRY", replace(firenet.ENTRY, from_published=convert))
    write({**plus_state, "steps": torch.ones(1)}, tmp_path / "x.pth", kind="zip")
    with pytest.warns(UserWarning, match="not used: steps"):
        done = CliRunner().invoke(
            weights, ["check", str(tmp_path / "x.pth"), "--network", "firenet", "--json"], obj=Settings()
        )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["ignored"] == {"a counter": ["steps"]}
