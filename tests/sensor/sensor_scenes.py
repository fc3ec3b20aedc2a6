"""Small clips and sensors that the tests of the sensor share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.events import Events
from evsim.sensor import SensorConfig, Simulator

IDEAL: dict[str, Any] = {
    "contrast_threshold_spread": 0.0,
    "cutoff_hz": 0.0,
    "leak_rate_hz": 0.0,
    "shot_noise_rate_hz": 0.0,
    "refractory_period_us": 0.0,
}
SIM2REAL: dict[str, Any] = {
    "model": "idslpf",
    "contrast_threshold_on": 0.25,
    "contrast_threshold_off": 0.25,
    "cutoff_hz": 1000.0,
    "leak_rate_hz": 0.1,
    "shot_noise_rate_hz": 10.0,
    "refractory_period_us": 10.0,
}
MILLISECOND = 1_000_000


def ideal(**fields: Any) -> SensorConfig:
    """A sensor without noise, mismatch, filter and dead time."""
    return SensorConfig(**{**IDEAL, **fields})


def texture(count: int, size: tuple[int, int], seed: int = 0, contrast: float = 60.0) -> NDArray[np.uint8]:
    """uint8 (count, H, W): a smooth random texture that moves by one pixel per frame."""
    width, height = size
    noise = np.random.default_rng(seed).standard_normal((height, width + count))
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in noise.shape), indexing="ij"))
    smooth = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-60 * frequency**2)).real
    image = np.clip(90 + contrast * smooth / smooth.std(), 0, 255).astype(np.uint8)
    return np.stack([image[:, k : k + width] for k in range(count)])


def times_ns(count: int, rate: float = 1920.0, start: int = 0) -> list[int]:
    """Frame times of a constant rate."""
    return [start + round(k * 1e9 / rate) for k in range(count)]


def watch(simulator: Simulator, frames: Any, times: list[int]) -> Events:
    """All events of a clip."""
    return Events.concatenate([simulator.step(frame, t) for frame, t in zip(frames, times)]).validate()


def simulate(config: SensorConfig, frames: Any, times: list[int], **options: Any) -> Events:
    """All events of a clip with a new sensor."""
    height, width = np.asarray(frames[0]).shape
    return watch(Simulator(config, (width, height), **{"threads": 1, **options}), frames, times)


def columns(events: Events) -> NDArray[np.int64]:
    """int64 (N, 5): t, y, x, p, label."""
    assert events.label is not None
    return np.stack([events.t, events.y, events.x, events.p, events.label], axis=1).astype(np.int64)


def assert_same(first: Events, second: Events) -> None:
    """The same events, in the same order, to the last bit."""
    np.testing.assert_array_equal(columns(first), columns(second))
