"""One pixel's signals through the chain, and their plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from evsim.chain import ClipSimulation, read_preset, resolve
from evsim.cli.conventions import Settings
from evsim.cli.main import cli
from evsim.configuration import merge
from evsim.events import Events
from evsim.formats import open_events, save_events
from evsim.media import ArraySource
from evsim.pipelines.pixel import trace_pixel
from evsim.view import PixelTrace, pixel_plot
from evsim.view.pixel import reference_between

MODELS = ["v2e-noisy", "sim2real", "esim", "voltmeter-dvs346", "icns"]


def frames_of(count: int = 6) -> np.ndarray:
    """uint8 (count, 24, 32): a smooth texture that moves by two pixels a frame."""
    noise = np.random.RandomState(3).standard_normal((24, 32 + 2 * count))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    smooth = np.clip(120 + 60 * smooth / smooth.std(), 5, 250).astype(np.uint8)
    return np.stack([smooth[:, 2 * k : 2 * k + 32] for k in range(count)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 6 images at 60 per second, and what evsim simulate made of it."""
    root = tmp_path_factory.mktemp("clip")
    (root / "clip").mkdir()
    for k, frame in enumerate(frames_of()):
        cv2.imwrite(str(root / "clip" / f"{k}.png"), frame)
    (root / "clip" / "fps.txt").write_text("60\n")
    arguments = [
        "simulate",
        "video",
        root / "clip",
        "-o",
        root / "clip.h5",
        "--preset",
        "sim2real",
        "--seed",
        "5",
    ]
    done = invoke(*arguments, "--set", "sensor.contrast_threshold_on=uniform(0.2,0.3)")
    assert done.exit_code == 0, done.output
    return root


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in arguments], obj=Settings())


@pytest.mark.parametrize("preset", MODELS)
def test_a_trace_holds_the_events_and_signals_of_its_pixel(preset: str) -> None:
    config = resolve(merge(read_preset(preset), {"upsample": {"factor": 4}}), 0, "")
    simulation = ClipSimulation(ArraySource(frames_of(), 60.0), config)
    whole = Events.concatenate(step.events for step in simulation)
    busiest = np.bincount(whole.y.astype(int) * 32 + whole.x, minlength=24 * 32).argmax()
    y, x = divmod(int(busiest), 32)
    trace = trace_pixel(simulation, (x, y))
    mask = (whole.x == x) & (whole.y == y)
    assert trace.events.t.tolist() == whole.t[mask].tolist()
    assert len(trace.events) > 2
    assert trace.t_us[0] == 0
    assert trace.t_us[-1] == pytest.approx(5e6 / 60, abs=1e-3)
    assert len(trace.t_us) == (161 if preset == "sim2real" else 21)
    # After every pass the signal is less than a threshold away, but for pixels that are blind.
    if preset in ("v2e-noisy", "sim2real", "esim", "voltmeter-dvs346"):
        away = trace.filtered - trace.reference
        assert (away < trace.threshold_on + 1e-6).all()
        assert (away > -trace.threshold_off - 1e-6).all()
    for signal in (trace.light, trace.log_intensity, trace.filtered):
        assert np.ptp(signal) > 0
    times, levels = reference_between(trace)
    assert (np.diff(times) >= 0).all()
    at_passes = np.interp(trace.t_us, times, levels)
    moved_at_a_pass = np.isin(trace.t_us.astype(np.int64), trace.events.t)
    np.testing.assert_allclose(at_passes[~moved_at_a_pass], trace.reference[~moved_at_a_pass], atol=1e-6)


def test_the_reference_moves_at_events_by_thresholds_and_leaks_between() -> None:
    columns = [np.array([10, 30, 70]), *np.zeros((2, 3), np.uint16), np.array([1, 1, 0], np.uint8)]
    constant = np.ones(3)
    trace = PixelTrace(
        x=0, y=0, t_us=np.array([0.0, 50.0, 100.0]),
        light=constant, log_intensity=constant, filtered=constant,
        reference=np.array([0.0, 0.3, 0.25]), threshold_on=0.2 * constant, threshold_off=0.1 * constant,
        events=Events(*columns, 1, 1, label=np.array([0, 0, 1], np.uint8)),
    )  # fmt: skip
    times, levels = reference_between(trace)
    assert times.tolist() == [0, 10, 10, 30, 30, 50, 70, 70, 100]
    wanted = [0, -0.02, 0.18, 0.14, 0.34, 0.3, 0.3, 0.25, 0.25]
    np.testing.assert_allclose(levels, wanted, atol=1e-12)
    pixel_plot(trace)


def test_a_simulated_file_says_all_that_its_plot_needs(folder: Path, tmp_path: Path) -> None:
    with open_events(folder / "clip.h5") as recording:
        events = recording.events()
    chosen = (int(events.x[40]), int(events.y[40]))
    wanted = int(((events.x == chosen[0]) & (events.y == chosen[1])).sum())
    output = tmp_path / "pixel.png"
    done = invoke("view", folder / "clip.h5", "--pixel", f"{chosen[0]},{chosen[1]}", "-o", output, "--json")
    assert done.exit_code == 0, done.output
    assert '"agrees_with_file": true' in done.output
    assert f'"events": {wanted}' in done.output
    picture = cv2.imread(str(output))
    assert picture.shape[1] == 1300
    assert 0.01 < (picture.min(2) < 200).mean() < 0.5


def test_a_clip_is_plotted_as_it_would_be_simulated(folder: Path, tmp_path: Path) -> None:
    common = ["--seed", "5", "--config", folder / "clip.config.yaml", "--json"]
    found = []
    for source, options in ((folder / "clip.h5", ["--json"]), (folder / "clip", common)):
        output = tmp_path / f"{source.name}.svg"
        done = invoke("view", source, "--pixel", "9,11", "-o", output, *options)
        assert done.exit_code == 0, done.output
        assert output.read_text().startswith("<?xml")
        found.append(done.output[done.output.index('"passes"') :].removesuffix("}\n").split(", ")[:4])
    assert found[0] == found[1]
    part = invoke(
        "view", folder / "clip.h5", "--pixel", "9,11", "-o", tmp_path / "p.png", "--stop", "0.02", "--json"
    )
    assert '"passes": 38' in part.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pixel", "32,0"], "pixel 32,0 lies outside the sensor of 32x24, expected 0,0 to 31,23"),
        (["--pixel", "3"], "not a pixel such as 120,80"),
        (["--pixel", "3,3", "--panels", "3"], "--panels goes with pictures"),
        (["--pixel", "3,3", "--preset", "ideal"], "--preset goes with a video or folder"),
        (["--preset", "ideal"], "--preset goes with --pixel"),
        (["--pixel", "3,3", "--start", "5"], r"nothing to plot from 5.0 to None s"),
    ],
)
def test_what_cannot_be_plotted_is_refused(
    folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = invoke("view", folder / "clip.h5", "-o", tmp_path / "p.png", *arguments)
    assert done.exit_code != 0
    assert message in done.output + str(done.exception)
    assert not (tmp_path / "p.png").exists()


def test_a_file_without_its_history_is_refused(folder: Path, tmp_path: Path) -> None:
    with open_events(folder / "clip.h5") as recording:
        save_events(recording.events(), tmp_path / "bare.h5")
    done = invoke("view", tmp_path / "bare.h5", "--pixel", "3,3", "-o", tmp_path / "p.png")
    assert "does not say how it was simulated; give the video" in str(done.exception)
