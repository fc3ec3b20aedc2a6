"""A drawn value works with every verb that simulates, and the number that was drawn is in what is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from evsim.formats import open_events

Run = Callable[..., Any]
DRAW = ["--set", "sensor.contrast_threshold_on=uniform(0.2,0.3)", "--seed", "4"]


def recorded(path: Path) -> float:
    """The threshold in an event file, which must also be in the configuration beside it."""
    with open_events(path) as recording:
        inside = json.loads(recording.attributes["config"])["sensor"]["contrast_threshold_on"]
    beside = yaml.safe_load(path.with_name(f"{path.stem}.config.yaml").read_text())
    assert beside["sensor"]["contrast_threshold_on"] == inside
    assert 0.2 < inside < 0.3
    return float(inside)


@pytest.mark.parametrize("preset", ["ideal", "sim2real-random", "esim-random", "icns"])
def test_a_clip_and_a_picture_record_what_was_drawn(
    evsim: Run, folder: Path, tmp_path: Path, preset: str
) -> None:
    options = ["--preset", preset, "--factor", "1", *DRAW, "--overwrite"]
    cv2.imwrite(str(tmp_path / "picture.png"), cv2.resize(cv2.imread(str(folder / "000.png")), (200, 150)))
    still = ["--size", "48x36", "--duration", "0.1", "--amplitude", "5"]
    drawn = []
    for name, command in (
        ("a.h5", ["video", folder]),
        ("b.h5", ["video", folder]),
        ("c.h5", ["image", tmp_path / "picture.png", *still]),
    ):
        done = evsim("simulate", *command, "-o", tmp_path / name, *options)
        assert done.code == 0, done.err
        drawn.append(recorded(tmp_path / name))
    # One clip without a name and one seed: one number.
    assert len(set(drawn)) == 1
    again = ["--config", tmp_path / "a.config.yaml", "--preset", preset]
    assert evsim("simulate", "video", folder, "-o", tmp_path / "d.h5", *again).code == 0
    assert (tmp_path / "d.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()


def test_every_clip_of_a_run_has_a_value_of_its_own(evsim: Run, folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for path in folder.iterdir():
            (root / name / path.name).write_bytes(path.read_bytes())
    options = ["--preset", "ideal", "--factor", "1", *DRAW]
    done = evsim("simulate", "folders", root, "-o", tmp_path / "run", *options)
    assert done.code == 0, done.err
    values = []
    for line in (tmp_path / "run" / "manifest.jsonl").read_text().splitlines():
        values += re.findall(r"contrast_threshold_on\W+([\d.]+)", line)
    assert len({float(value) for value in values}) == 2
    assert all(0.2 < float(value) < 0.3 for value in values)
    assert "uniform(0.2,0.3)" in (tmp_path / "run" / "run.json").read_text()


def test_light_and_the_plot_of_a_pixel_take_draws(evsim: Run, folder: Path, tmp_path: Path) -> None:
    light = ["--set", "isp.low_light_factor=loguniform(2, 8)", "--json"]
    done = evsim("unprocess", folder, "-o", tmp_path / "raw", *light)
    assert done.code == 0, done.err
    assert "uniform" not in done.out
    done = evsim("view", folder, "--pixel", "3,3", "-o", tmp_path / "p.png", "--preset", "v2e-random", *DRAW)
    assert done.code == 0, done.err
    wrong = evsim(
        "view", folder, "--pixel", "3,3", "-o", tmp_path / "q.png", "--set", "sensor.cutoff_hz=uniform(3)"
    )
    assert wrong.code == 2
    assert "sensor.cutoff_hz = 'uniform(3)', expected two numbers" in wrong.err
