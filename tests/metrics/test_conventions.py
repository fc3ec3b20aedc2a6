"""Metric conventions: the published number of each, independent implementations, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio
from skimage.metrics import structural_similarity as skimage_similarity

from evsim.errors import InputError
from evsim.metrics import METRICS, count_outside, load_metric

# id: (array of the fixture, tolerance). Published ratios are float32, whose steps are 4e-6 dB; luma has ties.
COLOUR = {
    "psnr:rgb": ("sim2real_psnr", 4e-6),
    "ssim:sim2real": ("sim2real_ssim_pyiqa_rgb", 1e-6),
    "psnr:pyiqa": ("pyiqa_psnr_rgb", 4e-6),
    "psnr:y": ("pyiqa_psnr_y", 5e-6),
    "ssim:y": ("pyiqa_ssim_y", 1e-4),
    "psnr:vfi": ("vfibench_psnr", 4e-6),
    "ssim:vfi": ("vfibench_ssim", 1e-6),
    "ie:vfi": ("vfibench_ie", 1e-6),
    "psnr:gem": ("gem_psnr_rgb_u8", 1e-9),
    "ssim:gem": ("gem_ssim_rgb_u8", 1e-9),
}
GREY = {
    "psnr:gem-grey": ("gem_psnr_gray_u8", 1e-9),
    "ssim:gem-grey": ("gem_ssim_gray_u8", 1e-9),
    "ssim:evreal": ("skimage_ssim_gray", 1e-6),
    "ssim:evreal-v1": ("skimage_ssim_gray_default_range2", 1e-6),
}
RECONSTRUCTION = {
    "mse": ("mse_evreal", 1e-9),
    "mse:ner-codes": ("mse_uint8", 1e-9),
    "ssim:evreal": ("ssim_evreal", 1e-6),
    "ssim:ner": ("ssim_uniform7_range1", 1e-6),
    "ssim:ner-range2": ("ssim_uniform7_range2", 1e-6),
    "ssim:ner-codes": ("ssim_uint8", 1e-9),
    "loe:ner": ("loe50", 1e-4),
}


@pytest.fixture
def pair() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A grey reference and a noisy prediction, (40, 48), in [0, 1]."""
    draw = np.random.default_rng(5)
    reference = 0.5 + 0.4 * np.sin(np.arange(48) / 5 + np.arange(40)[:, None] / 9)
    return np.clip(reference + 0.1 * draw.standard_normal(reference.shape), 0, 1), reference


@pytest.mark.needs_parity
@pytest.mark.parametrize("name", COLOUR)
@pytest.mark.parametrize("fixture", ["metrics_rgb_a.npz", "metrics_rgb_b_large.npz"])
def test_colour_conventions_give_the_published_numbers(name: str, fixture: str, parity: Path) -> None:
    arrays = np.load(parity / fixture)
    key, tolerance = COLOUR[name]
    images = zip(arrays["pred"].transpose(0, 2, 3, 1), arrays["ref"].transpose(0, 2, 3, 1), strict=True)
    found = [METRICS[name](prediction, reference) for prediction, reference in images]
    np.testing.assert_allclose(found, arrays[key], rtol=0, atol=tolerance)


@pytest.mark.needs_parity
@pytest.mark.parametrize("name", GREY)
def test_grey_conventions_give_the_published_numbers(name: str, parity: Path) -> None:
    arrays = np.load(parity / "metrics_rgb_a.npz")
    key, tolerance = GREY[name]
    found = [METRICS[name](*images) for images in zip(arrays["gray_pred"], arrays["gray_ref"], strict=True)]
    np.testing.assert_allclose(found, arrays[key], rtol=0, atol=tolerance)


@pytest.mark.needs_parity
@pytest.mark.parametrize("name", ["psnr:gem-grey", "ssim:gem-grey"])
def test_grey_table_takes_colour_images_by_their_luma(name: str, parity: Path) -> None:
    arrays = np.load(parity / "metrics_rgb_a.npz")
    colour = METRICS[name](*(arrays[key][0].transpose(1, 2, 0) for key in ("pred", "ref")))
    assert colour == pytest.approx(float(arrays[GREY[name][0]][0]), abs=1e-3)


