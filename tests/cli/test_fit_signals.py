"""A signal to a process that fits a recording: its exit code, what it says, and what it leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evsim.events import Events
from evsim.formats import save_events

ROOT = Path(__file__).resolve().parents[2]
TINY = [word for field in ("hidden_width=8", "neck_width=4") for word in ("--set", f"fit.{field}")]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Events on pixels that follow each other, a second long."""
    k = np.arange(2000)
    x, y = (k % 16).astype(np.uint16), (k // 16 % 12).astype(np.uint16)
    save_events(Events(500 * k, x, y, (k % 3 > 0).astype(np.uint8), 16, 12), tmp_path / "events.h5")
    return tmp_path / "events.h5"


def stopped(number: int, begun: Callable[[], bool], *words: object) -> tuple[int, str]:
    """Exit code and errors of a verb that gets a signal as soon as it has begun."""
    line = [sys.executable, "-m", "evsim", *map(str, words)]
    with subprocess.Popen(
        line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not begun() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    return process.returncode, errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_fit_is_kept_up_to_its_last_step(number: int, code: int, recording: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("train", "evinr", recording, "-o", run, "--iterations", 1_000_000, "--device", "cpu", *TINY)
    found, errors = stopped(number, lambda: (run / "metrics.csv").is_file(), *words)
    assert found == code, errors
    assert f"resume with: evsim train evinr {recording} --resume -o {run}" in errors
    assert {path.name for path in run.iterdir()} == {
        "config.yaml",
        "metrics.csv",
        "state.safetensors",
        "summary.json",
    }


@pytest.mark.parametrize(
    ("network", "number", "code"),
    [("evinr", signal.SIGINT, 130), ("variational", signal.SIGTERM, 143)],
)
def test_images_that_are_not_complete_are_removed(
    network: str, number: int, code: int, recording: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    words = ["reconstruct", recording, "-o", folder / "frames", "--network", network, "--frames", 1_000_000]
    words += [*TINY, "--iterations", 1, "--device", "cpu"] if network == "evinr" else []
    # The writer has begun: something is there under another name.
    found, errors = stopped(number, lambda: any(folder.iterdir()), *words)
    assert found == code, errors
    assert "what was not complete was removed" in errors
    assert not list(folder.iterdir())
