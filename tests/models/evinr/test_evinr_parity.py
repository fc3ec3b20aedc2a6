"""EvINR against the published code: the network, its time derivative, the loss, whole fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import filled_state

from evsim import models
from evsim.events import Events
from evsim.kernels.evinr_loss import LossWeights, evinr_loss
from evsim.metrics.alignment import aligned_scores
from evsim.models.evinr.fit import Fit
from evsim.models.evinr.network import Evinr, tone_map
from evsim.models.evinr.prediction import log_intensity
from evsim.models.evinr.settings import EvinrFitConfig
from evsim.models.evinr.step import Gradients, Targets

CASES = {"a_small": "keys_small", "b_color_512": "keys"}
cases = pytest.mark.parametrize("case", CASES)
PICOSECONDS = 1e12
"""In the place of microseconds: the fixtures' seconds are not whole microseconds."""


def published_network(parity: Path, case: str, fixture: Any) -> Evinr:
    network = models.load_state(
        "evinr",
        filled_state(parity / "evinr_keys.json", CASES[case]),
        width=int(fixture["W"]),
        height=int(fixture["H"]),
        color=bool(fixture["color"]),
    )
    assert isinstance(network, Evinr)
    return network


def published_events(fixture: Any, width: int, height: int) -> Events:
    """From the first event on, as the published code counts."""
    t, x, y, p = fixture["events"].T
    ticks = np.round((t - t[0]) * PICOSECONDS).astype(np.int64)
    return Events(ticks, x.astype("u2"), y.astype("u2"), (p > 0).astype("u1"), width, height)


def near(given: torch.Tensor, wanted: np.ndarray, tolerance: float = 1e-5) -> bool:
    return float(np.abs(given.detach().numpy() - wanted).max()) <= tolerance * max(1, np.abs(wanted).max())


@pytest.mark.needs_parity("evinr_net_{case}.npz", "evinr_keys.json")
@cases
def test_frames_and_their_derivative(case: str, parity: Path) -> None:
    fixture = np.load(parity / f"evinr_net_{case}.npz")
    network = published_network(parity, case, fixture)
    times = torch.from_numpy(fixture["timestamps"])
    first = torch.sin(10 * network.layers[0](times))
    assert near(first[:, :32], fixture["act_first"])
    assert near(torch.sin(10 * network.layers[1](first))[:, :32], fixture["act_hidden1"])
    assert near(network.features(times)[:, : fixture["act_neck"].shape[1]], fixture["act_neck"])
    video, slope = network.with_derivative(times)
    assert near(video, fixture["log_intensity"])
    assert torch.allclose(network(times), video, atol=1e-5)
    assert np.abs(slope.detach().numpy() - fixture["dlog_dt"]).max() <= 1e-3
    assert near(tone_map(video), fixture["tonemapped"])
    assert near(tone_map(network(torch.linspace(-1, 1, 5))), fixture["val_tonemapped_5"])


@pytest.mark.needs_parity("evinr_net_{case}.npz", "evinr_keys.json")
@cases
def test_loss_terms_and_gradients(case: str, parity: Path) -> None:
    fixture = np.load(parity / f"evinr_net_{case}.npz")
    network = published_network(parity, case, fixture)
    times = torch.from_numpy(fixture["timestamps"])
    changes = torch.from_numpy(fixture["event_frames"][:-1])
    loss = Gradients(network, Targets(times[:, 0], changes), LossWeights()).compute()
    names = ("loss", "temporal", "abs_dx_rows", "abs_dy_cols", "abs_dt", "var_of_means")
    for name, value in zip(names, loss):
        wanted = fixture[name if name == "loss" else f"term_{name}"]
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-8)
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert near(gradients["readout.bias"], fixture["grad_last_bias"])  # type: ignore[arg-type]
    assert near(gradients["layers.0.weight"].flatten(), fixture["grad_first_weight"])  # type: ignore[union-attr]
    # In sorted order of the published names: bias before weight, layer by layer.
    ordered = [f"layers.{k}" for k in range(len(network.layers))] + ["readout"]
    norms = [float(gradients[f"{layer}.{part}"].norm()) for layer in ordered for part in ("bias", "weight")]  # type: ignore[union-attr]
    np.testing.assert_allclose(norms, fixture["grad_norms"], rtol=1e-5)
    by_hand = {name: gradient.clone() for name, gradient in gradients.items()}  # type: ignore[union-attr]
    network.zero_grad()
    evinr_loss(network(times), changes).total.backward()
    for name, parameter in network.named_parameters():
        assert near(by_hand[name], parameter.grad.numpy())  # type: ignore[union-attr]


