"""NIQE and BRISQUE: features, fits and scores against the published implementations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError
from evsim.metrics import (
    BrisqueRegression,
    SceneModel,
    brisque,
    brisque_features,
    fit_scene_model,
    load_metric,
    load_scene_model,
    niqe,
    niqe_features,
    save_scene_model,
    scaled_features,
)
from evsim.metrics.scene_statistics import (
    asymmetric_fit,
    half_size,
    luminance,
    normalised_luminance,
    symmetric_fit,
)


@pytest.fixture(scope="module")
def textured() -> NDArray[np.float64]:
    """(200, 208) noise of several scales in [0, 1]."""
    draw = np.random.default_rng(3)
    fine = draw.random((200, 208))
    coarse = np.kron(draw.random((25, 26)), np.ones((8, 8)))
    return 0.3 * fine + 0.7 * coarse


@pytest.mark.needs_parity
def test_local_normalisation_and_half_size_equal_the_published(parity: Path) -> None:
    arrays = np.load(parity / "nss_a.npz")
    level = luminance(arrays["images"][0])
    np.testing.assert_allclose(half_size(level), arrays["half"][0], rtol=0, atol=1e-4)
    normalised, _ = normalised_luminance(level, border="zero")
    np.testing.assert_allclose(normalised[:64, :64], arrays["mscn_same"][0], rtol=0, atol=1e-4)


@pytest.mark.needs_parity
def test_brisque_features_equal_the_published(parity: Path) -> None:
    arrays = np.load(parity / "nss_a.npz")
    features = np.array([brisque_features(image) for image in arrays["images"]])
    np.testing.assert_allclose(features, arrays["brisque_features"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(
        scaled_features(features), arrays["brisque_features_scaled"], rtol=0, atol=1e-5
    )


@pytest.mark.needs_parity
def test_niqe_features_and_distances_equal_the_published(parity: Path) -> None:
    arrays = np.load(parity / "nss_a.npz")
    pristine = fit_scene_model([arrays["images"][0]], sharpness=0)
    np.testing.assert_allclose(pristine.mean, arrays["niqe_mu"][0], rtol=0, atol=2e-6)
    np.testing.assert_allclose(pristine.covariance, arrays["niqe_cov"][0], rtol=0, atol=1e-6)
    for image, features, distance in zip(
        arrays["images"], arrays["niqe_block_features"], arrays["niqe_vs_image0"], strict=True
    ):
        np.testing.assert_allclose(niqe_features(image), features, rtol=0, atol=2e-6)
        # The pseudo-inverse of a covariance of four blocks magnifies the float32 noise of the reference.
        assert niqe(image, pristine) == pytest.approx(float(distance), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("shape", "power"), [(2.0, None), (1.0, 1)])
def test_fits_recover_gaussian_and_laplacian(shape: float, power: int | None) -> None:
    draw = np.random.default_rng(1)
    values = draw.standard_normal(200_000) if power is None else draw.laplace(size=200_000)
    fitted, variance = symmetric_fit(values)
    assert fitted == pytest.approx(shape, rel=0.03)
    assert variance == pytest.approx(values.var(), rel=1e-3)
    # The scales of its sides are also the shares of its mass.
    side = np.where(draw.random(values.size) < 0.75, 3, -1)
    skewed = asymmetric_fit(side * np.abs(values))
    assert skewed.shape == pytest.approx(shape, rel=0.05)
    assert skewed.right / skewed.left == pytest.approx(3, rel=0.02)


def test_half_size_keeps_constants_and_slopes() -> None:
    np.testing.assert_allclose(half_size(np.full((9, 12), 7.0)), 7, atol=1e-12)
    slope = np.arange(40.0) * np.ones((20, 1))
    np.testing.assert_allclose(half_size(slope)[:, 4:-4], (2 * np.arange(20) + 0.5)[None, 4:-4].repeat(10, 0))


def test_niqe_grows_with_degradation_and_is_zero_for_the_model_itself(textured: NDArray[np.float64]) -> None:
    model = fit_scene_model([textured], sharpness=0)
    noise = np.random.default_rng(4).standard_normal(textured.shape)
    distances = [niqe(np.clip(textured + s * noise, 0, 1), model) for s in (0, 0.02, 0.2)]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances[0] < distances[1] < distances[2]


def test_fitting_keeps_only_sharp_blocks(textured: NDArray[np.float64]) -> None:
    half_flat = np.concatenate([textured[:192, :192], 0.5 + 0.02 * textured[:192, :192]], axis=1)
    sharp, all_blocks = fit_scene_model([half_flat]), fit_scene_model([half_flat], sharpness=0)
    expected = fit_scene_model([textured[:192, :192]]).mean
    # Not exactly: the windows at the seam see both halves.
    np.testing.assert_allclose(sharp.mean, expected, atol=0.05)
    assert np.abs(all_blocks.mean - expected).max() > 1


def test_scene_model_survives_the_disk(textured: NDArray[np.float64], tmp_path: Path) -> None:
    model = fit_scene_model([textured])
    save_scene_model(model, tmp_path / "niqe_pris_params.npz")
    loaded = load_scene_model(tmp_path / "niqe_pris_params.npz")
    assert np.array_equal(loaded.mean, model.mean)
    assert np.array_equal(loaded.covariance, model.covariance)
    metric = load_metric("niqe", tmp_path)
    assert metric(textured[::-1]) == niqe(textured[::-1], model)


def test_broken_model_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(b"not a zip")
    with pytest.raises(FormatError, match="mu_pris_param"):
        load_scene_model(path)
    np.savez(path, mean=np.zeros(36))
    with pytest.raises(FormatError, match="mu_pris_param"):
        load_scene_model(path)
    np.savez(path, mu_pris_param=np.zeros(35), cov_pris_param=np.zeros((36, 36)))
    with pytest.raises(FormatError, match=r"\(35,\)"):
        load_scene_model(path)


def test_images_without_texture_or_too_small_are_refused(textured: NDArray[np.float64]) -> None:
    model = SceneModel(mean=np.zeros(36), covariance=np.eye(36))
    with pytest.raises(InputError, match="at least 96x96"):
        niqe_features(textured[:95])
    with pytest.raises(InputError, match="1 of 1 blocks"):
        niqe(textured[:100, :100], model)
    with pytest.raises(InputError, match="0 of 4 blocks"):
        niqe(np.full((200, 200), 0.5), model)
    with pytest.raises(InputError, match="no texture"):
        brisque_features(np.zeros((64, 64), np.uint8))


LIBSVM = """svm_type epsilon_svr
kernel_type rbf
gamma 0.05
nr_class 2
total_sv 2
rho -153.591
SV
-2.5 1:0.5 36:-1
4 2:1
"""


def test_brisque_is_the_regression_of_a_libsvm_file(textured: NDArray[np.float64], tmp_path: Path) -> None:
    folder = tmp_path / "brisque"
    folder.mkdir()
    (folder / "allmodel").write_text(LIBSVM)
    features = scaled_features(brisque_features(textured))
    first, second = np.zeros(36), np.zeros(36)
    first[0], first[35], second[1] = 0.5, -1, 1
    kernels = [np.exp(-0.05 * np.sum((features - vector) ** 2)) for vector in (first, second)]
    expected = -2.5 * kernels[0] + 4 * kernels[1] + 153.591
    assert load_metric("brisque", tmp_path)(textured) == pytest.approx(expected)
    regression = BrisqueRegression(
        support_vectors=np.array([first, second]), coefficients=np.array([-2.5, 4])
    )
    assert brisque(textured, regression) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("SV\n", "VS\n", "no line 'SV'"),
        ("rbf", "linear", "epsilon_svr, linear"),
        ("2:1", "37:1", "line 9"),
        ("2:1", "2=1", "line 9"),
        ("total_sv 2", "total_sv 774", "the header says 774"),
        ("gamma 0.05\n", "", "gamma"),
    ],
)
def test_broken_regression_files_are_refused(old: str, new: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "brisque").mkdir()
    (tmp_path / "brisque" / "allmodel").write_text(LIBSVM.replace(old, new, 1))
    with pytest.raises(FormatError, match=words):
        load_metric("brisque", tmp_path)
