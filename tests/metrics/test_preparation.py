"""Normalisation of reconstructions and equalisation of both images before they are scored."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from skimage import exposure, filters, morphology

from evsim.errors import InputError
from evsim.metrics import METRICS, equalise_image, normalise_image
from evsim.metrics.preparation import Equalisation, Normalisation


@pytest.mark.needs_parity
@pytest.mark.parametrize("normalisation", get_args(Normalisation))
@pytest.mark.parametrize("equalisation", get_args(Equalisation))
def test_scores_after_preparation_equal_the_published(
    normalisation: Normalisation, equalisation: Equalisation, parity: Path
) -> None:
    arrays = np.load(parity / "evreal_metrics_a.npz")
    for index, (prediction, reference) in enumerate(zip(arrays["pred"], arrays["ref"], strict=True)):
        spread = normalise_image(prediction, normalisation)
        images = [equalise_image(np.clip(image, 0, 1), equalisation) for image in (spread, reference)]
        for name, key in (("mse", "mse"), ("ssim:evreal", "ssim")):
            expected = float(arrays[f"{key}_{normalisation}_{equalisation}"][index])
            assert METRICS[name](*images) == pytest.approx(expected, abs=1e-6)


@pytest.mark.needs_parity
def test_prepared_images_equal_the_published(parity: Path) -> None:
    arrays = np.load(parity / "metrics_recon_a.npz")
    np.testing.assert_allclose(normalise_image(arrays["pred"], "robust"), arrays["robust_1_99"], atol=1e-6)
    for kind in ("global", "local", "clahe"):
        np.testing.assert_allclose(equalise_image(arrays["pred"], kind), arrays[f"histeq_{kind}"], atol=1e-6)


def test_equalisation_equals_scikit_image() -> None:
    image = np.random.default_rng(0).random((70, 130)) ** 2
    np.testing.assert_allclose(equalise_image(image, "global"), exposure.equalize_hist(image), atol=1e-9)
    codes = np.rint(image * 255).astype(np.uint8)
    expected = filters.rank.equalize(codes, footprint=morphology.disk(55))
    np.testing.assert_array_equal(np.rint(equalise_image(image, "local") * 255), expected)


def test_normalisation_spreads_between_percentiles() -> None:
    image = np.linspace(-3, 5, 101, dtype=np.float32).reshape(1, 101)
    np.testing.assert_allclose(normalise_image(image, "standard"), np.linspace(0, 1, 101)[None], atol=1e-6)
    robust = normalise_image(image, "robust")
    assert robust[0, 1] == pytest.approx(0, abs=1e-6)
    assert robust[0, 99] == pytest.approx(1, abs=1e-6)
    assert np.array_equal(normalise_image(image, "none"), image)
    assert not normalise_image(np.full((4, 4), 0.7), "robust").any()


def test_unknown_kinds_colour_and_nan_are_refused() -> None:
    grey = np.full((8, 8), 0.5)
    with pytest.raises(InputError, match="normalisation 'minmax', expected one of none"):
        normalise_image(grey, "minmax")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="equalisation 'clash', expected one of none"):
        equalise_image(grey, "clash")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="grey images"):
        equalise_image(np.zeros((8, 8, 3)), "global")
    with pytest.raises(InputError, match="64 values that are not finite"):
        normalise_image(grey * np.nan, "robust")
