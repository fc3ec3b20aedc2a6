"""Fitting EvINR to recordings of all kinds: stretches, sensors, resumed runs, and the verbs."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from evsim import models
from evsim.cli.conventions import Settings
from evsim.cli.reconstruct import reconstruct
from evsim.cli.train import train
from evsim.errors import CheckpointError, ConfigError, InputError
from evsim.events import Events
from evsim.formats import open_events, save_events
from evsim.models.evinr.fit import Fit
from evsim.models.evinr.prediction import stretches
from evsim.models.evinr.settings import EvinrFitConfig
from evsim.models.evinr.start import start_from_events
from evsim.models.evinr.targets import aligned_targets, levels_of, sample_times
from evsim.models.log_video.planes import enlarge_plane
from evsim.models.prediction.parts import make_predictor
from evsim.models.prediction.scene import Scene

SMALL = {"hidden_width": 32, "neck_width": 24, "train_resolution": 10, "iterations": 6}


def moving_edge(width: int = 16, height: int = 12, seconds: float = 1.0, seed: int = 0) -> Events:
    """A bright bar that runs through the picture again and again; every pixel sees ON and then OFF."""
    rng = np.random.default_rng(seed)
    passes = int(4 * seconds)
    x, y, n, on = np.meshgrid(np.arange(width), np.arange(height), np.arange(passes), [1, 0])
    t = (
        (n + (x + 3.0 * (1 - on)) / (width + 3)) * 1e6 * seconds / passes + rng.uniform(0, 2000, x.shape)
    ).ravel()
    order = np.argsort(t, kind="stable")
    columns = (a.ravel()[order] for a in (x, y, on))
    x, y, on = (a.astype(kind) for a, kind in zip(columns, ("u2", "u2", "u1")))
    return Events(t[order].astype(np.int64), x, y, on, width, height)


def written(events: Events, path: Path) -> Path:
    save_events(events, path)
    return path


def images_of(path: Path, times: list[float], weights: Path | None = None, **fields: Any) -> list[np.ndarray]:
    method = make_predictor("evinr", {**SMALL, **fields}, weights=weights, device=torch.device("cpu"))
    with open_events(path) as recording:
        return list(method.images(Scene(recording=recording), np.array(times)))


def run(command: Any, *words: object) -> Any:
    done = CliRunner().invoke(command, [str(word) for word in words], obj=Settings(), standalone_mode=False)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return json.loads(done.stdout)


def test_the_start_reproduces_what_the_events_say() -> None:
    targets = aligned_targets(moving_edge(), 12)
    torch.manual_seed(0)
    network = models.create("evinr", width=16, height=12, hidden_width=64, neck_width=64)
    start_from_events(network, targets)  # type: ignore[arg-type]
    with torch.no_grad():
        found = network(targets.times)
    wanted = levels_of(targets)
    apart = (found - found.mean(0)) - (wanted - wanted.mean(0))
    assert apart.square().mean() < 0.05 * wanted.var(0).mean()


def test_samples_share_events_and_time() -> None:
    t = np.sort(np.concatenate([np.arange(1000), np.linspace(0, 1_000_000, 11).astype(np.int64)]))
    times = sample_times(t, 20)
    assert (np.diff(times) > 0).all()
    assert (times[0], times[-1]) == (0, 1_000_000)
    assert np.diff(times).max() <= 2.01 * 1_000_000 / 20


def test_the_threshold_scales_log_intensity_and_nothing_else() -> None:
    events, window = moving_edge(), (0.0, 1e6)
    videos = []
    for threshold in (0.1, 0.4):
        fit = Fit(EvinrFitConfig(**SMALL, event_threshold=threshold), events, window)
        fit.run()
        with torch.no_grad():
            videos.append(fit.finished()(torch.linspace(-1, 1, 5)))
    torch.testing.assert_close(4 * videos[0], videos[1], rtol=1e-3, atol=1e-4)
    assert abs(float(videos[1].mean())) < 0.05


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize(("size", "color"), [((16, 12), False), ((12, 16), False), ((16, 12), True)])
def test_images_lie_as_the_sensor_does(
    size: tuple[int, int], color: bool, compat: bool, tmp_path: Path
) -> None:
    events = moving_edge(*size)
    path = written(events, tmp_path / "events.h5")
    images = images_of(path, [-5.0, 1000.0, 500_000.0, 2e6], color=color, compat=compat)
    assert [image.shape for image in images] == [(*size[::-1], 3) if color else size[::-1]] * 4
    assert all(image.dtype == np.float32 and 0 <= image.min() <= image.max() <= 1 for image in images)


def test_what_is_shown_is_a_curve_of_log_intensity(tmp_path: Path) -> None:
    path = written(moving_edge(), tmp_path / "events.h5")
    light, shown, log = (
        np.stack(images_of(path, [2e5, 5e5, 9e5], output=output)) for output in ("light", "display", "log")
    )
    np.testing.assert_allclose(light, (1 / (1 + np.exp(-log))) ** (1 / 0.6), atol=1e-5)
    order = np.argsort(log, axis=None)
    assert np.all(np.diff(shown.ravel()[order]) >= 0)
    assert np.ptp(shown) > 1.5 * np.ptp(light)


def test_planes_of_a_mosaic_are_enlarged_to_where_their_pixels_are() -> None:
    y, x = np.mgrid[0:8, 0:12].astype(np.float32)
    ramp = x + 10 * y
    for place in (0, 1):
        found = enlarge_plane(ramp[None, place::2, place::2], place, place)[0]
        np.testing.assert_allclose(found[1:-1, 1:-1], ramp[1:-1, 1:-1], atol=1e-5)
    middle = (ramp[1::2, 0::2] + ramp[0::2, 1::2]) / 2
    found = enlarge_plane(middle[None], 0.5, 0.5)[0]
    np.testing.assert_allclose(found[1:-1, 1:-1], ramp[1:-1, 1:-1], atol=1e-5)


def test_a_portrait_sensor_is_fitted_as_a_turned_one_with_compat(tmp_path: Path) -> None:
    events = moving_edge(16, 12)
    turned = Events(events.t, events.y, events.x, events.p, 12, 16)
    lying = images_of(written(events, tmp_path / "a.h5"), [3e5, 6e5], compat=True)
    standing = images_of(written(turned, tmp_path / "b.h5"), [3e5, 6e5], compat=True)
    np.testing.assert_array_equal(np.stack(lying), np.stack(standing).transpose(0, 2, 1))


def test_long_recordings_get_several_networks_without_a_jump(tmp_path: Path) -> None:
    config = EvinrFitConfig(window_s=1.0)
    spans = stretches((0.0, 2.7e6), config)
    assert spans[0][0] == 0
    assert spans[-1][1] == pytest.approx(2.7e6)
    assert all(b - a <= 1e6 + 1 for a, b in spans)
    assert [round(a[1] - b[0]) for a, b in itertools.pairwise(spans)] == [100_000] * 2
    path = written(moving_edge(seconds=2.0), tmp_path / "events.h5")
    times = list(np.arange(0, 2e6, 20_000.0))
    images = np.stack(images_of(path, times, window_s=0.8, iterations=20))
    steps = np.abs(np.diff(images, axis=0)).mean((1, 2))
    assert len(images) == len(times)
    assert steps.max() < 6 * np.median(steps)


def test_a_stretch_in_which_nothing_happens_stands_still(tmp_path: Path) -> None:
    events = moving_edge()
    late = Events(
        np.append(events.t, 5_000_000),
        *(np.append(a, a[-1:]) for a in (events.x, events.y, events.p)),
        16,
        12,
    )
    images = images_of(written(late, tmp_path / "events.h5"), [2.5e6, 3e6, 3.2e6], window_s=1.0)
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(images[1], images[2])


@pytest.mark.parametrize("compat", [False, True])
def test_a_stopped_fit_goes_on_where_it_was(compat: bool) -> None:
    config = EvinrFitConfig(**{**SMALL, "iterations": 12}, compat=compat)
    whole, first, second = (Fit(config, moving_edge(), (0.0, 1e6)) for _ in range(3))
    whole.run()
    for _ in range(7):
        first.take_step()
    second.restore(first.state())
    second.run()
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name])


def test_the_verbs_fit_once_and_query_the_fitted_network(tmp_path: Path) -> None:
    path = written(moving_edge(), tmp_path / "events.h5")
    options = [word for name, value in SMALL.items() for word in ("--set", f"fit.{name}={value}")]
    fitted = run(train, "evinr", path, "-o", tmp_path / "run", *options, "--t-end", "0.9", "--json")
    assert (fitted["ended"], fitted["steps"]) == ("finished", 6)
    assert fitted["events_outside"] > 0
    assert {entry.name for entry in (tmp_path / "run").iterdir()} >= {"config.yaml", "metrics.csv"}
    asked = ("-o", tmp_path / "a.npy", "--network", "evinr", "--frames", 5, "--t-end", "0.9", "--json")
    once = run(reconstruct, path, *asked, *options)
    assert (once["images"], once["networks"]) == (5, 1)
    asked = ("-o", tmp_path / "b.npy", *asked[2:])
    run(reconstruct, path, *asked, "--weights", fitted["weights"])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
    with pytest.raises(InputError, match="--resume"):
        run(train, "evinr", path, "-o", tmp_path / "run", *options, "--json")
    again = run(train, "evinr", path, "-o", tmp_path / "run", "--resume", "--json")
    assert again["steps"] == 6
    with pytest.raises(InputError, match="was 6, is 9"):
        run(train, "evinr", path, "-o", tmp_path / "run", "--resume", "--iterations", 9, "--json")


def test_what_is_refused(tmp_path: Path) -> None:
    path = written(moving_edge(), tmp_path / "events.h5")
    network = models.create("evinr", width=10, height=10, hidden_width=8, neck_width=8)
    other = models.save(network, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="10x10 pixels, the recording has 16x12"):
        images_of(path, [0.0], weights=other)
    few = moving_edge()[:8]
    with pytest.raises(InputError, match="expected one or more for each"):
        Fit(EvinrFitConfig(compat=True), few, (0.0, 1e6))
    with pytest.raises(InputError, match="no duration"):
        Fit(EvinrFitConfig(), few[:1], (0.0, 1e6))
    with pytest.raises(InputError, match="even sides"):
        Fit(EvinrFitConfig(color=True), moving_edge(15, 12), (0.0, 1e6))
    for wrong in ({"event_threshold": 0.0}, {"overlap_s": 1.5}, {"train_resolution": 1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            EvinrFitConfig(**wrong)
    state = {"net.siren_net.0.linear.weight": torch.zeros(4, 1)}
    with pytest.raises(CheckpointError, match="keys missing"):
        models.load_state("evinr", state)
