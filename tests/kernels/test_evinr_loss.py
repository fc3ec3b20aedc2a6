"""Every implementation of EvINR's loss against the reference: terms, gradient, and what all refuse."""

from __future__ import annotations

import pytest
import torch
from kernel_conformance import GradientConformance

from evsim.errors import BackendError, ConfigError, InputError
from evsim.kernels.evinr_loss import LossWeights, evinr_loss, evinr_loss_and_gradient

SHAPES = [(2, 1, 1, 1), (2, 7, 1, 1), (5, 1, 9, 3), (6, 23, 37, 1), (3, 17, 31, 3)]


def problem(shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A video in which some neighbours are equal, so that the sign of nothing counts."""
    torch.manual_seed(seed)
    video = torch.randn(shape).mul(3).round().div(3)
    return video, torch.randn((shape[0] - 1, *shape[1:]))


class TestEvinrLoss(GradientConformance):
    compiled = "6x23x37x1"

    @staticmethod
    def call(video: torch.Tensor, changes: torch.Tensor, *, backend: str) -> tuple[torch.Tensor, ...]:
        return tuple(evinr_loss(video, changes, LossWeights(spatial=0.3, constant=0.7), backend=backend))

    @staticmethod
    def cases() -> dict[str, tuple[torch.Tensor, ...]]:
        return {"x".join(map(str, shape)): problem(shape) for shape in SHAPES}

    @staticmethod
    def smooth() -> tuple[torch.Tensor, ...]:
        """Neighbours differ by more than a finite difference, so that no absolute value turns."""
        video = torch.tensor([[3.0, 1.1, 2.3], [0.4, 4.6, -1.9]], dtype=torch.float64)
        frames = torch.stack([video, video.flip(0) * 1.3, -0.7 * video])[..., None]
        return frames, torch.ones(2, 2, 3, 1, dtype=torch.float64)

    def loss(self, results: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Of the terms the total alone has a gradient."""
        return 3 * results[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_the_gradient_without_autograd_is_the_same(backend: str, shape: tuple[int, ...]) -> None:
    video, changes = problem(shape)
    weights = LossWeights(spatial=0.3, constant=0.7)
    terms, gradient = evinr_loss_and_gradient(video, changes, weights, backend=backend)
    wanted, slope = evinr_loss_and_gradient(video.double(), changes.double(), weights, backend="reference")
    torch.testing.assert_close(torch.stack(terms).double(), torch.stack(wanted), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), slope, rtol=1e-5, atol=1e-6)


def test_devices_without_compiled_code_take_the_reference() -> None:
    video, changes = (tensor.to("meta") for tensor in problem((3, 4, 5, 1)))
    assert evinr_loss(video, changes).total.device.type == "meta"
    with pytest.raises(BackendError, match="memory is on meta"):
        evinr_loss(video, changes, backend="cpu")


def test_the_cpu_rounds_the_gradient_as_autograd_does() -> None:
    video, changes = problem((8, 16, 20, 3))
    video = video + 0.01 * torch.randn_like(video)
    leaf = video.clone().requires_grad_()
    d = leaf[1:] - leaf[:-1]
    rows, columns = leaf[:, 1:] - leaf[:, :-1], leaf[:, :, 1:] - leaf[:, :, :-1]
    loss = ((d - changes) ** 2).mean() + 0.05 * (rows.abs().mean() + columns.abs().mean() + d.abs().mean())
    (loss + 0.1 * leaf.mean((1, 2, 3)).var()).backward()
    assert torch.equal(evinr_loss_and_gradient(video, changes, backend="cpu")[1], leaf.grad)  # type: ignore[arg-type]


def test_the_total_has_a_gradient() -> None:
    video, changes = problem((4, 5, 6, 1))
    leaf = video.clone().requires_grad_()
    (3 * evinr_loss(leaf, changes).total).backward()
    torch.testing.assert_close(leaf.grad, 3 * evinr_loss_and_gradient(video, changes)[1])


def test_what_is_refused() -> None:
    video, changes = problem((4, 5, 6, 1))
    for wrong in ((video, changes[:-1]), (video[:1], changes[:0]), (video[0], changes)):
        with pytest.raises(InputError, match="expected"):
            evinr_loss(*wrong)
    with pytest.raises(ConfigError, match="spatial"):
        LossWeights(spatial=-1.0)
