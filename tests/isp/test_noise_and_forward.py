"""Frame-camera noise, mosaic interpolation and the pictures made for people."""

from __future__ import annotations

import numpy as np
import pytest

from evsim.errors import InputError
from evsim.isp import (
    IspConfig,
    IspParameters,
    add_noise,
    bayer_plane,
    camera_light,
    demosaic,
    draw_parameters,
    frame_noise_key,
    preview,
    process,
    unprocess,
)
from evsim.isp.noise import standard_normal


def test_normal_values_are_normal() -> None:
    values = standard_normal((400_001,), frame_noise_key(0, "", 0)).astype(np.float64)
    assert values.mean() == pytest.approx(0, abs=0.006)
    assert values.var() == pytest.approx(1, abs=0.01)
    assert (values**4).mean() == pytest.approx(3, abs=0.06)
    assert np.corrcoef(values[:-1:2], values[1::2])[0, 1] == pytest.approx(0, abs=0.01)
    assert (np.abs(values) > 3).mean() == pytest.approx(0.0027, abs=0.0004)


def test_noise_has_the_stated_variance() -> None:
    for level in (0.0, 0.3):
        light = np.full((200, 200), 0.5, np.float32)
        light[:] = level if level else 0.5
        noisy = add_noise(light, 0.004, 0.0005, key=3)
        assert noisy.std() == pytest.approx(np.sqrt(light[0, 0] * 0.004 + 0.0005), rel=0.02)


def test_noise_of_a_frame_is_a_function_of_seed_clip_and_frame() -> None:
    config = IspConfig(variant="sim2real", noise="brooks")
    parameters = draw_parameters(config, 4, "c")
    assert 1e-4 < parameters.shot_noise < 0.012
    frame = np.full((8, 9), 200, np.uint8)
    first = unprocess(frame, parameters, config, noise_key=frame_noise_key(4, "c", 10))
    again = unprocess(frame, parameters, config, noise_key=frame_noise_key(4, "c", 10))
    np.testing.assert_array_equal(first, again)
    for key in (frame_noise_key(4, "c", 11), frame_noise_key(5, "c", 10), frame_noise_key(4, "d", 10)):
        assert (unprocess(frame, parameters, config, noise_key=key) != first).any()
    assert first.min() >= 0
    assert first.max() <= 1


def test_noise_levels_follow_the_published_line() -> None:
    config = IspConfig(variant="brooks", noise="brooks")
    drawn = [draw_parameters(config, seed, "") for seed in range(800)]
    shot = np.log([one.shot_noise for one in drawn])
    assert shot.min() == pytest.approx(np.log(1e-4), abs=0.05)
    assert shot.max() == pytest.approx(np.log(0.012), abs=0.05)
    residual = np.log([one.read_noise for one in drawn]) - (2.18 * shot + 1.20)
    assert residual.mean() == pytest.approx(0, abs=0.03)
    assert residual.std() == pytest.approx(0.26, abs=0.02)


def test_forward_isp_undoes_the_inverse() -> None:
    codes = np.random.default_rng(0).integers(30, 200, (20, 30, 3), np.uint8)
    config = IspConfig(variant="sim2real")
    parameters = draw_parameters(config, 2, "")
    light = camera_light(codes, parameters, config)
    inside = (light > 0).all(axis=-1)
    assert inside.mean() > 0.5
    difference = np.abs(process(light, parameters).astype(int) - codes)[inside]
    assert difference.max() <= 1
    dim = camera_light(codes, parameters, IspConfig(variant="sim2real", low_light_factor=8.0))
    brightened = process(dim, parameters, exposure=8.0)
    assert np.abs(brightened.astype(int) - process(light, parameters)).max() <= 1


def test_forward_isp_of_grey_undoes_the_inverse() -> None:
    codes = np.arange(20, 220, dtype=np.uint8).reshape(10, 20)
    config = IspConfig(variant="sim2real")
    parameters = draw_parameters(config, 2, "")
    back = process(unprocess(codes, parameters, config), parameters)
    assert np.abs(back.astype(int) - codes).max() <= 1


def test_demosaic_recovers_a_linear_gradient_and_keeps_sites() -> None:
    rows, columns = np.mgrid[0:9, 0:12].astype(np.float32)
    rgb = np.stack([rows + columns, 2 * rows + 1, 3 * columns + 2], axis=-1)
    found = demosaic(bayer_plane(rgb))
    np.testing.assert_allclose(found[1:-1, 1:-1], rgb[1:-1, 1:-1], rtol=1e-5)
    np.testing.assert_array_equal(bayer_plane(found), bayer_plane(rgb))
    assert np.isfinite(found).all()
    with pytest.raises(InputError, match="2x2"):
        demosaic(np.zeros((1, 5), np.float32))


def test_preview_shows_frames_of_little_light() -> None:
    light = np.linspace(0, 0.004, 600, dtype=np.float32).reshape(20, 30)
    picture = preview(light)
    assert picture.dtype == np.uint8
    assert picture.max() == 255
    assert picture.mean() > 100
    assert preview(light, white=1.0).max() < 20
    assert not preview(np.zeros((3, 4), np.float32)).any()
    np.testing.assert_array_equal(preview(np.full((2, 2), 255, np.uint8)), np.full((2, 2), 255))


def test_pictures_of_nan_are_refused() -> None:
    light = np.full((2, 2), np.nan, np.float32)
    with pytest.raises(InputError, match="4 NaN"):
        preview(light)
    with pytest.raises(InputError, match="4 NaN"):
        process(light, IspParameters())
