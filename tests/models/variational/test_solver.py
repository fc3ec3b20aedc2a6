"""The convex problem of the variational reconstruction: its minimum, and what it is worth on known scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from event_scenes import scene_events, scene_frames
from numpy.typing import NDArray

from evsim.metrics.alignment import aligned_scores
from evsim.models.variational.solver import Weights, energy, solve
from evsim.represent.levels import Thresholds, event_levels

WEIGHTS = Weights(fidelity=2.0, smoothness=20.0, softening=0.02)


def walk(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.cumsum(np.random.default_rng(seed).normal(0, 0.2, shape), 0).astype(np.float32)


def energy_by_definition(video: torch.Tensor, levels: torch.Tensor, weights: Weights) -> torch.Tensor:
    """The energy written out in float64, differentiable."""
    rows = torch.nn.functional.pad(video.diff(dim=1), (0, 0, 0, 1))
    columns = torch.nn.functional.pad(video.diff(dim=2), (0, 1))
    length = (rows**2 + columns**2 + 1e-24).sqrt()
    bent = torch.nn.functional.huber_loss(
        length, torch.zeros_like(length), reduction="none", delta=weights.softening
    )
    apart = video - levels
    residual = apart - apart.mean(0)
    change = residual.diff(dim=0).square().sum() / residual.numel()
    return (
        (bent / weights.softening).mean()
        + weights.fidelity * residual.square().mean()
        + weights.smoothness * change
    )


@pytest.mark.parametrize("shape", [(6, 7, 9), (5, 1, 8), (3, 4, 1), (1, 6, 6)])
def test_no_other_minimiser_finds_less(shape: tuple[int, int, int]) -> None:
    levels = walk(*shape)
    solution = solve(levels, WEIGHTS, 300)
    target = torch.from_numpy(levels).double()
    video = target.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([video], max_iter=3000, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = energy_by_definition(video, target, WEIGHTS)
        value.backward()
        return value

    optimizer.step(closure)
    best = float(energy_by_definition(video.detach(), target, WEIGHTS))
    mine = float(energy_by_definition(torch.from_numpy(solution).double(), target, WEIGHTS))
    assert mine <= best + 1e-4 * abs(best) + 1e-9
    assert energy(solution, levels, WEIGHTS) == pytest.approx(mine, rel=1e-4, abs=1e-7)


def test_twenty_five_iterations_are_enough() -> None:
    levels = walk(12, 20, 24, seed=3)
    soon, late = (solve(levels, WEIGHTS, count) for count in (25, 400))
    assert energy(soon, levels, WEIGHTS) <= energy(late, levels, WEIGHTS) * (1 + 1e-3)


def test_the_solution_has_mean_zero_and_ignores_what_events_cannot_see() -> None:
    levels = walk(8, 10, 12, seed=4)
    hidden = np.random.default_rng(5).normal(size=(10, 12)).astype(np.float32)
    solution = solve(levels, WEIGHTS, 60)
    assert abs(float(solution.mean())) < 1e-5
    np.testing.assert_allclose(solve(levels + hidden, WEIGHTS, 200), solve(levels, WEIGHTS, 200), atol=1e-3)


@pytest.mark.needs_parity("evinr_e2e.npz", "evinr_e2e_noisy.npz")
@pytest.mark.parametrize(
    ("scene", "largest_mse", "least_ssim"),
    [("evinr_e2e", 0.0055, 0.74), ("evinr_e2e_noisy", 0.0060, 0.72)],
)
def test_known_scenes_come_back(parity: Path, scene: str, largest_mse: float, least_ssim: float) -> None:
    frames, times = scene_frames(parity)
    levels = event_levels(scene_events(parity, scene), times, Thresholds(0.25, 0.25))
    scores = aligned_scores(solve(levels, WEIGHTS, 25), frames)
    assert scores["mse@log-affine"] <= largest_mse
    assert scores["ssim:evreal@log-affine"] >= least_ssim
