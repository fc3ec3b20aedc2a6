"""FireNet against the published networks, and as a recurrent network with an explicit state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from published import filled_state

from evsim import models
from evsim.errors import InputError
from evsim.events import Events
from evsim.models.firenet.network import FireNet, FireNetState, normalize_nonzero
from evsim.represent import voxel_grid


def published_voxels(fixture: np.lib.npyio.NpzFile, count: int) -> list[torch.Tensor]:
    """The voxel grids of the fixture's windows; their rows are x, y, t in seconds, p."""
    bins, height, width = fixture["voxel_0"].shape
    grids = []
    for k in range(count):
        x, y, t, p = fixture[f"events_{k}"].T
        # Picoseconds in the place of microseconds: the rule does not depend on the unit of time.
        ticks = np.round(t * 1e12).astype(np.int64)
        events = Events(
            ticks, x.astype(np.uint16), y.astype(np.uint16), (p > 0).astype(np.uint8), width, height
        )
        grids.append(torch.from_numpy(voxel_grid(events, bins))[None])
    return grids


def distance(given: torch.Tensor, wanted: np.ndarray) -> float:
    """Largest difference relative to the tolerance of network outputs."""
    return float(np.abs(given.numpy() - wanted).max() / (1e-4 * max(1.0, np.abs(wanted).max())))


def check_sequence(network: torch.nn.Module, fixture: np.lib.npyio.NpzFile) -> None:
    images = fixture["images"]
    state: FireNetState | None = None
    for k, voxel in enumerate(published_voxels(fixture, len(images))):
        if k == 0:
            np.testing.assert_allclose(voxel[0], fixture["voxel_0"], atol=1e-5)
        with torch.no_grad():
            image, state = network(voxel, state)
        assert distance(image[0, 0], images[k]) <= 1
        for name, tensor in zip(("state0", "state1"), state):
            if f"{name}_step{k}" in fixture:
                assert distance(tensor[0], fixture[f"{name}_step{k}"]) <= 1


@pytest.mark.needs_parity
@pytest.mark.needs_data
@pytest.mark.parametrize("weights", ["firenet_plus.pth", "firenet_plus_state_dict.pth"])
@pytest.mark.parametrize("case", ["a", "b"])
def test_real_weights_give_the_published_images(case: str, weights: str, parity: Path, data: Path) -> None:
    network = models.load("firenet", data / weights)
    assert sum(parameter.numel() for parameter in network.parameters()) == 37_777
    with np.load(parity / f"firenet_real_plus_{case}.npz") as fixture:
        check_sequence(network, fixture)


@pytest.mark.needs_parity
def test_the_first_firenet_gives_the_published_images_from_plain_voxel_grids(parity: Path) -> None:
    network = models.load_state("firenet", filled_state(parity / "firenet_legacy_keys.json"))
    assert network.config.normalize_voxels
    with np.load(parity / "firenet_legacy_fill_a.npz") as fixture:
        check_sequence(network, fixture)


@pytest.fixture
def network() -> FireNet:
    torch.manual_seed(0)
    made = models.create("firenet", channels=4, bins=3).eval()
    assert isinstance(made, FireNet)
    return made


def test_the_state_is_the_whole_memory(network: FireNet) -> None:
    voxels = torch.randn(4, 1, 3, 9, 7)
    with torch.no_grad():
        _, state = network(voxels[0])
        image, _ = network(voxels[1], state)
        network(voxels[2], None)  # another sequence in between
        again, _ = network(voxels[1], state)
        fresh, _ = network(voxels[1])
    assert torch.equal(image, again)
    assert not torch.allclose(image, fresh)


def test_samples_of_a_batch_do_not_touch_each_other(network: FireNet) -> None:
    normalizing = models.create("firenet", channels=4, bins=3, normalize_voxels=True).eval()
    voxels = torch.randn(2, 3, 9, 7) * torch.tensor([1.0, 20.0])[:, None, None, None]
    for made in (network, normalizing):
        with torch.no_grad():
            together, _ = made(voxels)
            alone, _ = made(voxels[1:])
        torch.testing.assert_close(together[1:], alone, rtol=1e-5, atol=1e-6)


def test_normalised_voxels_have_mean_0_and_deviation_1_where_not_zero() -> None:
    voxel = torch.zeros(1, 2, 4, 5)
    voxel[0, 0, 1:3] = torch.randn(2, 5) * 3 + 2
    done = normalize_nonzero(voxel)
    assert torch.equal(done == 0, voxel == 0)
    filled = done[voxel != 0]
    assert filled.mean().item() == pytest.approx(0, abs=1e-5)
    assert filled.std(unbiased=False).item() == pytest.approx(1, abs=1e-4)
    assert torch.equal(normalize_nonzero(torch.zeros(1, 2, 3, 3)), torch.zeros(1, 2, 3, 3))


def test_gradients_reach_every_parameter_through_time(network: FireNet) -> None:
    state = None
    for voxel in torch.randn(3, 1, 3, 9, 7):
        image, state = network(voxel, state)
    image.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_compiled_gives_the_same(network: FireNet) -> None:
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    voxel = torch.randn(1, 3, 9, 7)
    with torch.no_grad():
        wanted, state = network(voxel)
        given, given_state = compiled(voxel)
        torch.testing.assert_close(compiled(voxel, given_state)[0], network(voxel, state)[0])
    torch.testing.assert_close(given, wanted)


def test_other_shapes_are_refused_with_what_was_expected(network: FireNet) -> None:
    with pytest.raises(InputError, match=r"\(1, 5, 9, 7\), expected \(B, 3, H, W\)"):
        network(torch.zeros(1, 5, 9, 7))
    _, state = network(torch.zeros(1, 3, 9, 7))
    with pytest.raises(InputError, match=r"state of shape .* pass None to start"):
        network(torch.zeros(1, 3, 9, 8), state)