@pytest.mark.needs_parity
@pytest.mark.parametrize("name", RECONSTRUCTION)
def test_reconstruction_conventions_give_the_published_numbers(name: str, parity: Path) -> None:
    arrays = np.load(parity / "metrics_recon_a.npz")
    key, tolerance = RECONSTRUCTION[name]
    assert METRICS[name](arrays["pred"], arrays["gt"]) == pytest.approx(float(arrays[key]), abs=tolerance)


@pytest.mark.needs_parity
def test_multi_scale_similarity_gives_the_published_number(parity: Path) -> None:
    arrays = np.load(parity / "metrics_rgb_b_large.npz")
    found = METRICS["ms-ssim:vfi"](*(arrays[key][0].transpose(1, 2, 0) for key in ("pred", "ref")))
    assert found == pytest.approx(float(arrays["vfibench_msssim"][0]), abs=1e-6)


@pytest.mark.needs_parity
def test_deblurring_numbers_come_from_truncated_codes(parity: Path) -> None:
    arrays = np.load(parity / "gem_metrics_lr.npz")
    for prediction in (arrays["pred_float"], arrays["pred_u8"]):
        for name, key in (("psnr:gem", "psnr"), ("ssim:gem", "ssim")):
            assert METRICS[name](prediction, arrays["gt_u8"]) == pytest.approx(float(arrays[key]), abs=1e-12)
    assert METRICS["psnr:gem"](arrays["gt_u8"], arrays["gt_u8"]) == math.inf


@pytest.mark.needs_parity
def test_low_light_interpolation_metrics_clamp_and_round(parity: Path) -> None:
    arrays = np.load(parity / "sim2real_losses.npz")
    prediction, reference = (arrays[key][0].transpose(1, 2, 0) for key in ("pred", "target"))
    assert METRICS["psnr:rgb"](prediction, reference) == pytest.approx(float(arrays["psnr"]), abs=4e-6)
    assert METRICS["ssim:sim2real"](prediction, reference) == pytest.approx(
        float(arrays["ssim"][0]), abs=1e-6
    )
    assert METRICS["mae"](prediction, reference) == pytest.approx(float(arrays["l1"]), abs=1e-7)


