"""The inverse ISP against recorded intermediate values of the published one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evsim.isp import IspConfig, IspParameters, camera_light, mosaic_rggb, steps, unprocess
from evsim.isp.parameters import inverse_gains, mix_colour_matrices

pytestmark = pytest.mark.needs_parity("inv_isp_{recorded}.npz")
NAMES = ("a", "b_lowlight", "c_identity_ccm_limits")
TOLERANCE = 1e-5


class Recorded:
    """One fixture with its images as (H, W, 3)."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as stored:
            self.arrays = {name: stored[name] for name in stored}
        self.parameters = IspParameters(
            ccm_weights=tuple(self.arrays["ccm_weights"].tolist()),
            rgb2cam=tuple(tuple(row) for row in self.arrays["rgb2cam"].tolist()),
            rgb_gain=float(self.arrays["rgb_gain"]),
            red_gain=float(self.arrays["red_gain"]),
            blue_gain=float(self.arrays["blue_gain"]),
        )
        self.low_light_factor = float(self.arrays["low_light_factor"])
        self.gains = inverse_gains(self.parameters, self.low_light_factor)

    def image(self, name: str) -> NDArray[np.float32]:
        found = self.arrays[name]
        return found.transpose(1, 2, 0) if found.ndim == 3 else found

    def config(self, variant: str, **changes: object) -> IspConfig:
        return IspConfig(variant=variant, low_light_factor=self.low_light_factor, **changes)  # type: ignore[arg-type]


@pytest.fixture(params=NAMES)
def recorded(request: pytest.FixtureRequest, parity: Path) -> Recorded:
    return Recorded(parity / f"inv_isp_{request.param}.npz")


def assert_close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_colour_matrix_is_mixed_from_the_weights(recorded: Recorded) -> None:
    mixed = mix_colour_matrices(recorded.parameters.ccm_weights)
    np.testing.assert_allclose(mixed, recorded.arrays["rgb2cam"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.inv(mixed), recorded.arrays["cam2rgb"], rtol=0, atol=1e-5)


def test_every_step_has_the_recorded_values(recorded: Recorded) -> None:
    assert_close(recorded.arrays["rgb_u8"] / np.float32(255), recorded.image("s0_input"))
    assert_close(steps.inverse_tone_curve(recorded.image("s0_input")), recorded.image("s1_inverse_tone"))
    assert_close(steps.gamma_expansion(recorded.image("s1_inverse_tone")), recorded.image("s2_linear"))
    camera = steps.colour_matrix(recorded.image("s2_linear"), recorded.parameters.rgb2cam)
    assert_close(camera, recorded.image("s3_camera_rgb"))
    dimmed = steps.apply_gains(recorded.image("s3_camera_rgb"), recorded.gains)
    assert_close(dimmed, recorded.image("s4_gains_inverted"))
    assert_close(steps.clip_to_sensor(recorded.image("s4_gains_inverted")), recorded.image("s5_clipped"))
    assert_close(steps.channel_mean(recorded.image("s5_clipped")), recorded.image("s6_gray"))
    np.testing.assert_array_equal(steps.quantise(recorded.image("s6_gray"), 8), recorded.arrays["s7_gray_u8"])


def test_highlights_and_mosaic_have_the_recorded_values(recorded: Recorded) -> None:
    camera = recorded.image("s3_camera_rgb")
    assert_close(steps.highlight_mask(camera), recorded.image("alt_brooks_highlight_mask"))
    preserved = steps.apply_gains_preserving_highlights(camera, recorded.gains)
    assert_close(preserved, recorded.image("alt_brooks_gains_inverted"))
    np.testing.assert_array_equal(
        mosaic_rggb(recorded.image("s5_clipped")), recorded.arrays["alt_rggb_mosaic"]
    )


def test_whole_chain_has_the_recorded_light(recorded: Recorded) -> None:
    codes = recorded.arrays["rgb_u8"]
    config = recorded.config("sim2real")
    assert_close(camera_light(codes, recorded.parameters, config), recorded.image("s5_clipped"))
    assert_close(unprocess(codes, recorded.parameters, config), recorded.image("s6_gray"))


def test_stored_bytes_differ_by_one_at_most_and_only_where_rounding_decides(recorded: Recorded) -> None:
    found = unprocess(
        recorded.arrays["rgb_u8"], recorded.parameters, recorded.config("sim2real", bit_depth=8)
    )
    assert found.dtype == np.uint8
    difference = np.abs(found.astype(int) - recorded.arrays["s7_gray_u8"])
    exact = 255.0 * recorded.arrays["s6_gray"].astype(np.float64)
    undecided = np.abs(exact - np.rint(exact)) < 1e-4
    assert difference.max() <= 1
    assert not difference[~undecided].any()


def test_brooks_variant_has_the_recorded_gains(recorded: Recorded) -> None:
    found = camera_light(recorded.arrays["rgb_u8"], recorded.parameters, recorded.config("brooks"))
    assert_close(found, np.clip(recorded.image("alt_brooks_gains_inverted"), 0, 1))
