"""The demo: its reconstruction, what its report says of it, and that its commands do the same again."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from skimage.metrics import structural_similarity

from evsim.cli.conventions import Settings
from evsim.cli.reconstruct import reconstruct
from evsim.media import luma, open_source
from evsim.models.data.sources import find_recordings
from evsim.pipelines import demo


def test_demo_shows_the_reconstruction_beside_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"WIDTH": 64, "HEIGHT": 48, "DURATION_S": 0.3, "FACTOR": 4}.items():
        monkeypatch.setattr(demo, name, value)
    said = demo.run_demo(tmp_path / "demo", seed=1)
    log_frames = np.load(tmp_path / "demo" / "reconstruction.npy")
    truth = np.stack([luma(frame.image) for frame in open_source(tmp_path / "demo" / "clip")]) / 255
    assert log_frames.shape == truth.shape == (10, 48, 64)

    gain, offset = np.polyfit(log_frames.ravel(), np.log(np.maximum(truth, 1 / 255)).ravel(), 1)
    aligned = np.clip(np.exp(gain * log_frames + offset), 0, 1)
    assert said["mse@log-affine"] == pytest.approx(np.mean((aligned - truth) ** 2), abs=6e-5)
    similarities = [
        structural_similarity(*pair, gaussian_weights=True, use_sample_covariance=False, data_range=1.0)
        for pair in zip(aligned, truth)
    ]
    assert said["ssim:evreal@log-affine"] == pytest.approx(np.mean(similarities), abs=1e-3)

    (packed,) = find_recordings(tmp_path / "demo" / "packed" / "train_memmap.txt")
    assert packed == (tmp_path / "demo" / "packed" / "events").resolve()

    page = (tmp_path / "demo" / "report.html").read_text()
    table = page[page.index("The reconstruction beside the truth") :]
    for words in ("sum of the events", "variational", f"{said['mse@log-affine']:.5g}"):
        assert words in table

    line = next(
        line for line in page.replace("</code>", "\n").splitlines() if "evsim reconstruct events.h5" in line
    ).partition("evsim reconstruct ")[2]
    arguments = shlex.split(line.replace("events.h5", str(tmp_path / "demo" / "events.h5")))
    arguments[arguments.index("-o") + 1] = str(tmp_path / "again.npy")
    done = CliRunner().invoke(reconstruct, [*arguments, "--set", "fit.output=log"], obj=Settings())
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), log_frames)