@pytest.mark.needs_parity
def test_conventions_disagree_on_one_pair_as_documented(parity: Path) -> None:
    arrays = np.load(parity / "metrics_rgb_a.npz")
    colour = [arrays[key][0].transpose(1, 2, 0) for key in ("pred", "ref")]
    grey = [arrays[key][0] for key in ("gray_pred", "gray_ref")]
    values = {
        name: METRICS[name](*(grey if name.startswith(("ssim:evreal", "ssim:ner")) else colour))
        for name in METRICS
        if name.startswith("ssim:")
    }
    assert min(values.values()) == pytest.approx(0.825, abs=5e-4)
    assert max(values.values()) == pytest.approx(0.958, abs=5e-3)
    assert values["ssim:vfi"] == min(values.values())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ssim:evreal", {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}),
        ("ssim:ner", {}),
        ("ssim:gem-grey", {"win_size": 11, "use_sample_covariance": False}),
    ],
)
def test_similarity_equals_scikit_image(
    name: str, options: dict[str, object], pair: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> None:
    images = pair
    data_range = 1.0
    if name == "ssim:gem-grey":
        images, data_range = tuple(np.floor(255 * image) for image in pair), 255.0
    expected = skimage_similarity(*images, data_range=data_range, **options)
    assert METRICS[name](*pair) == pytest.approx(float(expected), abs=1e-9)


def test_noise_ratio_equals_scikit_image(pair: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    expected = peak_signal_noise_ratio(pair[1], pair[0], data_range=1.0)
    assert METRICS["psnr:rgb"](*pair) == pytest.approx(float(expected), abs=1e-6)
    assert METRICS["mse"](*pair) == pytest.approx(10 ** (-float(expected) / 10))


@pytest.mark.parametrize("name", [name for name in METRICS if not METRICS[name].weights])
def test_identical_images_are_the_best(name: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (176, 180), np.uint8)
    worse = image ^ np.uint8(16)
    metric = METRICS[name]
    best, found = metric(image, image), metric(worse, image)
    assert best > found if metric.higher_is_better else best < found
    if "ssim" in name:
        assert best == pytest.approx(1)


@pytest.mark.parametrize("name", ["psnr:vfi", "ssim:gem", "ssim:sim2real", "ssim:rgb"])
def test_codes_and_floats_and_wide_codes_are_the_same_image(name: str) -> None:
    draw = np.random.default_rng(2)
    images = [draw.integers(0, 256, (24, 20, 3), np.uint8) for _ in range(2)]
    expected = METRICS[name](*images)
    assert METRICS[name](*(image.astype(np.float32) / np.float32(255) for image in images)) == pytest.approx(
        expected, abs=1e-6
    )
    assert METRICS[name](*(image.astype(np.uint16) * 257 for image in images)) == pytest.approx(expected)


def test_overshoot_is_clamped_and_can_be_counted() -> None:
    reference = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    prediction = 1.5 * reference - 0.25
    expected = METRICS["mse"](np.clip(prediction, 0, 1), reference)
    assert METRICS["mse"](prediction, reference) == expected
    assert METRICS["mse:ner"](prediction, reference) > expected
    assert count_outside(prediction) == np.count_nonzero((prediction < 0) | (prediction > 1)) > 0
    assert count_outside(np.full((2, 2), 255, np.uint8)) == 0


GOOD = np.full((16, 16), 0.5)


@pytest.mark.parametrize(
    ("prediction", "reference", "words"),
    [
        (GOOD[:12], GOOD, r"\(12, 16, 1\), reference \(16, 16, 1\)"),
        (np.stack([GOOD] * 3, -1), GOOD, "crop or resize"),
        (np.where(np.eye(16) > 0, np.nan, GOOD), GOOD, "prediction holds 16 values that are not finite"),
        (GOOD, GOOD * np.inf, "reference holds 256 values"),
        (GOOD * 200, GOOD, "prediction runs from 100 to 100, expected full scale 1.0"),
        (GOOD, GOOD * 3, "reference runs from 1.5 to 1.5"),
        (GOOD > 0, GOOD, "prediction is bool"),
        (np.ones((16, 16, 4)), GOOD, "expected \\(H, W\\)"),
        (np.empty((0, 16)), GOOD, "has shape"),
    ],
)
@pytest.mark.parametrize("name", ["mse", "psnr:y", "ssim:rgb", "loe:ner", "ms-ssim:vfi"])
def test_unusable_images_are_refused(
    name: str, prediction: NDArray[np.float64], reference: NDArray[np.float64], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        METRICS[name](prediction, reference)


def test_images_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(InputError, match="smaller than the window of 11x11"):
        METRICS["ssim:rgb"](GOOD[:10], GOOD[:10])
    with pytest.raises(InputError, match="must exceed 160"):
        METRICS["ms-ssim:vfi"](np.zeros((160, 300)), np.zeros((160, 300)))


@pytest.mark.parametrize("name", ["ssim:evreal", "ssim:ner", "loe:ner"])
def test_grey_conventions_refuse_colour(name: str) -> None:
    colour = np.full((20, 20, 3), 0.5)
    with pytest.raises(InputError, match="defined for grey images"):
        METRICS[name](colour, colour)


def test_bare_name_of_a_family_is_no_metric() -> None:
    for name in ("ssim", "psnr", "lpips"):
        with pytest.raises(InputError, match=f"unknown metric '{name}'.*known: .*{name}:"):
            METRICS[name]


@pytest.mark.parametrize("name", [name for name in METRICS if METRICS[name].weights])
def test_metric_without_weights_refuses_and_says_how_to_go_on(name: str, tmp_path: Path) -> None:
    metric = METRICS[name]
    for refuse in (
        lambda: metric(GOOD, GOOD),
        lambda: load_metric(name),
        lambda: load_metric(name, tmp_path),
    ):
        with pytest.raises(InputError, match=f"leave {name} out of --metrics") as caught:
            refuse()
        assert all(file.name in str(caught.value) for file in metric.weights)


def test_every_metric_says_what_it_is() -> None:
    for name, metric in METRICS.items():
        assert metric.id == name
        assert metric.definition
        assert "\n" not in metric.definition
        assert (metric.function is None) == bool(metric.weights)


def test_documentation_has_a_line_for_every_metric() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name, metric in METRICS.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert line.endswith("higher |" if metric.higher_is_better else "lower |")
    for file in {file.name for metric in METRICS.values() for file in metric.weights}:
        assert f"`{file}`" in text
