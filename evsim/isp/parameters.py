"""What the inverse ISP may do (`IspConfig`) and what was drawn for one clip (`IspParameters`).

The ranges and the four camera matrices are those of Brooks et al. 2019, "Unprocessing Images for Learned
Raw Denoising". Parameters are drawn once per clip and shared by all its frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evsim import configuration
from evsim.errors import ConfigError
from evsim.isp.noise import draw_noise_levels
from evsim.randomness import RandomDraws

Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]

XYZ_TO_CAMERA = (
    ((1.0234, -0.2969, -0.2266), (-0.5625, 1.6328, -0.0469), (-0.0703, 0.2188, 0.6406)),
    ((0.4913, -0.0541, -0.0202), (-0.6130, 1.3513, 0.2906), (-0.1564, 0.2151, 0.7183)),
    ((0.8380, -0.2630, -0.0639), (-0.2887, 1.0725, 0.2496), (-0.0627, 0.1427, 0.5438)),
    ((0.6596, -0.2079, -0.0562), (-0.4782, 1.3016, 0.1933), (-0.0970, 0.1581, 0.5181)),
)
"""Colour matrices of four cameras, CIE XYZ to camera RGB."""

RGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
"""Linear sRGB to CIE XYZ under D65."""

IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_WEIGHT_RANGE = (1e-8, 1e8)


@dataclass(frozen=True, kw_only=True)
class IspConfig:
    """How code values become the light that falls on the simulated sensor."""

    variant: Literal["none", "linearize", "sim2real", "brooks"] = "none"
    """none: code values as they are; linearize: undo the curve; sim2real, brooks: whole inverse ISP."""
    low_light_factor: float = 1.0
    """How many times less light the sensor gets; needs a variant other than none."""
    bit_depth: Literal[0, 8, 16] = 0
    """0: float32 (variant none: the input's own type); 8 or 16: truncated to uint8 or uint16."""
    grey: Literal["auto", "luma", "mean", "bayer"] = "auto"
    """How channels become one plane; auto: luma for none, linearize; mean for sim2real; bayer for brooks."""
    noise: Literal["none", "brooks"] = "none"
    """brooks: signal-dependent shot noise and constant read noise are added to the light."""
    ccm_weights: tuple[float, float, float, float] | None = None
    """Weights of the four camera matrices; drawn when not given."""
    rgb_gain: float | None = None
    """Brightness gain of the camera that is undone; drawn when not given."""
    red_gain: float | None = None
    """White-balance gain of red that is undone; drawn when not given."""
    blue_gain: float | None = None
    """White-balance gain of blue that is undone; drawn when not given."""
    inverse_rgb_gain_mean: float = 0.8
    """Mean of the normal distribution of 1 / rgb_gain."""
    inverse_rgb_gain_deviation: float = 0.1
    """Standard deviation of 1 / rgb_gain."""
    red_gain_range: tuple[float, float] = (1.9, 2.4)
    """Uniform range of red_gain."""
    blue_gain_range: tuple[float, float] = (1.5, 1.9)
    """Uniform range of blue_gain."""
    shot_noise_range: tuple[float, float] = (1e-4, 0.012)
    """Log-uniform range of the shot noise variance at full scale, for noise = brooks."""

    def __post_init__(self) -> None:
        configuration.check_choices(self)
        configuration.require_range("low_light_factor", self.low_light_factor, 1e-3, 1e6)
        configuration.require_range("inverse_rgb_gain_mean", self.inverse_rgb_gain_mean, 0.01, 100.0)
        configuration.require_range("inverse_rgb_gain_deviation", self.inverse_rgb_gain_deviation, 0.0, 100.0)
        for name in ("rgb_gain", "red_gain", "blue_gain"):
            if getattr(self, name) is not None:
                configuration.require_range(name, getattr(self, name), 1e-3, 1e3)
        for name in ("red_gain_range", "blue_gain_range", "shot_noise_range"):
            low, high = getattr(self, name)
            configuration.require_range(f"{name}[0]", low, 1e-12, 1e3)
            configuration.require_range(f"{name}[1]", high, low, 1e3)
        if self.ccm_weights is not None:
            for index, weight in enumerate(self.ccm_weights):
                configuration.require_range(f"ccm_weights[{index}]", weight, 0.0, 1e12)
            if sum(self.ccm_weights) <= 0:
                raise ConfigError(f"ccm_weights = {self.ccm_weights}, expected at least one above 0")
        if self.variant == "none":
            self._require_light_unchanged()

    def _require_light_unchanged(self) -> None:
        for name, neutral in (("low_light_factor", 1.0), ("noise", "none")):
            if getattr(self, name) != neutral:
                raise ConfigError(
                    f"{name} = {getattr(self, name)} acts on light, but variant none passes code values on; "
                    "choose variant linearize, sim2real or brooks"
                )

    @property
    def grey_rule(self) -> Literal["luma", "mean", "bayer"]:
        """`grey` with auto resolved by the variant."""
        if self.grey != "auto":
            return self.grey
        if self.variant == "sim2real":
            return "mean"
        return "bayer" if self.variant == "brooks" else "luma"

    @property
    def is_camera(self) -> bool:
        """True if the variant undoes a whole camera: tone, gamma, colour matrix and gains."""
        return self.variant in ("sim2real", "brooks")


@dataclass(frozen=True, kw_only=True)
class IspParameters:
    """What was drawn for one clip, in plain numbers that JSON can hold; the defaults change nothing."""

    ccm_weights: tuple[float, ...] = ()
    """Weights of the four camera matrices, empty where no matrix was drawn."""
    rgb2cam: Matrix = IDENTITY
    """Linear sRGB to camera RGB; every row sums to 1, so that grey stays grey."""
    rgb_gain: float = 1.0
    """Brightness gain."""
    red_gain: float = 1.0
    """White-balance gain of red."""
    blue_gain: float = 1.0
    """White-balance gain of blue."""
    shot_noise: float = 0.0
    """Noise variance per unit of light."""
    read_noise: float = 0.0
    """Noise variance without light."""

    def to_dict(self) -> dict[str, Any]:
        """The parameters as a JSON-able mapping; `from_dict` reads it back."""
        return configuration.to_tree(self)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> IspParameters:
        """Parameters from what `to_dict` gave. Raises ConfigError naming an unknown or mistyped field."""
        return configuration.build(cls, tree, "isp_parameters")


def draw_parameters(config: IspConfig, seed: int, clip: str) -> IspParameters:
    """The camera of one clip, a function of (config, seed, clip) alone.

    A value given in the configuration replaces its draw and leaves the other draws as they are.
    Variants without a camera get neutral colour and gains.
    """
    draws = RandomDraws(seed, clip, "isp")
    weights = tuple(draws.uniform(*_WEIGHT_RANGE) for _ in XYZ_TO_CAMERA)
    inverse_gain = draws.normal(config.inverse_rgb_gain_mean, config.inverse_rgb_gain_deviation)
    red = draws.uniform(*config.red_gain_range)
    blue = draws.uniform(*config.blue_gain_range)
    shot, read = draw_noise_levels(draws, config.shot_noise_range)
    if config.noise == "none":
        shot, read = 0.0, 0.0
    if not config.is_camera:
        return IspParameters(shot_noise=shot, read_noise=read)
    if config.rgb_gain is None and inverse_gain <= 0:
        raise ConfigError(
            f"1 / rgb_gain was drawn as {inverse_gain:.3g}, expected a positive number; "
            f"lower inverse_rgb_gain_deviation (now {config.inverse_rgb_gain_deviation}) or give rgb_gain"
        )
    weights = config.ccm_weights or weights
    matrix = mix_colour_matrices(weights).tolist()
    return IspParameters(
        ccm_weights=weights,
        rgb2cam=(tuple(matrix[0]), tuple(matrix[1]), tuple(matrix[2])),
        rgb_gain=1.0 / inverse_gain if config.rgb_gain is None else config.rgb_gain,
        red_gain=red if config.red_gain is None else config.red_gain,
        blue_gain=blue if config.blue_gain is None else config.blue_gain,
        shot_noise=shot,
        read_noise=read,
    )


def mix_colour_matrices(weights: tuple[float, ...]) -> NDArray[np.float64]:
    """float64 (3, 3) linear sRGB to camera RGB: (sum w_i M_i / sum w_i) RGB_TO_XYZ, rows made to sum to 1.

    weights: four numbers >= 0, one for each camera, not all 0.
    """
    scale = math.fsum(weights)
    mixed = np.tensordot(np.array(weights) / scale, np.array(XYZ_TO_CAMERA), axes=1) @ np.array(RGB_TO_XYZ)
    return mixed / mixed.sum(axis=1, keepdims=True)


def inverse_gains(parameters: IspParameters, low_light_factor: float = 1.0) -> NDArray[np.float64]:
    """float64 (3,) g = (1 / red, 1, 1 / blue) / (rgb_gain low_light_factor): undoes the gains."""
    balance = np.array([1.0 / parameters.red_gain, 1.0, 1.0 / parameters.blue_gain])
    return balance / (parameters.rgb_gain * low_light_factor)
