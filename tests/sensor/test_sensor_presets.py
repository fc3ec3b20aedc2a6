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


@pytest.mark.parametrize("name", PUBLISHED)
def test_preset_has_the_published_values(name: str) -> None:
    config = build(SensorConfig, read_file(FOLDER / f"{name}.yaml")["sensor"])
    assert {field: getattr(config, field) for field in PUBLISHED[name]} == PUBLISHED[name]
