"""Code values and light."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from evsim.errors import InputError
from evsim.media import from_linear, luma, quantize, to_linear


def test_srgb_follows_iec_61966() -> None:
    # Values of the standard's piecewise definition at both sides of its knee and at mid grey.
    codes = np.array([0, 0.04045, 0.5, 1.0], np.float32)
    want = [0, 0.04045 / 12.92, ((0.5 + 0.055) / 1.055) ** 2.4, 1]
    np.testing.assert_allclose(to_linear(codes, "srgb"), want, rtol=1e-6)
    assert to_linear(np.array([188], np.uint8), "srgb")[0] == pytest.approx(0.5028865, rel=1e-6)


@pytest.mark.parametrize("transfer", ["srgb", "gamma", "linear", "raw", "log"])
def test_from_linear_undoes_to_linear(transfer: str) -> None:
    light = np.linspace(1e-4, 1, 1000, dtype=np.float32).reshape(10, 100)
    back = to_linear(from_linear(light, transfer), transfer)  # type: ignore[arg-type]
    np.testing.assert_allclose(back, light, rtol=3e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("transfer", ["srgb", "gamma", "linear"])
def test_every_code_survives_linear_light(dtype: type, transfer: str) -> None:
    codes = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    light = to_linear(codes, transfer)  # type: ignore[arg-type]
    assert (light[0], light[-1]) == (0, 1)
    back, clipped = quantize(from_linear(light, transfer), dtype)  # type: ignore[arg-type]
    np.testing.assert_array_equal(back, codes)
    assert clipped == 0


def test_log_is_of_the_display_number() -> None:
    np.testing.assert_allclose(
        to_linear(np.log(np.array([1.0, 51.0, 255.0])), "log"), [1 / 255, 0.2, 1], 1e-6
    )
    assert np.isfinite(from_linear(np.zeros(3), "log")).all()


def test_integer_codes_cannot_be_logarithms() -> None:
    with pytest.raises(InputError, match="'log' with uint8 codes"):
        to_linear(np.zeros((2, 2), np.uint8), "log")


def test_unknown_transfer_is_refused() -> None:
    with pytest.raises(InputError, match="transfer = 'hlg', expected one of srgb"):
        to_linear(np.zeros((2, 2), np.uint8), "hlg")  # type: ignore[arg-type]


def test_quantize_counts_what_it_clips() -> None:
    codes, clipped = quantize(np.array([-0.1, 0.5, 1.0, 1.5], np.float32), np.uint8)
    assert (codes.tolist(), clipped) == ([0, 128, 255, 255], 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_luma_of_equal_channels_is_that_channel(dtype: type) -> None:
    if np.dtype(dtype).kind == "f":
        grey = np.random.default_rng(0).random((64, 64)).astype(dtype)
    else:
        grey = np.arange(65536).reshape(256, 256).astype(dtype)
    np.testing.assert_array_equal(luma(np.dstack([grey] * 3)), grey)
    assert luma(grey) is grey


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_luma_is_the_weighted_sum(dtype: type) -> None:
    full = 1.0 if dtype is np.float32 else np.iinfo(dtype).max
    image = (np.random.default_rng(1).random((40, 50, 3)) * full).astype(dtype)
    want = image.astype(np.float64) @ [0.299, 0.587, 0.114]
    got = luma(image)
    assert got.dtype == dtype
    assert np.max(np.abs(got - want)) <= (1e-6 if dtype is np.float32 else 0.5 + full * 2e-5)
    if dtype is np.uint8:
        np.testing.assert_array_equal(got, cv2.cvtColor(image[..., ::-1].copy(), cv2.COLOR_BGR2GRAY))


def test_luma_refuses_four_channels() -> None:
    with pytest.raises(InputError, match=r"expected \(H, W\) or \(H, W, 3\)"):
        luma(np.zeros((2, 2, 4), np.uint8))
