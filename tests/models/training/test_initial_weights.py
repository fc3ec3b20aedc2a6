"""What a run starts from: files for the whole network or its parts, which a resumed run does not need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from evsim import models
from evsim.errors import CheckpointError, ConfigError, InputError
from evsim.models.training.runs import lay_over, plan, prepare

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(11)
    return models.save(models.create("firenet", channels=4, bins=3), tmp_path / "weights.safetensors")


def state_of(path: Path) -> dict[str, torch.Tensor]:
    return models.load("firenet", path).state_dict()


@pytest.mark.parametrize("kind", ["ours", "ours without prefix", "published", "published part"])
def test_a_part_is_filled_from_a_file_of_its_own(
    kind: str, tree: dict[str, Any], weights: Path, tmp_path: Path, plus_state: Any
) -> None:
    wanted = state_of(weights)
    file = tmp_path / "part.safetensors"
    if kind == "ours":
        file = weights
    elif kind == "ours without prefix":
        part = {key: value for key, value in wanted.items() if key.startswith("recurrent1.")}
        save_file({key.removeprefix("recurrent1."): value for key, value in part.items()}, file)
    else:
        published = {
            key: value for key, value in plus_state.items() if kind == "published" or key[:2] == "G1"
        }
        save_file(published, file)
        wanted = models.load_state("firenet", plus_state).state_dict()
    run = prepare("firenet", {**tree, "initial_weights": {"recurrent1": str(file)}})
    untouched = prepare("firenet", tree).task.network.state_dict()
    for key, value in run.task.network.state_dict().items():
        assert torch.equal(value, (wanted if key.startswith("recurrent1.") else untouched)[key]), key
    (note,) = run.notes
    assert note.startswith(f"6 tensors of recurrent1 from {file}")
    assert ("18 not used" in note) == (kind in ("ours", "published"))
    assert plan(run)["initial_weights"] == [note]
    assert run.description["initial_weights"] == {"recurrent1": str(file)}


def test_a_whole_network_and_parts_over_it(tree: dict[str, Any], weights: Path, tmp_path: Path) -> None:
    torch.manual_seed(12)
    other = models.save(models.create("firenet", channels=4, bins=3), tmp_path / "other.safetensors")
    files = {"": str(weights), "recurrent1": str(other)}
    # The sizes are the file's.
    run = prepare("firenet", {**tree, "network": {}, "initial_weights": files})
    for key, value in run.task.network.state_dict().items():
        assert torch.equal(value, state_of(other if key.startswith("recurrent1.") else weights)[key])


def test_parts_that_a_file_does_not_fill_are_refused(
    tree: dict[str, Any], weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="firenet has no part 'flow', expected one of head, "):
        prepare("firenet", {**tree, "initial_weights": {"flow": str(weights)}})
    part = {key: value for key, value in state_of(weights).items() if key.startswith("recurrent1.reset")}
    part["recurrent1.reset_gate.extra"] = torch.zeros(1)
    save_file(part, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError) as caught:
        prepare("firenet", {**tree, "initial_weights": {"recurrent1": str(tmp_path / "part.safetensors")}})
    assert "part.safetensors for recurrent1 does not fit firenet: 4 of" in str(caught.value)
    assert "1 keys left over: recurrent1.reset_gate.extra" in str(caught.value)
    with pytest.raises(InputError, match=r"absent\.pth is neither a file"):
        prepare("firenet", {**tree, "initial_weights": {"recurrent1": "absent.pth"}})


def test_a_resumed_run_does_not_need_the_file_that_it_began_with(
    tree: dict[str, Any], weights: Path, tmp_path: Path
) -> None:
    # The file says how large the network is.
    tree = {**tree, "network": {}, "initial_weights": str(weights)}
    prepare("firenet", lay_over(tree, {"training": {"steps": 2}})).train(tmp_path / "run")
    prepare("firenet", tree).train(tmp_path / "whole")
    weights.unlink()
    for configuration in (tree, yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())):
        again = lay_over(configuration, {"training": {"steps": 4}})
        assert (
            prepare("firenet", again, resumed=tmp_path / "run").train(tmp_path / "run", resume=True).steps
            == 4
        )
    last, whole = ((tmp_path / name / "last.safetensors").read_bytes() for name in ("run", "whole"))
    assert last == whole
    with pytest.raises(InputError, match="neither a file"):  # a run that never began has nothing else
        prepare("firenet", tree, resumed=tmp_path / "elsewhere")


def test_steps_displace_epochs(tree: dict[str, Any]) -> None:
    tree = lay_over(tree, {"training": {"epochs": 3}})
    assert plan(prepare("firenet", tree))["steps"] == 6
    for over, wanted in (({"steps": 5}, 5), ({"steps": 5, "epochs": 1}, 2)):
        assert plan(prepare("firenet", lay_over(tree, {"training": over})))["steps"] == wanted
    with pytest.raises(ConfigError, match=r"training\.epochs = 'x'"):
        prepare("firenet", lay_over(tree, {"training": {"epochs": "x"}}))


def test_the_batch_and_its_rate_are_printed(tree: dict[str, Any]) -> None:
    tree = lay_over(tree, {"training": {"batch_size": 8, "devices": 2, "accumulation": 2}})
    found = plan(prepare("firenet", tree))
    assert (found["effective_batch"], found["learning_rate"]) == ("8 = 2 x 2 devices x 2 parts", 1e-4)
