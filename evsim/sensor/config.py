"""`SensorConfig`: the parameters of the simulated event sensor, one documented field each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evsim.configuration import require_range
from evsim.errors import ConfigError

SMALLEST_THRESHOLD = 0.01


@dataclass(frozen=True, kw_only=True)
class SensorConfig:
    """Parameters of one sensor; the defaults are those of the v2e command line.

    Raises ConfigError for a value out of range.
    """

    model: Literal["v2e", "idslpf"] = "v2e"
    """Pixel model: v2e (first-order low-pass), idslpf (low-pass that pixels bypass at random, Sim2Real)."""
    contrast_threshold_on: float = 0.2
    """Increase of the natural logarithm of intensity that makes an ON event."""
    contrast_threshold_off: float = 0.2
    """Decrease of the natural logarithm of intensity that makes an OFF event."""
    contrast_threshold_spread: float = 0.03
    """Standard deviation of both thresholds from pixel to pixel (never below 0.01)."""
    cutoff_hz: float = 300.0
    """Corner frequency of the photoreceptor low-pass at white; falls with brightness. 0: no filter."""
    leak_rate_hz: float = 0.01
    """ON events per pixel and second that leakage causes in a static scene."""
    leak_jitter: float = 0.1
    """Standard deviation of the leak of one pixel from pass to pass, as a fraction of its rate."""
    leak_rate_spread_decades: float = 0.1
    """Standard deviation of the common logarithm of the leak rate from pixel to pixel."""
    shot_noise_rate_hz: float = 0.001
    """Noise events, ON and OFF together, per pixel and second in the dark; a quarter of it at white."""
    refractory_period_us: float = 500.0
    """A pixel that fired stays silent until more than this many microseconds have passed."""
    bypass_probability: float = 0.5
    """Model idslpf: probability that a pixel bypasses its low-pass in one pass, in steps of 1/4096."""
    clock: Literal["linear", "grid"] = "linear"
    """Event times: each pixel's own crossing time, or v2e's slots common to all pixels of an interval."""
    precision: Literal["float32", "float64"] = "float32"
    """Of the pixel signals; float64 follows v2e's promotion rules (double once the low-pass is on)."""
    step_rate_hz: float | None = None
    """Passes per second the model was made for (sim2real: 1920); longer intervals are divided to match."""
    substep: bool = True
    """Divide intervals to reach step_rate_hz; otherwise one pass per interval and one warning."""
    float_full_scale: float = 1.0
    """Float frames: this value stands for 255 DN."""

    def __post_init__(self) -> None:
        for name in ("contrast_threshold_on", "contrast_threshold_off"):
            require_range(name, getattr(self, name), SMALLEST_THRESHOLD, 100.0)
        require_range("contrast_threshold_spread", self.contrast_threshold_spread, 0, 10)
        require_range("cutoff_hz", self.cutoff_hz, 0, 1e9)
        require_range("leak_rate_hz", self.leak_rate_hz, 0, 1e4)
        require_range("leak_jitter", self.leak_jitter, 0, 1)
        require_range("leak_rate_spread_decades", self.leak_rate_spread_decades, 0, 2)
        require_range("shot_noise_rate_hz", self.shot_noise_rate_hz, 0, 1e6)
        require_range("refractory_period_us", self.refractory_period_us, 0, 1e8)
        require_range("bypass_probability", self.bypass_probability, 0, 1)
        require_range("float_full_scale", self.float_full_scale, 1e-9, 1e9)
        if self.step_rate_hz is not None:
            require_range("step_rate_hz", self.step_rate_hz, 1e-3, 1e6)
        for name, known in (
            ("model", ("v2e", "idslpf")),
            ("clock", ("linear", "grid")),
            ("precision", ("float32", "float64")),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} = {getattr(self, name)!r}, expected one of {', '.join(known)}")
