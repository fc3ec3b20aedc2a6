"""Every script in examples/ runs, at toy size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evsim.media import ArraySource
from evsim.pipelines.simulate import compose, simulate_clip

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What each script is called with; a new script must say so here."""
    folder = tmp_path_factory.mktemp("examples")
    ramp = np.linspace(0, 255, 24 * 32).reshape(24, 32)
    frames = np.stack([np.roll(ramp, 3 * k, axis=1) for k in range(5)]).astype(np.uint8)
    np.savez(folder / "clip.npz", frames=frames, t_ns=np.arange(5) * 10_000_000)
    simulate_clip(ArraySource(frames, 100.0), folder / "events.h5", compose(preset="ideal"))
    return {
        "custom_network.py": [str(folder / "events.h5"), "5"],
        "fit_recording.py": ["3", str(folder / "events.h5")],
        "simulate_array.py": [],
        "stream_a_clip.py": [str(folder / "clip.npz")],
        "voxel_batch.py": [str(folder / "events.h5")],
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_example_runs(script: Path, arguments: dict[str, list[str]]) -> None:
    command = [sys.executable, str(script), *arguments[script.name]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
