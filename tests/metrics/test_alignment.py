"""Scores of log intensity after one gain and offset for a sequence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evsim.errors import InputError
from evsim.metrics.alignment import AlignmentRule, aligned_images, aligned_scores, log_fit, tone_map

PUBLISHED: dict[AlignmentRule, str] = {
    "tone-mapped": "raw_tonemapped",
    "log-affine": "log_affine_seq",
    "log-offset": "log_offset_seq",
    "exprobust": "exprobust_perframe",
    "tone-mapped-robust": "tonemap_robust_perframe",
    "tone-mapped-equalised": "histeq_both",
}


@pytest.mark.needs_parity("evinr_e2e.npz", "evinr_e2e.json")
@pytest.mark.parametrize("alignment", PUBLISHED)
def test_scores_of_a_published_reconstruction(parity: Path, alignment: AlignmentRule) -> None:
    scene = np.load(parity / "evinr_e2e.npz")
    run = json.loads((parity / "evinr_e2e.json").read_text())["runs"][0]
    # The fixture keeps the reconstruction in half precision: 1e-4 is that.
    scores = aligned_scores(scene["upstream_log_intensity"], scene["gt_frames"], alignment)
    expected = run[PUBLISHED[alignment]]
    assert scores[f"mse@{alignment}"] == pytest.approx(expected["mse"], abs=1e-5)
    assert scores[f"ssim:evreal@{alignment}"] == pytest.approx(expected["ssim"], abs=1e-4)
    a, b = log_fit(scene["upstream_log_intensity"], scene["gt_frames"])
    assert (a, b) == pytest.approx((run["log_affine_a"], run["log_affine_b"]), abs=1e-4)


def test_gain_and_offset_do_not_matter_after_an_affine_fit() -> None:
    draw = np.random.default_rng(0)
    truth = draw.uniform(0.05, 1, (3, 12, 14))
    scores = aligned_scores(3.0 * np.log(truth) - 7.0, truth)
    assert scores["mse@log-affine"] == pytest.approx(0, abs=1e-20)
    assert scores["ssim:evreal@log-affine"] == pytest.approx(1)
    assert aligned_scores(np.log(truth) + 5.0, truth, "log-offset")["mse@log-offset"] == pytest.approx(0)
    assert aligned_scores(3.0 * np.log(truth), truth, "log-offset")["mse@log-offset"] > 0.01


def test_the_fit_is_that_of_the_whole_sequence() -> None:
    draw = np.random.default_rng(1)
    truth, log_intensity = draw.uniform(0.1, 1, (4, 5, 6)), draw.normal(size=(4, 5, 6))
    slope, offset = np.polyfit(log_intensity.ravel(), np.log(truth).ravel(), 1)
    assert log_fit(log_intensity, truth) == pytest.approx((slope, offset))
    assert log_fit(np.ones((2, 3, 4)), truth[:2, :3, :4]) == pytest.approx(
        (1.0, np.log(truth[:2, :3, :4]).mean() - 1)
    )


def test_tone_mapping_is_the_published_curve_and_does_not_overflow() -> None:
    values = np.array([-3.0, 0.0, 2.0])
    light = np.exp(values)
    np.testing.assert_allclose(tone_map(values), (light / (1 + light)) ** (1 / 0.6), rtol=1e-6)
    np.testing.assert_array_equal(tone_map([-500.0, 500.0]), [0.0, 1.0])


@pytest.mark.parametrize(
    ("log_intensity", "references", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3)), "expected finite"),
        (np.full((1, 3, 3), np.nan), np.zeros((1, 3, 3)), "9 values"),
        (np.zeros((1, 3, 3)), np.zeros((1, 3, 4)), "references"),
        (np.zeros((1, 3, 3)), np.zeros((1, 3, 3, 3), np.uint8), "three channels"),
        (np.zeros((1, 3, 3)), np.full((1, 3, 3), 2.0), "full scale 1.0"),
    ],
)
def test_what_cannot_be_aligned_is_refused(
    log_intensity: np.ndarray, references: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        aligned_scores(log_intensity, references)
    with pytest.raises(InputError, match="expected one of"):
        aligned_images(np.zeros((1, 3, 3)), np.zeros((1, 3, 3)), "per-frame")  # type: ignore[arg-type]
