"""The presets that ship with evsim are valid sensors, and carry the published values."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from sensor_scenes import IDEAL

from evsim.configuration import build, read_file, resolve_draws
from evsim.sensor import SensorConfig

FOLDER = Path(str(resources.files("evsim"))) / "presets"
PUBLISHED: dict[str, dict[str, Any]] = {
    "ideal": {**IDEAL, "clock": "linear"},
    "v2e-clean": {**IDEAL, "contrast_threshold_on": 0.2, "contrast_threshold_spread": 0.02},
    "v2e-noisy": {"contrast_threshold_spread": 0.05, "cutoff_hz": 30.0, "shot_noise_rate_hz": 5.0},
    "v2e": {
        "contrast_threshold_on": 0.2,
        "contrast_threshold_spread": 0.03,
        "cutoff_hz": 300.0,
        "leak_rate_hz": 0.01,
        "shot_noise_rate_hz": 0.001,
        "refractory_period_us": 500.0,
    },
    "rpg-esim": {
        "model": "esim",
        "contrast_threshold_on": 1.0,
        "contrast_threshold_off": 1.0,
        "contrast_threshold_spread": 0.021,
        "log_offset": 1e-3,
    },
    "vid2e": {
        "model": "esim",
        "contrast_threshold_off": 0.2,
        "refractory_period_us": 0.0,
        "log_offset": 1e-5,
    },
    "icns": {
        "contrast_threshold_on": 0.4,
        "contrast_threshold_spread": 0.01,
        "latency_us": 100.0,
        "latency_jitter_us": 10.0,
        "time_constant_us": 40.0,
        "white_level": 1e4,
        "refractory_period_us": 100.0,
    },
    "dvs128": {"contrast_threshold_spread": 0.021, "cutoff_hz": 3000.0, "latency_us": 15.0},
    "davis240": {
        "contrast_threshold_on": 0.1044,
        "contrast_threshold_off": 0.1044,
        "contrast_threshold_spread": 0.035,
        "latency_us": 3.0,
    },
    "voltmeter-dvs346": {"voltmeter_gain": 5.265, "voltmeter_dark_level": 20.0, "voltmeter_light_leak": 5e-9},
    "voltmeter-dvs240": {
        "voltmeter_gain": 4.4241,
        "voltmeter_dark_level": 23.0,
        "voltmeter_light_leak": 5e-8,
    },
    "sim2real": {
        "model": "idslpf",
        "contrast_threshold_off": 0.25,
        "cutoff_hz": 1000.0,
        "leak_rate_hz": 0.1,
        "shot_noise_rate_hz": 10.0,
        "refractory_period_us": 10.0,
        "step_rate_hz": 1920.0,
    },
}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_is_a_sensor_for_every_seed(path: Path) -> None:
    tree = read_file(path)["sensor"]
    configs = [build(SensorConfig, resolve_draws(tree, seed, "")) for seed in range(50)]
    assert (len(set(configs)) > 1) == path.stem.endswith("-random")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_value_of_a_preset_says_where_it_comes_from(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").partition("sensor:\n")[2].splitlines()
    # The model is named by the heading; a value beside a sourced one of the same kind needs no second word.
    bare = [line for line in lines if line.strip() and "#" not in line and "model:" not in line]
    assert not bare or path.stem == "ideal"


@pytest.mark.parametrize("name", PUBLISHED)
def test_preset_has_the_published_values(name: str) -> None:
    config = build(SensorConfig, read_file(FOLDER / f"{name}.yaml")["sensor"])
    assert {field: getattr(config, field) for field in PUBLISHED[name]} == PUBLISHED[name]