@pytest.mark.needs_parity("evinr_train20_{case}.npz", "evinr_keys.json")
@cases
def test_compat_takes_the_published_steps(case: str, parity: Path) -> None:
    fixture = np.load(parity / f"evinr_train20_{case}.npz")
    config = EvinrFitConfig(
        compat=True,
        event_threshold=float(fixture["event_thresh"]),
        iterations=int(fixture["iters"]),
        train_resolution=int(fixture["train_resolution"]),
        coarse_to_fine=bool(fixture["coarse_to_fine"]),
        color=bool(fixture["color"]),
        hidden_width=int(fixture["d_hidden"]),
        neck_width=int(fixture["d_neck"]),
    )
    fit = Fit(config, published_events(fixture, int(fixture["W"]), int(fixture["H"])), (0.0, 2 * PICOSECONDS))
    fit.network.load_state_dict(published_network(parity, case, fixture).state_dict())
    losses = [float(fit.take_step()["total"]) for _ in fixture["losses"]]
    np.testing.assert_allclose(losses, fixture["losses"], rtol=1e-5)
    assert near(fit.network.layers[0].weight.flatten(), fixture["final_first_weight"], 2e-3)
    assert near(fit.network.readout.bias, fixture["final_last_bias"], 2e-3)
    final = fit.finished()(torch.linspace(-1, 1, 6))
    assert near(final, fixture["final_log_intensity_6"], 2e-3)
    assert near(tone_map(final), fixture["final_tonemapped_6"], 2e-3)


def scene(parity: Path, name: str) -> tuple[Any, Events, np.ndarray]:
    """The fixture, its events from the first one on, and the frames' times on the same clock."""
    fixture = np.load(parity / f"{name}.npz")
    events = published_events(fixture, 64, 48)
    return fixture, events, (fixture["gt_times"] - float(fixture["t_first_event"])) * PICOSECONDS


def scores(network: Evinr, fixture: Any, times: np.ndarray) -> tuple[float, float]:
    """Aligned mean squared error and structural similarity."""
    found = aligned_scores(log_intensity(network, times)[..., 0], fixture["gt_frames"])
    return found["mse@log-affine"], found["ssim:evreal@log-affine"]


@pytest.mark.needs_parity("evinr_e2e.npz", "evinr_e2e.json")
def test_compat_scores_as_the_published_code(parity: Path) -> None:
    fixture, events, times = scene(parity, "evinr_e2e")
    run = json.loads((parity / "evinr_e2e.json").read_text())["runs"][0]
    assert (run["event_thresh"], run["iters"], run["torch_seed"]) == (1.0, 400, 0)
    fit = Fit(EvinrFitConfig(compat=True, iterations=400), events, (0.0, PICOSECONDS))
    losses: list[float] = []
    fit.run(lambda done, steps, loss: losses.append(loss), every=50)
    # The same seed gives the same weights; over so many steps rounding is all that may differ.
    np.testing.assert_allclose(losses, run["loss_every_50"], rtol=0.02)
    mse, ssim = scores(fit.finished(), fixture, times)
    assert 0.0105 <= mse <= 0.0125
    assert 0.54 <= ssim <= 0.58


@pytest.mark.needs_parity("{name}.npz", "evinr_e2e.json")
@pytest.mark.parametrize(
    ("name", "mse", "ssim"), [("evinr_e2e", 0.0083, 0.626), ("evinr_e2e_noisy", 0.0084, 0.611)]
)
def test_the_default_beats_ten_times_as_many_published_steps(
    name: str, mse: float, ssim: float, parity: Path
) -> None:
    fixture, events, times = scene(parity, name)
    fit = Fit(EvinrFitConfig(event_threshold=0.25), events, (0.0, PICOSECONDS))
    fit.run()
    found = scores(fit.finished(), fixture, times)
    assert found[0] < mse
    assert found[1] > ssim + 0.05
