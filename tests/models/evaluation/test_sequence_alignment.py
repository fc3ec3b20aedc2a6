"""Sequences brought to their references as a whole before they are scored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from evreal_folders import from_scene

from evsim.cli.conventions import Settings
from evsim.cli.evaluate import evaluate
from evsim.errors import ConfigError, InputError
from evsim.models.evaluation.alignment import fit_alignment
from evsim.models.evaluation.network import evaluate_sequence
from evsim.models.evaluation.protocol import EvaluationConfig
from evsim.models.evaluation.scoring import Scorer, load_metrics
from evsim.models.evaluation.sequences import find_sequences
from evsim.models.prediction.needs import Needs
from evsim.models.prediction.scene import Scene

SCORER = Scorer(load_metrics(["mse", "ssim:evreal"]))


class Given:
    """A method that found the given images."""

    def __init__(self, images: np.ndarray) -> None:
        self.found, self.facts = images.astype(np.float32), dict[str, Any]()
        self.needs = Needs(events=True)

    def images(self, scene: Scene, times_us: np.ndarray, *, report: Any = None) -> Iterator[np.ndarray]:
        yield from self.found[: len(times_us)]


@pytest.mark.needs_parity
@pytest.mark.parametrize(
    ("align", "key"), [("log-affine", "log_affine_seq"), ("log-offset", "log_offset_seq")]
)
def test_log_intensity_scores_as_published_once_aligned(
    align: str, key: str, parity: Path, tmp_path: Path
) -> None:
    arrays = np.load(parity / "evinr_e2e.npz")
    run = json.loads((parity / "evinr_e2e.json").read_text())["runs"][0]
    truth, level = arrays["gt_frames"], arrays["upstream_log_intensity"].astype(np.float32)
    gauge = fit_alignment(zip(level, truth), align, logarithmic=True)  # type: ignore[arg-type]
    if align == "log-affine":
        offset, there = np.log(gauge(np.array([0.0, 1.0], np.float32)))
        assert (there - offset, offset) == pytest.approx((run["log_affine_a"], run["log_affine_b"]), rel=1e-3)
    sequence = find_sequences(from_scene(tmp_path / "a" / "scene", arrays))[0][0]
    config = EvaluationConfig(all_frames=True, align=align, logarithmic=True)  # type: ignore[arg-type]
    one = evaluate_sequence(Given(level[1:]), sequence, SCORER, config)
    assert len(one.frames) == 30
    # The published mean counts the first frame too, which is the worst.
    assert one.mean("mse", config) == pytest.approx(run[key]["mse"], rel=0.06)
    assert one.mean("ssim:evreal", config) == pytest.approx(run[key]["ssim"], rel=0.06)
    scores = [SCORER(gauge(a), b, "pair") for a, b in zip(level, truth)]
    for name, published in (("mse", "mse"), ("ssim:evreal", "ssim")):
        assert np.mean([score[name] for score in scores]) == pytest.approx(run[key][published], rel=5e-4)


def test_gauge_of_light_is_undone(tmp_path: Path) -> None:
    rs = np.random.RandomState(2)
    truth = rs.uniform(0.05, 0.95, (3, 20, 30))
    codes = np.round(255 * truth).astype(np.uint8)
    seen = (1.7 * (codes / 255) ** 0.6).astype(np.float32)
    gauge = fit_alignment(zip(seen, codes), "log-affine")
    np.testing.assert_allclose(gauge(seen[0]), codes[0] / 255, atol=1e-5)
    gain = fit_alignment(zip(2 * (codes / 255), codes), "log-offset")
    np.testing.assert_allclose(gain(np.array([0.8])), [0.4], atol=1e-6)
    robust = fit_alignment(((image, None) for image in seen), "robust")
    low, high = np.percentile(seen, (1, 99))
    np.testing.assert_allclose(robust(seen[1]), (seen[1] - low) / (high - low), atol=1e-5)
    flat = fit_alignment([(np.ones((2, 2)), np.full((2, 2), 0.25))], "log-affine")
    np.testing.assert_allclose(flat(np.ones(1)), [0.25], atol=1e-6)
    with pytest.raises(InputError, match="needs references to fit to"):
        fit_alignment([(seen[0], None)], "log-affine")
    with pytest.raises(ConfigError, match="one fits the sequence, the other each frame"):
        EvaluationConfig(align="robust", normalize="robust")


def test_folders_are_aligned_and_every_table_says_so(tmp_path: Path) -> None:
    rs = np.random.RandomState(4)
    for name in ("truth", "found"):
        (tmp_path / name / "a").mkdir(parents=True)
    for k in range(3):
        codes = rs.randint(20, 100, (24, 32)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "truth" / "a" / f"{k}.png"), codes)
        cv2.imwrite(str(tmp_path / "found" / "a" / f"{k}.png"), 2 * codes)
    line = [
        tmp_path / "found",
        "--data",
        tmp_path / "truth",
        "--metrics",
        "mse,psnr:rgb",
        "-o",
        tmp_path / "out",
    ]
    done = CliRunner().invoke(evaluate, [*map(str, line), "--align", "log-affine"], obj=Settings())
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "found, pairs, align log-affine"
    (table,) = (tmp_path / "out").rglob("found.csv")
    header, row = table.read_text().splitlines()[:2]
    cells = dict(zip(header.split(","), row.split(",")))
    assert cells["preparation"] == "align log-affine"
    assert float(cells["mse"]) < 1e-9
    assert "align log-affine" in next((tmp_path / "out").rglob("found.html")).read_text()
