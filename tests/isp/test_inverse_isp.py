"""What the inverse ISP promises for every kind of frame, and what it refuses."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from numpy.typing import NDArray

from evsim import configuration
from evsim.errors import ConfigError, InputError
from evsim.isp import (
    IspConfig,
    IspParameters,
    bayer_plane,
    camera_light,
    draw_parameters,
    frame_noise_key,
    mosaic_rggb,
    steps,
    unprocess,
)
from evsim.isp.parameters import inverse_gains
from evsim.media.transfer import from_linear, to_linear

VARIANTS = ("none", "linearize", "sim2real", "brooks")


@pytest.fixture
def codes() -> NDArray[np.uint8]:
    picture = np.random.default_rng(1).integers(0, 256, (23, 31, 3), np.uint8)
    picture[:4] = 255
    picture[4:8] = 0
    picture[8:12, :, :] = np.arange(225, 256, dtype=np.uint8)[None, :, None]
    return picture


def step_by_step(
    codes: NDArray[np.uint8], parameters: IspParameters, config: IspConfig
) -> NDArray[np.float32]:
    linear = steps.gamma_expansion(steps.inverse_tone_curve(codes / np.float32(255)))
    camera = steps.colour_matrix(linear, parameters.rgb2cam)
    gains = inverse_gains(parameters, config.low_light_factor)
    brooks = config.variant == "brooks"
    dimmed = (steps.apply_gains_preserving_highlights if brooks else steps.apply_gains)(camera, gains)
    clipped = steps.clip_to_sensor(dimmed)
    return bayer_plane(clipped) if brooks else steps.channel_mean(clipped)


@pytest.mark.parametrize("variant", ["sim2real", "brooks"])
@pytest.mark.parametrize("low_light_factor", [1.0, 0.25, 8.0])
def test_tables_equal_the_steps(codes: NDArray[np.uint8], variant: str, low_light_factor: float) -> None:
    config = IspConfig(variant=variant, low_light_factor=low_light_factor)  # type: ignore[arg-type]
    parameters = draw_parameters(config, 5, "a/b")
    expected = step_by_step(codes, parameters, config)
    np.testing.assert_allclose(unprocess(codes, parameters, config), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("transfer", ["srgb", "gamma", "linear", "raw"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_same_picture_gives_same_light_in_every_type(
    codes: NDArray[np.uint8], variant: str, transfer: str
) -> None:
    config = IspConfig(variant=variant, bit_depth=0, grey="mean")  # type: ignore[arg-type]
    parameters = draw_parameters(config, 0, "")
    from_bytes = unprocess(codes, parameters, config, transfer)  # type: ignore[arg-type]
    for other in (codes.astype(np.uint16) * 257, codes / np.float32(255), codes / 255.0):
        found = unprocess(other, parameters, config, transfer)  # type: ignore[arg-type]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, from_bytes, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("grey", ["auto", "luma", "mean", "bayer"])
@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_grey_frame_is_three_equal_channels(variant: str, grey: str, dtype: type) -> None:
    levels = np.arange(17 * 13).reshape(17, 13) % 256
    frame = (
        (levels / 255).astype(dtype)
        if dtype is np.float32
        else (levels * np.iinfo(dtype).max // 255).astype(dtype)
    )
    config = IspConfig(variant=variant, grey=grey)  # type: ignore[arg-type]
    parameters = draw_parameters(config, 3, "")
    colour = np.repeat(frame[..., None], 3, axis=2)
    expected = unprocess(colour, parameters, config).astype(np.float64)
    np.testing.assert_allclose(unprocess(frame, parameters, config), expected, rtol=0, atol=1e-6)


def test_variant_none_passes_code_values_on(codes: NDArray[np.uint8]) -> None:
    grey = np.ascontiguousarray(codes[..., 1])
    assert unprocess(grey, IspParameters(), IspConfig()) is grey
    plane = unprocess(codes, IspParameters(), IspConfig())
    assert plane.dtype == np.uint8
    exact = codes @ np.array([0.299, 0.587, 0.114])
    assert np.abs(plane - exact).max() <= 0.501
    logarithm = np.log(grey + 1.0).astype(np.float32)
    assert unprocess(logarithm, IspParameters(), IspConfig(), "log") is logarithm


@pytest.mark.parametrize("transfer", ["srgb", "gamma", "linear", "log"])
def test_linearize_recovers_encoded_light(transfer: str) -> None:
    light = np.random.default_rng(0).uniform(0.001, 1, (9, 7)).astype(np.float32)
    encoded = from_linear(light, transfer)  # type: ignore[arg-type]
    config = IspConfig(variant="linearize", low_light_factor=4.0)
    found = unprocess(encoded, draw_parameters(config, 0, ""), config, transfer)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, light / 4, rtol=1e-5)


def test_linearize_weighs_colours_by_luminance() -> None:
    codes = np.zeros((1, 3, 3), np.uint8)
    codes[0, [0, 1, 2], [0, 1, 2]] = 255
    config = IspConfig(variant="linearize")
    np.testing.assert_allclose(
        unprocess(codes, IspParameters(), config), [[0.2126, 0.7152, 0.0722]], atol=1e-6
    )


def test_raw_light_is_only_dimmed(codes: NDArray[np.uint8]) -> None:
    config = IspConfig(variant="sim2real", low_light_factor=4.0)
    parameters = draw_parameters(config, 0, "")
    plane = np.ascontiguousarray(codes[..., 0]).astype(np.uint16) * 257
    found = unprocess(plane, parameters, config, "raw")
    np.testing.assert_allclose(found, codes[..., 0] / 255 / 4, atol=1e-6)


def test_linear_light_skips_tone_and_gamma_only(codes: NDArray[np.uint8]) -> None:
    config = IspConfig(variant="sim2real")
    parameters = draw_parameters(config, 0, "")
    camera = to_linear(codes, "linear") @ np.array(parameters.rgb2cam, np.float32).T
    expected = np.clip(camera * inverse_gains(parameters), 0, 1)
    np.testing.assert_allclose(camera_light(codes, parameters, config, "linear"), expected, atol=1e-6)


@pytest.mark.parametrize(("bit_depth", "dtype", "top"), [(8, np.uint8, 255), (16, np.uint16, 65535)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_bit_depth_truncates(
    codes: NDArray[np.uint8], variant: str, bit_depth: int, dtype: type, top: int
) -> None:
    image = codes / np.float32(255)
    config = IspConfig(variant=variant, bit_depth=bit_depth)  # type: ignore[arg-type]
    parameters = draw_parameters(config, 0, "")
    fine = unprocess(image, parameters, dataclasses.replace(config, bit_depth=0))
    found = unprocess(image, parameters, config)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.floor(fine * np.float32(top)))


@pytest.mark.parametrize(("bit_depth", "dtype"), [(8, np.uint8), (16, np.uint16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_linear_grey_survives_its_own_bit_depth(bit_depth: int, dtype: type, channels: int) -> None:
    levels = np.arange(2**bit_depth).reshape(16, -1).astype(dtype)
    image = np.repeat(levels[..., None], 3, axis=2) if channels == 3 else levels
    config = IspConfig(variant="linearize", bit_depth=bit_depth)  # type: ignore[arg-type]
    np.testing.assert_array_equal(unprocess(image, IspParameters(), config, "linear"), levels)


def test_input_is_never_changed(codes: NDArray[np.uint8]) -> None:
    for image in (codes, codes / np.float32(255), codes[..., 0] / np.float32(255)):
        before = image.copy()
        for variant in VARIANTS:
            for transfer in ("srgb", "linear", "raw"):
                factor = 1.0 if variant == "none" else 3.0
                config = IspConfig(variant=variant, low_light_factor=factor)  # type: ignore[arg-type]
                unprocess(image, draw_parameters(config, 0, ""), config, transfer)  # type: ignore[arg-type]
        np.testing.assert_array_equal(image, before)


def test_frames_that_are_not_contiguous_give_the_same_light(codes: NDArray[np.uint8]) -> None:
    config = IspConfig(variant="sim2real")
    parameters = draw_parameters(config, 0, "")
    whole = unprocess(codes, parameters, config)
    np.testing.assert_array_equal(unprocess(codes[::-2, ::3], parameters, config), whole[::-2, ::3])
    swapped = np.ascontiguousarray(codes[..., ::-1])[..., ::-1]
    np.testing.assert_array_equal(unprocess(swapped, parameters, config), whole)


def test_parameters_depend_on_seed_and_clip_alone() -> None:
    config = IspConfig(variant="sim2real")
    drawn = draw_parameters(config, 7, "train/GOPR0372_07_00")
    assert drawn == draw_parameters(config, 7, "train/GOPR0372_07_00")
    assert drawn != draw_parameters(config, 8, "train/GOPR0372_07_00")
    assert drawn != draw_parameters(config, 7, "train/GOPR0372_07_01")


def test_given_gain_leaves_other_draws_alone() -> None:
    drawn = draw_parameters(IspConfig(variant="sim2real"), 7, "")
    fixed = draw_parameters(IspConfig(variant="sim2real", red_gain=2.0, rgb_gain=1.25), 7, "")
    assert fixed == dataclasses.replace(drawn, red_gain=2.0, rgb_gain=1.25)
    weights = (1.0, 0.0, 0.0, 0.0)
    matrix = np.array(draw_parameters(IspConfig(variant="brooks", ccm_weights=weights), 7, "").rgb2cam)
    np.testing.assert_allclose(matrix[0], [0.8263786, 0.29506195, -0.12144052], atol=1e-6)


def test_draws_have_the_published_distribution() -> None:
    config = IspConfig(variant="sim2real")
    drawn = [draw_parameters(config, seed, "") for seed in range(1500)]
    matrices = np.array([one.rgb2cam for one in drawn])
    expected = [[0.6456, 0.2715, 0.0830], [0.0826, 0.7558, 0.1616], [0.0145, 0.2249, 0.7606]]
    np.testing.assert_allclose(matrices.mean(axis=0), expected, atol=0.005)
    spread = [[0.039, 0.016, 0.040], [0.010, 0.032, 0.036], [0.006, 0.004, 0.009]]
    np.testing.assert_allclose(matrices.std(axis=0), spread, atol=0.003)
    np.testing.assert_allclose(matrices.sum(axis=2), 1.0, atol=1e-12)
    inverse = np.array([1 / one.rgb_gain for one in drawn])
    assert inverse.mean() == pytest.approx(0.8, abs=0.01)
    assert inverse.std() == pytest.approx(0.1, abs=0.01)
    for name, low, high in (("red_gain", 1.9, 2.4), ("blue_gain", 1.5, 1.9)):
        values = np.array([getattr(one, name) for one in drawn])
        assert low < values.min() < low + 0.01
        assert high - 0.01 < values.max() < high


def test_parameters_survive_json() -> None:
    drawn = draw_parameters(IspConfig(variant="brooks", noise="brooks"), 1, "clip")
    assert IspParameters.from_dict(json.loads(json.dumps(drawn.to_dict()))) == drawn
    assert json.loads(json.dumps(dataclasses.asdict(drawn))) == drawn.to_dict()
    with pytest.raises(ConfigError, match="red_gain"):
        IspParameters.from_dict({"red_gian": 2.0})


def test_configuration_survives_its_tree() -> None:
    config = IspConfig(variant="sim2real", ccm_weights=(1.0, 2.0, 3.0, 4.0), bit_depth=8)
    assert configuration.build(IspConfig, configuration.to_tree(config)) == config
    assert set(configuration.field_documentation(IspConfig)) == {
        f.name for f in dataclasses.fields(IspConfig)
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variant": "sim2real", "low_light_factor": 0.0}, "low_light_factor"),
        ({"low_light_factor": 4.0}, "variant none"),
        ({"noise": "brooks"}, "variant none"),
        ({"variant": "brooks", "red_gain": -1.0}, "red_gain"),
        ({"variant": "brooks", "red_gain_range": (2.4, 1.9)}, "red_gain_range"),
        ({"variant": "brooks", "ccm_weights": (0.0, 0.0, 0.0, 0.0)}, "ccm_weights"),
    ],
)
def test_impossible_configuration_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        IspConfig(**changes)  # type: ignore[arg-type]


def test_negative_drawn_gain_is_refused() -> None:
    config = IspConfig(variant="sim2real", inverse_rgb_gain_deviation=50.0)
    with pytest.raises(ConfigError, match="inverse_rgb_gain_deviation"):
        for seed in range(20):
            draw_parameters(config, seed, "")


@pytest.mark.parametrize("variant", VARIANTS)
def test_rounding_error_of_interpolation_is_taken_for_the_end_of_the_range(variant: str) -> None:
    config = IspConfig(variant=variant)  # type: ignore[arg-type]
    beyond = np.array([[-3e-7, 1.0000004, 0.5]], np.float32)
    light = unprocess(beyond, IspParameters(), config)
    np.testing.assert_array_equal(light, unprocess(np.clip(beyond, 0, 1), IspParameters(), config))
    assert light.min() >= 0
    assert light.max() <= 1


def test_average_camera_darkens_as_published() -> None:
    config = IspConfig(variant="sim2real", bit_depth=8, rgb_gain=1.25, red_gain=2.15, blue_gain=1.7)
    greys = np.array([[255, 128, 64, 0]], np.uint8)
    light = unprocess(greys, draw_parameters(config, 0, ""), config)
    np.testing.assert_allclose(light, [[140, 30, 12, 0]], atol=3)


def test_read_only_frames_are_taken(codes: NDArray[np.uint8]) -> None:
    codes.flags.writeable = False
    config = IspConfig(variant="brooks")
    parameters = draw_parameters(config, 0, "")
    for image in (codes, codes.astype(np.uint16), codes[..., 0], codes / np.float32(255)):
        image.flags.writeable = False
        assert unprocess(image, parameters, config).shape == codes.shape[:2]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -0.01, 1.01, 255.0])
def test_unusable_floats_are_refused(variant: str, value: float) -> None:
    image = np.full((4, 5), 0.5, np.float32)
    image[2, 3] = value
    with pytest.raises(InputError, match="1 of 20 float values"):
        unprocess(image, IspParameters(), IspConfig(variant=variant))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 5, 4), np.uint8), "shape"),
        (np.zeros((0, 5), np.uint8), "not empty"),
        (np.zeros(5, np.uint8), "shape"),
        (np.zeros((4, 5), np.int32), "dtype int32"),
        (np.zeros((4, 5), bool), "dtype bool"),
    ],
)
def test_unusable_arrays_are_refused(image: NDArray[np.generic], words: str) -> None:
    with pytest.raises(InputError, match=words):
        unprocess(image, IspParameters(), IspConfig(variant="sim2real"))


def test_log_codes_must_be_float() -> None:
    with pytest.raises(InputError, match="log code values"):
        unprocess(np.zeros((2, 2), np.uint8), IspParameters(), IspConfig(), "log")
    with pytest.raises(InputError, match="minus infinity"):
        unprocess(np.full((2, 2), -np.inf, np.float32), IspParameters(), IspConfig(), "log")


def test_mosaic_of_an_odd_size_is_refused_and_the_plane_is_not() -> None:
    rgb = np.arange(5 * 7 * 3).reshape(5, 7, 3)
    with pytest.raises(InputError, match="7x5"):
        mosaic_rggb(rgb)
    plane = bayer_plane(rgb)
    np.testing.assert_array_equal(plane[:4, :6][0::2, 1::2], mosaic_rggb(rgb[:4, :6])[1])
    assert plane[4, 6] == rgb[4, 6, 0]


def test_noise_needs_its_key() -> None:
    image = np.zeros((2, 2), np.uint8)
    noisy = IspConfig(variant="sim2real", noise="brooks")
    with pytest.raises(InputError, match="without a noise_key"):
        unprocess(image, draw_parameters(noisy, 0, ""), noisy)
    with pytest.raises(InputError, match="with a noise_key"):
        unprocess(image, IspParameters(), IspConfig(variant="sim2real"), noise_key=frame_noise_key(0, "", 1))
