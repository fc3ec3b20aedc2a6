"""`evsim evaluate` in every role: networks of another package, what is written, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from announced import installed
from click.testing import CliRunner

from evsim.cli.conventions import Settings
from evsim.cli.evaluate import evaluate
from evsim.events import Events
from evsim.formats import NativeWriter
from evsim.media.flow_files import flow_bytes, read_flow

TOY = """
import numpy as np
from dataclasses import dataclass
from evsim.models.prediction.frames import ExposurePredictor, FramePredictor
from evsim.models.prediction.needs import Needs
from evsim.models.registry import NetworkEntry

class Unchanged:
    def sharp(self, blurry, events, times_us):
        return np.stack([blurry.image.astype(np.float32) / 255] * len(times_us))

class Constant:
    def __init__(self, options):
        self.options = options
    def flow(self, image0, image1):
        return np.tile(np.array([self.options.x, 0], np.float32), (*image0.shape[:2], 1))

class First:
    def between(self, frame0, frame1, fractions, events):
        return np.stack([frame0] * len(fractions))

@dataclass(frozen=True, kw_only=True)
class ConstantConfig:
    x: float = 3.0

COMMON = dict(summary="", paper="", licence="", needs=Needs(weights="none"))
DEBLUR = NetworkEntry(
    name="unchanged", roles=("deblur",), predictor=lambda parts: ExposurePredictor(Unchanged()), **COMMON
)
BOTH = NetworkEntry(
    name="both",
    roles=("interpolate", "flow"),
    options=ConstantConfig,
    predictor=lambda parts: FramePredictor(First()),
    flow_estimator=lambda parts: Constant(parts.options),
    **COMMON,
)
"""


@pytest.fixture
def toys(tmp_path: Path) -> Iterator[None]:
    """A package with a deblurrer, and a network that interpolates and finds flow."""
    points = {"unchanged": "toy_networks:DEBLUR", "both": "toy_networks:BOTH"}
    with installed(tmp_path / "site", "toy_networks", TOY, evsim_networks=points):
        yield


@pytest.fixture
def command() -> Callable[..., Any]:
    """Runs evsim evaluate; gives its JSON, or its message where it must fail."""

    def run(*words: object, fails: bool = False) -> Any:
        line = [*map(str, words), *([] if fails else ["--json"])]
        result = CliRunner().invoke(evaluate, line, obj=Settings())
        if fails:
            assert result.exit_code != 0
            return result.output + str(result.exception)
        assert result.exit_code == 0, result.output + str(result.exception)
        return json.loads(result.stdout)

    return run


def write_folder(folder: Path, values: list[int]) -> Path:
    folder.mkdir(parents=True)
    for k, value in enumerate(values):
        cv2.imwrite(str(folder / f"{k:04d}.png"), np.full((12, 16), value, np.uint8))
    return folder


def means(found: dict[str, Any]) -> dict[str, float]:
    return found["datasets"][0]["means"]


def test_blending_is_a_baseline_by_name(command: Callable[..., Any], tmp_path: Path) -> None:
    data = write_folder(tmp_path / "set" / "squares", [k * k for k in range(8)]).parent
    found = command("blend", "--data", data, "--metrics", "mae,mse", "-o", tmp_path / "out")
    assert (found["method"], found["protocol"], found["role"]) == ("blend", "inserted2", "interpolate")
    assert means(found)["mae"] == pytest.approx(1 / 255, abs=1e-7)
    folder = tmp_path / "out" / "inserted2" / "set" / "squares" / "blend"
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"frame_{k:010d}.png" for k in (1, 3, 5)),
        "mae.txt",
        "mse.txt",
    ]
    assert cv2.imread(str(folder / "frame_0000000003.png"), 0)[0, 0] == 10
    assert (folder / "mae.txt").read_text() == "".join(f"{k} {1 / 255:.5f}\n" for k in (1, 3, 5))
    assert (tmp_path / "out" / "inserted2" / "blend.html").is_file()
    third = command("blend", "--data", data, "--metrics", "mae", "--inserted", 3, "--average", "sequences")
    assert means(third)["mae"] == pytest.approx(2 / 255, abs=1e-7)
    plan = command("blend", "--data", data, "--metrics", "mae", "--dry-run")
    assert plan["sequences"] == [{"dataset": "set", "sequence": "squares", "images": 8, "predictions": 3}]


def test_scores_of_folders_that_blending_wrote_are_those_of_the_network(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    data = write_folder(tmp_path / "set" / "s", [0, 9, 30, 41, 80])
    written = write_folder(tmp_path / "made", [0, 15, 30, 55, 80])
    line = ["--metrics", "mae,mse", "--inserted", 2]
    first = command("blend", "--data", data, *line)
    second = command(written, "--data", data, *line)
    assert means(first) == pytest.approx(means(second), abs=1e-7)


def test_a_deblurrer_at_half_the_images_size(toys: None, command: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "set" / "a.h5"
    path.parent.mkdir()
    t = np.arange(1, 101, dtype=np.int64) * 1000
    zeros = np.zeros(100, np.uint16)
    with NativeWriter(path, 16, 12) as writer:
        writer.append(Events(t, zeros, zeros, zeros.astype(np.uint8), 16, 12))
        writer.append_image(np.full((24, 32), 104, np.uint8), 30_000, kind="sharp")
        writer.append_image(np.full((24, 32), 100, np.uint8), 50_000, exposure_us=40_000, kind="blurry")
    found = command("unchanged", "--data", path, "--metrics", "mae", "-o", tmp_path / "out")
    assert means(found)["mae"] == pytest.approx(4 / 255, abs=1e-6)
    folder = tmp_path / "out" / "deblur" / "set" / "a" / "unchanged"
    assert (folder / "timestamps.txt").read_text() == "0 0.030000000000000\n"


def test_a_flow_estimator_by_its_second_role(toys: None, command: Callable[..., Any], tmp_path: Path) -> None:
    data = write_folder(tmp_path / "set" / "s", [0, 1, 2])
    (data / "flow").mkdir()
    truth = np.zeros((12, 16, 2), np.float32)
    truth[..., 1] = 4
    (data / "flow" / "0000.flo").write_bytes(flow_bytes(truth))
    line = ["both", "--role", "flow", "--data", data, "--metrics", "epe,3pe,fl:kitti"]
    found = command(*line, "-o", tmp_path / "out")
    assert means(found) == pytest.approx({"epe": 5, "3pe": 100, "fl:kitti": 100})
    folder = tmp_path / "out" / "flow" / "set" / "s" / "both"
    assert np.array_equal(read_flow(folder / "flow_0000000000.flo")[0, 0], [3, 0])
    assert means(command(*line, "--set", "options.x=0"))["epe"] == pytest.approx(4)
    first = command("both", "--data", data, "--metrics", "mae")
    assert first["role"] == "interpolate"
    assert means(first)["mae"] == pytest.approx(1 / 255, abs=1e-7)


def test_what_does_not_fit_the_role_is_refused(
    toys: None, command: Callable[..., Any], tmp_path: Path
) -> None:
    data = write_folder(tmp_path / "set" / "s", [0, 1, 2])
    line = ["--data", data, "--metrics", "mae"]
    assert "its roles: interpolate" in command("blend", *line, "--role", "flow", fails=True)
    refused = "--protocol says nothing about the role interpolate"
    assert refused in command("blend", *line, "--protocol", "std", fails=True)
    assert "--role is for networks" in command(data, *line, "--role", "flow", fails=True)
    assert "unknown flow metric 'mae'" in command("both", *line, "--role", "flow", fails=True)
    assert "inserted = 1" in command("blend", *line, "--inserted", 1, fails=True)
