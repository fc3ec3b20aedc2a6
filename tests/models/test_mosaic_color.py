"""Colour of a mosaic sensor, by each method that is fitted to a recording: simulated patches that move."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from evsim.chain import simulate
from evsim.cli.conventions import Settings
from evsim.cli.reconstruct import reconstruct
from evsim.formats import save_events

FPS = 50
PAINTS = np.array(
    [
        [200, 50, 50],
        [50, 180, 50],
        [50, 60, 210],
        [210, 200, 60],
        [60, 200, 200],
        [190, 70, 190],
        [30, 30, 30],
    ]
)
"""Red, green, blue, yellow, cyan, magenta and black."""
METHODS = {
    "variational": ("--set", "fit.output=log"),
    "evinr": ("--set", "fit.output=log", "--iterations", "40"),
    "evinr, upstream": ("--set", "fit.output=log", "--iterations", "60", "--compat"),
}
PATCH = 8


def moving_patches(count: int = 40, width: int = 48, height: int = 32) -> NDArray[np.uint8]:
    """(T, H, W, 3) painted patches with soft edges, a pixel to the left for each frame."""
    draw = np.random.default_rng(0)
    cells = draw.integers(0, len(PAINTS), (height // PATCH, (width + count) // PATCH + 1))
    wall = np.repeat(np.repeat(PAINTS[cells], PATCH, 0), PATCH, 1).astype(np.float32)
    wall = cv2.GaussianBlur(wall, (0, 0), 1.0)
    return np.stack([wall[:, k : k + width] for k in range(count)]).astype(np.uint8)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.uint8]]:
    """A file of the events that a sensor with an RGGB mosaic has of the patches, and the frames."""
    frames = moving_patches()
    path = tmp_path_factory.mktemp("mosaic") / "events.h5"
    save_events(simulate(frames, float(FPS), preset="ideal", overrides=["isp.grey=bayer"]), path)
    return path, frames


def fitted(path: Path, output: Path, method: str, *words: object) -> dict[str, Any]:
    np.save(output.parent / "times.npy", np.arange(1, 40) / FPS)
    line = [path, "-o", output, "--network", method.split(",")[0], "--color", "--device", "cpu", "--json"]
    line += ["--times", output.parent / "times.npy", *METHODS[method], *words]
    done = CliRunner().invoke(
        reconstruct, [str(word) for word in line], obj=Settings(), catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("method", "least", "right"),
    [("variational", 0.6, 0.97), ("evinr", 0.6, 0.97), ("evinr, upstream", 0.6, 0.87)],
)
def test_each_channel_is_that_of_the_scene(
    method: str, least: float, right: float, scene: tuple[Path, NDArray[np.uint8]], tmp_path: Path
) -> None:
    path, frames = scene
    said = fitted(path, tmp_path / "log.npy", method)
    frames = frames[1:]
    found, truth = np.load(tmp_path / "log.npy"), np.log(frames / 255.0)
    assert said["images"] == len(frames)
    assert found.shape == truth.shape
    # What no gain and no offset of a channel can mend.
    table = np.corrcoef(found.reshape(-1, 3).T, truth.reshape(-1, 3).T)[:3, 3:]
    own = np.diag(table)
    assert own.min() >= least
    assert (table - np.diag(own)).max() <= least - 0.35
    # A paint that is red is red: offsets of channels are all that events leave open.
    shown = found - found.mean((0, 1, 2)) + truth.mean((0, 1, 2))
    for channel in range(3):
        others = np.delete(frames, channel, -1).max(-1)
        paint = frames[..., channel] > 2.5 * others
        assert (shown[paint].argmax(-1) == channel).mean() >= right
    # The published fit enlarges its planes by repeating pixels.
    assert alternation(found) < (10 if "upstream" in method else 2) * alternation(truth)


def alternation(video: NDArray[Any]) -> float:
    """How much neighbours along both axes differ in turns, as they do where a mosaic shows."""
    corners = video[:, :-1, :-1] - video[:, 1:, :-1] - video[:, :-1, 1:] + video[:, 1:, 1:]
    return float(np.abs(corners).mean() / video.std())
