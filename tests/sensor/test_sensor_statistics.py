"""Noise statistics of the published emulators, within the bounds that their file gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sensor_statistics import scenes

# Few enough to be quick; `sensor_statistics.py` compares as many seeds as were published.
SEEDS = {
    "sim2real_full_static": 8,
    "idslpf_step_latency_x2.0": 8,
    "idslpf_step_latency_x0.5": 8,
    "idslpf_step_latency_x1.5": 8,
    "sim2real_full_moving": 8,
    "v2e_shot_only": 8,
    "v2e_noisy_preset": 8,
    "v2e_leak_only": 4,
    "threshold_mismatch": 8,
    "v2e_photoreceptor_noise": 2,
}


@pytest.mark.needs_parity("emulator_noise_stats.json", "emulator_f1_s2r_v2elpf.npz")
@pytest.mark.parametrize("scene", SEEDS)
def test_noise_has_the_published_statistics(parity: Path, scene: str) -> None:
    stats = json.loads((parity / "emulator_noise_stats.json").read_text())
    with np.load(parity / "emulator_f1_s2r_v2elpf.npz") as clip:
        findings = list(scenes(stats, clip, range(SEEDS[scene]))[scene]())
    assert findings
    outside = [
        f"{one.name}: {one.found.mean():.5g}, published {one.mean:.5g}, bound {one.bound:.2g}"
        for one in findings
        if abs(one.difference) > one.bound
    ]
    assert not outside
