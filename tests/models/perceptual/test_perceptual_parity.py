"""LPIPS, DISTS and FloLPIPS equal the published networks, layer by layer, through published key names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from perceptual_states import filled_state, torchvision_state

from evsim.errors import CheckpointError
from evsim.models.perceptual import (
    Dists,
    Lpips,
    dists_state,
    load_lpips,
    load_metric,
    lpips_state,
)
from evsim.models.perceptual.flolpips import flolpips_terms
from evsim.models.weights.checkpoints import read_checkpoint
from evsim.models.weights.state import fill_network

pytestmark = pytest.mark.needs_parity

TRUNK_FILES = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}


@pytest.fixture(scope="module")
def filled_dists(parity: Path) -> dict[str, torch.Tensor]:
    """Published state of DISTS but alpha and beta; 15 million numbers, so drawn once."""
    return filled_state(parity / "dists_keys.json")


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path) as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(found.float(), expected.float(), rtol=0, atol=tolerance, check_stride=False)


def filled_lpips(trunk: str, parity: Path, data: Path) -> Lpips:
    network = Lpips(trunk)  # type: ignore[arg-type]
    heads = read_checkpoint(data / "lpips" / f"{trunk}.pth").state()
    published = {**filled_state(parity / f"lpips_{trunk}_keys.json"), **heads}
    fill_network(network, lpips_state(published), "filled state")
    return network


@pytest.mark.needs_data
@pytest.mark.parametrize("trunk", TRUNK_FILES)
def test_lpips_equals_the_published(trunk: str, parity: Path, data: Path) -> None:
    expected = tensors(parity / f"lpips_{trunk}_a.npz")
    network = filled_lpips(trunk, parity, data)
    features = network.trunk(
        (expected["target"].expand(-1, 3, -1, -1) * 2 - 1 - network.shift) / network.scale
    )
    close(features[0][0, :8], expected["feat0_target_ch0_7"], 1e-5)
    close(features[-1][0, :16], expected["feat_last_target_ch0_15"], 1e-5)
    close(network.layer_terms(expected["pred"], expected["target"])[0], expected["per_layer"])
    close(network(expected["pred"], expected["target"]), expected["lpips"][None])


def test_lpips_of_colour_equals_the_published(parity: Path) -> None:
    expected = tensors(parity / "sim2real_lpips_alex_rgb.npz")
    heads = {f"lin{k}.model.1.weight": expected[f"lin{k}"] for k in range(5)}
    network = Lpips("alex")
    published = {**filled_state(parity / "lpips_alex_keys.json"), **heads}
    fill_network(network, lpips_state(published), "filled state")
    features = network.trunk((expected["x"] * 2 - 1 - network.shift) / network.scale)
    close(features[0][:, :8], expected["feat_x_relu1_first8"], 1e-5)
    close(features[-1], expected["feat_x_relu5"], 1e-5)
    close(network.layer_terms(expected["x"], expected["y"])[0], expected["per_layer"])
    close(network(expected["x"], expected["y"]), expected["distance"][None])


@pytest.mark.parametrize("case", ["a", "b"])
def test_dists_equals_the_published(case: str, filled_dists: dict[str, torch.Tensor], parity: Path) -> None:
    expected = tensors(parity / f"dists_{case}.npz")
    kept = {"alpha": expected["alpha"], "beta": expected["beta"]}
    network = Dists()
    published = {**filled_dists, **kept}
    fill_network(network, dists_state(published), "filled state")
    features = network.features(expected["x"])
    close(features[2][:, :8], expected["feat_x_relu2_2_first8"], 1e-5)
    close(features[5], expected["feat_x_relu5_3"], 1e-5)
    close(features[1].mean((2, 3)), expected["feat_x_relu1_2_channel_mean"], 1e-5)
    close(features[4].mean((2, 3)), expected["feat_x_relu4_3_channel_mean"], 1e-5)
    texture, structure = network.stage_terms(expected["x"], expected["y"])
    close(texture[0], expected["stage_texture_terms"])
    close(structure[0], expected["stage_structure_terms"])
    close(network(expected["x"], expected["y"]), expected["score"][None])


@pytest.mark.needs_data
def test_flolpips_equals_the_published(parity: Path, data: Path) -> None:
    expected = tensors(parity / "flolpips_alex_a.npz")
    network = filled_lpips("alex", parity, data)
    images = expected["dis"], expected["ref"]
    terms = flolpips_terms(network, *images, expected["flow_dis"], expected["flow_ref"])
    close(terms[0], expected["per_layer"])
    close(terms.sum(1), expected["flolpips"][None])
    close(network(*images), expected["lpips"][None])


@pytest.mark.needs_data
@pytest.mark.parametrize(("name", "trunk"), [("lpips:alex", "alex"), ("lpips:squeeze", "squeeze")])
def test_metric_reads_the_published_files(
    name: str, trunk: str, parity: Path, data: Path, tmp_path: Path
) -> None:
    trunk_state = torchvision_state(filled_state(parity / f"lpips_{trunk}_keys.json"))
    torch.save(trunk_state, tmp_path / TRUNK_FILES[trunk], _use_new_zipfile_serialization=False)
    (tmp_path / "lpips").symlink_to(data / "lpips")
    with np.load(parity / f"lpips_{trunk}_a.npz") as arrays:
        prediction, reference = (arrays[key][0].transpose(1, 2, 0) for key in ("pred", "target"))
        assert load_metric(name, tmp_path)(prediction, reference) == pytest.approx(
            float(arrays["lpips"]), abs=1e-6
        )


@pytest.mark.needs_data
def test_flow_weighted_metric_takes_arrays(parity: Path, data: Path, tmp_path: Path) -> None:
    torch.save(
        torchvision_state(filled_state(parity / "lpips_alex_keys.json")), tmp_path / TRUNK_FILES["alex"]
    )
    (tmp_path / "lpips").symlink_to(data / "lpips")
    with np.load(parity / "flolpips_alex_a.npz") as arrays:
        images = [arrays[key][0].transpose(1, 2, 0) for key in ("dis", "ref", "flow_dis", "flow_ref")]
        found = load_metric("flolpips:alex", tmp_path)(*images)
        assert found == pytest.approx(float(arrays["flolpips"]), abs=1e-6)


def test_structure_metric_reads_the_published_files(
    filled_dists: dict[str, torch.Tensor], parity: Path, tmp_path: Path
) -> None:
    torch.save(torchvision_state(filled_dists), tmp_path / TRUNK_FILES["vgg"])
    (tmp_path / "dists").mkdir()
    with np.load(parity / "dists_a.npz") as arrays:
        kept = {key: torch.nn.Parameter(torch.from_numpy(arrays[key])) for key in ("alpha", "beta")}
        torch.save(kept, tmp_path / "dists" / "weights.pt")
        prediction, reference = (arrays[key][0].transpose(1, 2, 0) for key in ("x", "y"))
        found = load_metric("dists", tmp_path)(prediction, reference)
        assert found == pytest.approx(float(arrays["score"]), abs=1e-6)


@pytest.mark.needs_data
def test_trunk_of_another_network_is_refused(parity: Path, data: Path, tmp_path: Path) -> None:
    torch.save(torchvision_state(filled_state(parity / "lpips_alex_keys.json")), tmp_path / "trunk.pth")
    with pytest.raises(CheckpointError, match="does not fit Lpips"):
        load_lpips("squeeze", tmp_path / "trunk.pth", data / "lpips" / "squeeze.pth")
    with pytest.raises(CheckpointError, match=r"lin2\.model\.1\.weight"):
        load_lpips("alex", tmp_path / "trunk.pth", data / "lpips" / "vgg.pth")
