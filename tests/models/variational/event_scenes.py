"""The two published scenes of 48x64 pixels: events, and the frames that they should give back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evsim.events import Events


def scene_events(parity: Path, name: str) -> Events:
    t, x, y, p = np.load(parity / f"{name}.npz")["events"].T
    microseconds = np.round(1e6 * t).astype(np.int64)
    return Events(
        microseconds, x.astype(np.uint16), y.astype(np.uint16), (p > 0).astype(np.uint8), width=64, height=48
    )


def scene_frames(parity: Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """(31, 48, 64) frames and their times in microseconds, one second in all."""
    scene = np.load(parity / "evinr_e2e.npz")
    return scene["gt_frames"], 1e6 * scene["gt_times"]
