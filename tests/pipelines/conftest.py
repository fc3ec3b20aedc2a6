"""Small data sets in the shape of the published ones, made from synthetic frames."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CLIPS = ("train/A_00_01", "train/A_00_02", "train/B_10_00", "train/C_2", "test/D_00", "test/E_00")
WIDTH, HEIGHT, FRAMES = 40, 28, 4


def write_clip(folder: Path, *, seed: int = 0, frames: int = FRAMES) -> Path:
    """A texture that moves two pixels a frame, as colour PNG."""
    folder.mkdir(parents=True)
    rs = np.random.RandomState(seed)
    texture = cv2.GaussianBlur(rs.randn(HEIGHT, WIDTH + 2 * frames, 3), (0, 0), 1.5)
    texture = np.clip(120 + 60 * texture / texture.std(), 0, 255).astype(np.uint8)
    for k in range(frames):
        image = np.ascontiguousarray(texture[:, 2 * k : 2 * k + WIDTH])
        assert cv2.imwrite(str(folder / f"{k + 1:06d}.png"), image)
    return folder


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Path]:
    """Write a clip of PNG frames into a new folder."""
    return write_clip


@pytest.fixture(scope="session")
def gopro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips in the layout of GOPRO_Large_all; for reading only."""
    root = tmp_path_factory.mktemp("gopro") / "GOPRO_Large_all"
    for seed, clip in enumerate(CLIPS):
        write_clip(root / clip, seed=seed)
    return root


@pytest.fixture
def own_gopro(tmp_path: Path) -> Path:
    """Three clips in the layout of GOPRO_Large_all, for tests that change them."""
    root = tmp_path / "GOPRO"
    for seed, clip in enumerate(CLIPS[2:5]):
        write_clip(root / clip, seed=seed)
    return root


@pytest.fixture
def command() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `evsim` as a process group of its own; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "evsim", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"},
            start_new_session=True,
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def outputs(run: Path) -> dict[str, bytes]:
    """What a run wrote for its clips."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.suffix in (".h5", ".yaml")
    }


@pytest.fixture
def output_bytes() -> Callable[[Path], dict[str, bytes]]:
    """The bytes of every event and configuration file of a run."""
    return outputs
