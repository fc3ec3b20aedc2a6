"""How the configuration of a sensor is written: the layout of the five models that evsim began with.

Files, manifests and fingerprints of these models hold the fields of all five, in this order. A field that the
model does not have is written with the value here, whatever the default of its class may become. Data: what
was once written must stay, so nothing is ever changed or added. Other models write their own fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

FIRST_MODELS = frozenset({"v2e", "idslpf", "esim", "voltmeter", "icns"})

FIRST_LAYOUT: Mapping[str, Any] = MappingProxyType(
    {
        "model": "v2e",
        "contrast_threshold_on": 0.2,
        "contrast_threshold_off": 0.2,
        "contrast_threshold_spread": 0.03,
        "cutoff_hz": 300.0,
        "low_pass": "v2e",
        "leak_rate_hz": 0.01,
        "leak_jitter": 0.1,
        "leak_rate_spread_decades": 0.1,
        "shot_noise_rate_hz": 0.001,
        "refractory_period_us": 500.0,
        "bypass_probability": 0.5,
        "clock": "linear",
        "precision": "float32",
        "input": "linear",
        "photoreceptor_noise": False,
        "surround_distance_px": 0.0,
        "surround_time_constant_us": 10000.0,
        "scidvs": False,
        "scidvs_time_constant_us": 10000.0,
        "scidvs_time_constant_spread": 0.5,
        "scidvs_as_v2e": False,
        "step_rate_hz": None,
        "substep": True,
        "float_full_scale": 1.0,
        "latency_us": None,
        "latency_jitter_us": None,
        "dead_pixel_fraction": 0.0,
        "hot_pixel_fraction": 0.0,
        "hot_pixel_rate_hz": 100.0,
        "log_offset": 1e-3,
        "voltmeter_gain": 5.265,
        "voltmeter_dark_level": 20.0,
        "voltmeter_photon_noise": 1e-4,
        "voltmeter_leak": 1e-7,
        "voltmeter_light_leak": 5e-9,
        "voltmeter_noise_floor": 1e-5,
        "white_level": 1e4,
        "time_constant_us": 40.0,
        "noise_rate_on_hz": 0.1,
        "noise_rate_off_hz": 0.01,
    }
)

MAY_BE_ZERO = frozenset(
    {
        "contrast_threshold_spread",
        "cutoff_hz",
        "leak_rate_hz",
        "leak_jitter",
        "leak_rate_spread_decades",
        "shot_noise_rate_hz",
        "refractory_period_us",
        "bypass_probability",
        "scidvs_time_constant_spread",
    }
)
"""Fields that any model may be given as 0: to switch off what a model does not have is no contradiction."""


def says_nothing(name: str, value: Any) -> bool:
    """Whether a field that a model does not have holds nothing that the model contradicts."""
    return bool(value == FIRST_LAYOUT[name] or (name in MAY_BE_ZERO and value == 0))


def lay_out(own: Mapping[str, Any], switched_off: tuple[str, ...]) -> dict[str, Any]:
    """A configuration as it is written.

    own: the plain fields of its class. switched_off: fields of other models that were given as 0.
    """
    zeros = dict.fromkeys(switched_off, 0.0)
    if own["model"] not in FIRST_MODELS:
        return {**own, **zeros}
    first = {name: own.get(name, zeros.get(name, value)) for name, value in FIRST_LAYOUT.items()}
    return {**first, **{name: value for name, value in own.items() if name not in first}}
