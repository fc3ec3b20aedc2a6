"""What LPIPS, DISTS and FloLPIPS promise whatever their weights: shapes, gradients, limits, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from evsim.errors import FormatError, InputError
from evsim.models.perceptual import (
    Dists,
    Lpips,
    feature_stack,
    flolpips,
    flolpips_of_sequence,
    load_dists,
    load_lpips,
    load_metric,
    with_network,
)

BUILDERS: dict[str, Callable[[], torch.nn.Module]] = {
    "alex": lambda: Lpips("alex"),
    "squeeze": lambda: Lpips("squeeze"),
    "dists": Dists,
}


def seeded(build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build()
        for name, parameter in network.named_parameters():
            if name.startswith("heads"):
                parameter.data.abs_()
    return network


@pytest.fixture(scope="module")
def networks() -> dict[str, torch.nn.Module]:
    return {name: seeded(build) for name, build in BUILDERS.items()}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("trunk", "keys"),
    [
        ("alex", ["features.0.weight", "features.3.bias", "features.10.weight"]),
        ("vgg", ["features.0.weight", "features.28.bias"]),
        ("squeeze", ["features.3.squeeze.weight", "features.12.expand3x3.bias"]),
    ],
)
def test_stacks_have_the_key_names_of_torchvision(trunk: str, keys: list[str]) -> None:
    stack = feature_stack(trunk)  # type: ignore[arg-type]
    assert set(keys) <= set(stack.state_dict())
    size = stack.smallest
    found = stack(noise(1, 3, size, size))
    assert tuple(level.shape[1] for level in found) == stack.channels
    assert min(found[-1].shape[2:]) == 1
    with pytest.raises(InputError, match=f"at least {size} pixels"):
        stack(noise(1, 3, size - 1, size))


@pytest.mark.parametrize("name", BUILDERS)
def test_identical_images_have_distance_zero(name: str, networks: dict[str, torch.nn.Module]) -> None:
    image = noise(2, 3, 40, 36)
    torch.testing.assert_close(networks[name](image, image), torch.zeros(2), rtol=0, atol=1e-6)
    assert (networks[name](image, 1 - image) > 1e-5).all()


@pytest.mark.parametrize("name", BUILDERS)
def test_batch_equals_single_images_and_grey_equals_copies(
    name: str, networks: dict[str, torch.nn.Module]
) -> None:
    first, second = noise(3, 1, 40, 36), noise(3, 1, 40, 36, seed=1)
    together = networks[name](first, second)
    single = torch.cat([networks[name](a[None], b[None]) for a, b in zip(first, second, strict=True)])
    torch.testing.assert_close(together, single, rtol=0, atol=1e-6)
    copies = networks[name](first.repeat(1, 3, 1, 1), second.repeat(1, 3, 1, 1))
    torch.testing.assert_close(together, copies)


@pytest.mark.parametrize("name", BUILDERS)
def test_distance_is_a_loss_whose_weights_are_frozen(name: str, networks: dict[str, torch.nn.Module]) -> None:
    prediction = noise(1, 3, 40, 36).requires_grad_()
    networks[name](prediction, noise(1, 3, 40, 36, seed=1)).sum().backward()
    assert prediction.grad is not None
    assert prediction.grad.abs().sum() > 0
    assert all(not parameter.requires_grad for parameter in networks[name].parameters())
    assert not networks[name].training


def test_gradient_is_finite_where_all_features_are_zero(networks: dict[str, torch.nn.Module]) -> None:
    network = Lpips("alex")
    for parameter in network.trunk.parameters():
        parameter.data.zero_()
    prediction = noise(1, 3, 40, 36).requires_grad_()
    network(prediction, noise(1, 3, 40, 36, seed=1)).sum().backward()
    assert prediction.grad is not None
    assert torch.isfinite(prediction.grad).all()


@pytest.mark.parametrize("name", BUILDERS)
def test_shapes_that_do_not_fit_are_refused(name: str, networks: dict[str, torch.nn.Module]) -> None:
    good = noise(1, 3, 40, 36)
    for prediction, reference in [(good, good[..., :-1]), (good[0], good[0]), (good[:, :2], good[:, :2])]:
        with pytest.raises(InputError, match="expected the same"):
            networks[name](prediction, reference)
    with pytest.raises(InputError, match="sides of at least"):
        networks[name](good[..., :8], good[..., :8])


def test_unknown_trunk_is_refused() -> None:
    with pytest.raises(InputError, match="trunk 'resnet', expected one of alex, vgg, squeeze"):
        Lpips("resnet")  # type: ignore[arg-type]


def test_flow_weights_pick_the_region_that_moves_wrongly(networks: dict[str, torch.nn.Module]) -> None:
    network = networks["alex"]
    assert isinstance(network, Lpips)
    reference = noise(1, 3, 64, 128)
    damaged = reference.clone()
    damaged[..., :64] = 1 - damaged[..., :64]
    still, left, right = torch.zeros(1, 2, 64, 128), torch.zeros(1, 2, 64, 128), torch.zeros(1, 2, 64, 128)
    left[..., :64], right[..., 64:] = 3.0, 3.0
    plain = network(damaged, reference)
    assert flolpips(network, damaged, reference, left, still) > plain
    assert flolpips(network, damaged, reference, right, still) < plain
    # Only the relative size of the flow differences counts.
    torch.testing.assert_close(
        flolpips(network, damaged, reference, left, still),
        flolpips(network, damaged, reference, 7 * left, still),
    )


def test_identical_flows_give_plain_lpips(networks: dict[str, torch.nn.Module]) -> None:
    network = networks["alex"]
    assert isinstance(network, Lpips)
    images = noise(1, 3, 64, 64), noise(1, 3, 64, 64, seed=1)
    flow = noise(1, 2, 64, 64)
    torch.testing.assert_close(flolpips(network, *images, flow, flow), network(*images))
    with pytest.raises(InputError, match=r"expected \(1, 2, 64, 64\)"):
        flolpips(network, *images, flow[..., :-1], flow)


def test_sequence_counts_every_frame_but_the_last(networks: dict[str, torch.nn.Module]) -> None:
    network = networks["alex"]
    assert isinstance(network, Lpips)
    frames = [(noise(1, 3, 40, 40, seed=k), noise(1, 3, 40, 40, seed=k + 10)) for k in range(3)]

    def difference(first: Tensor, second: Tensor) -> Tensor:
        return (second - first)[:, :2]

    expected = [
        flolpips(network, *frames[k], *(difference(frames[k][i], frames[k + 1][i]) for i in (0, 1)))
        for k in range(2)
    ]
    found = flolpips_of_sequence(network, iter(frames), difference)
    assert found == pytest.approx(float(torch.stack(expected).mean()))
    with pytest.raises(InputError, match="at least two frames"):
        flolpips_of_sequence(network, frames[:1], difference)


def test_metrics_clamp_as_their_definition_says(networks: dict[str, torch.nn.Module]) -> None:
    network = networks["alex"]
    reference = noise(40, 36).numpy()
    prediction = 1.5 * reference
    clamped, raw = with_network("lpips:alex", network), with_network("lpips:ner", network)
    assert clamped(prediction, reference) == clamped(np.clip(prediction, 0, 1), reference)
    assert raw(prediction, reference) != clamped(prediction, reference)
    assert clamped.id == "lpips:alex"
    assert not clamped.higher_is_better
    codes = (reference * 255).astype(np.uint8)
    assert clamped(codes, codes) == pytest.approx(0, abs=1e-6)


def test_metrics_refuse_unusable_arrays(networks: dict[str, torch.nn.Module]) -> None:
    image, flow = np.full((40, 36, 3), 0.5), np.zeros((40, 36, 2))
    metric = with_network("flolpips:alex", networks["alex"])
    with pytest.raises(InputError, match="flow of the reference has shape"):
        metric(image, image, flow, flow[..., 0])
    with pytest.raises(InputError, match="not finite"):
        metric(image * np.nan, image, flow, flow)
    with pytest.raises(InputError, match="not computed by a perceptual network"):
        with_network("ssim:gem", networks["alex"])
    with pytest.raises(InputError, match="computed by Dists, not by Lpips"):
        with_network("dists", networks["alex"])


@pytest.mark.parametrize("name", ["lpips:vgg", "dists", "flolpips:alex", "niqe"])
def test_missing_weights_are_named_with_the_way_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVSIM_WEIGHTS", str(tmp_path / "weights"))
    for folder in (tmp_path, None):
        with pytest.raises(InputError, match=f"not found.*leave {name} out of --metrics") as caught:
            load_metric(name, folder)
        assert str(folder or tmp_path / "weights") in str(caught.value)
    assert load_metric("mse", tmp_path)(np.zeros((8, 8)), np.ones((8, 8))) == 1


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "trunk.pth"
    with pytest.raises(InputError, match="no weight file"):
        load_lpips("alex", broken, broken)
    broken.write_bytes(b"not a checkpoint")
    with pytest.raises(FormatError, match=r"trunk\.pth"):
        load_dists(broken, broken)


def test_compiled_network_gives_the_same(networks: dict[str, torch.nn.Module]) -> None:
    images = noise(1, 3, 40, 36), noise(1, 3, 40, 36, seed=1)
    compiled = torch.compile(networks["alex"], backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*images), networks["alex"](*images))
