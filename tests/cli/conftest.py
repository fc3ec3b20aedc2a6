"""Run the command in this process, through its entry point, and make small clips for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from evsim.cli.main import main


@dataclass
class Outcome:
    """Exit code and both streams of one command."""

    code: int
    out: str
    err: str


@pytest.fixture
def evsim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Call `evsim` with the given arguments."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["evsim", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        streams = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), streams.out, streams.err)

    return run


def moving_frames(count: int = 6, *, width: int = 48, height: int = 36) -> np.ndarray:
    """A smooth random texture that moves one pixel a frame, (T, H, W, 3) uint8."""
    rs = np.random.RandomState(0)
    texture = cv2.GaussianBlur(rs.randn(height, width + count), (0, 0), 2.0)
    texture = np.clip(110 + 45 * texture / texture.std(), 0, 255).astype(np.uint8)
    frames = np.stack([texture[:, k : k + width] for k in range(count)])
    return np.repeat(frames[..., None], 3, axis=-1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six frames at 30 fps as PNG files with fps.txt."""
    made = tmp_path / "frames"
    made.mkdir()
    for index, frame in enumerate(moving_frames()):
        cv2.imwrite(str(made / f"{index:03d}.png"), frame)
    (made / "fps.txt").write_text("30\n")
    return made


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Six frames at 30 fps as a video file."""
    made = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(made), cv2.VideoWriter_fourcc(*"MJPG"), 30.0, (48, 36))
    for frame in moving_frames():
        writer.write(frame)
    writer.release()
    return made
