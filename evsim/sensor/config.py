"""`SensorConfig`: the parameters of the simulated event sensor, one documented field each."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from evsim.configuration import require_range
from evsim.errors import ConfigError

SMALLEST_THRESHOLD = 0.01
THRESHOLDS = frozenset({"contrast_threshold_on", "contrast_threshold_off", "contrast_threshold_spread"})
EVERY_MODEL = frozenset(
    {
        "model",
        "step_rate_hz",
        "substep",
        "float_full_scale",
        "latency_us",
        "latency_jitter_us",
        "dead_pixel_fraction",
        "hot_pixel_fraction",
        "hot_pixel_rate_hz",
    }
)
V2E_FIELDS = THRESHOLDS | {
    "cutoff_hz",
    "leak_rate_hz",
    "leak_jitter",
    "leak_rate_spread_decades",
    "shot_noise_rate_hz",
    "refractory_period_us",
    "bypass_probability",
    "clock",
    "precision",
    "input",
    "photoreceptor_noise",
    "surround_distance_px",
    "surround_time_constant_us",
    "scidvs",
    "scidvs_time_constant_us",
    "scidvs_time_constant_spread",
    "scidvs_as_v2e",
}
VOLTMETER_FIELDS = frozenset(
    {
        "voltmeter_gain",
        "voltmeter_dark_level",
        "voltmeter_photon_noise",
        "voltmeter_leak",
        "voltmeter_light_leak",
        "voltmeter_noise_floor",
    }
)
ICNS_FIELDS = frozenset(
    {
        "white_level",
        "time_constant_us",
        "noise_rate_on_hz",
        "noise_rate_off_hz",
    }
)
MODEL_FIELDS = {
    "v2e": V2E_FIELDS | {"low_pass"},
    "idslpf": V2E_FIELDS,
    "esim": THRESHOLDS | {"refractory_period_us", "log_offset"},
    "voltmeter": VOLTMETER_FIELDS,
    "icns": THRESHOLDS | {"refractory_period_us"} | ICNS_FIELDS,
}
"""Fields that each model reads, besides EVERY_MODEL."""
# To switch off what a model does not have is no contradiction.
MAY_BE_ZERO = V2E_FIELDS - {"contrast_threshold_on", "contrast_threshold_off", "clock", "precision", "input"}


@dataclass(frozen=True, kw_only=True)
class SensorConfig:
    """Parameters of one sensor; the defaults are those of the v2e command line.

    Raises ConfigError for a value out of range.
    """

    model: Literal["v2e", "idslpf", "esim", "voltmeter", "icns"] = "v2e"
    """Pixel model: v2e, idslpf (Sim2Real), esim (ideal), voltmeter (DVS-Voltmeter), icns (latency)."""
    contrast_threshold_on: float = 0.2
    """Increase of the natural logarithm of intensity that makes an ON event."""
    contrast_threshold_off: float = 0.2
    """Decrease of the natural logarithm of intensity that makes an OFF event."""
    contrast_threshold_spread: float = 0.03
    """Standard deviation of both thresholds from pixel to pixel (never below 0.01)."""
    cutoff_hz: float = 300.0
    """Corner frequency of the photoreceptor low-pass at white; falls with brightness. 0: no filter."""
    low_pass: Literal["v2e", "exact"] = "v2e"
    """Model v2e: one step per interval, bounded, or the filter's solution with its own crossing times."""
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
    input: Literal["linear", "log"] = "linear"
    """Models v2e, idslpf: frames of light, or float frames of the natural logarithm of DN (255 is 5.541)."""
    photoreceptor_noise: bool = False
    """Models v2e, idslpf: low-passed noise before the comparator in place of shot_noise_rate_hz events."""
    surround_distance_px: float = 0.0
    """Models v2e, idslpf: reach of the surround that is subtracted (centre-surround pixel). 0: none."""
    surround_time_constant_us: float = 10000.0
    """Models v2e, idslpf: with which the surround follows its own pixel."""
    scidvs: bool = False
    """Models v2e, idslpf: SCIDVS pixel, a high-pass of gain 2 that forgets large signals faster."""
    scidvs_time_constant_us: float = 10000.0
    """With scidvs: median time constant of the high-pass."""
    scidvs_time_constant_spread: float = 0.5
    """With scidvs: standard deviation of its natural logarithm from pixel to pixel."""
    scidvs_as_v2e: bool = False
    """With scidvs: v2e's explicit steps, and its start: a burst of OFF events in every pixel."""
    step_rate_hz: float | None = None
    """Passes per second the model was made for (sim2real: 1920); longer intervals are divided to match."""
    substep: bool = True
    """Divide intervals to reach step_rate_hz; otherwise one pass per interval and one warning."""
    float_full_scale: float = 1.0
    """Float frames: this value stands for 255 DN."""
    latency_us: float | None = None
    """From the crossing of the threshold to the event. Unset: 100 for model icns, else 0."""
    latency_jitter_us: float | None = None
    """Standard deviation of the latency from event to event. Unset: 10 for model icns, else 0."""
    dead_pixel_fraction: float = 0.0
    """Part of the pixels, chosen at random, that never give an event."""
    hot_pixel_fraction: float = 0.0
    """Part of the pixels, chosen at random, that give events of their own besides."""
    hot_pixel_rate_hz: float = 100.0
    """Events of their own that hot pixels give per second, ON and OFF together."""
    log_offset: float = 1e-3
    """Model esim: added to intensity (255 DN is 1) before the logarithm."""
    voltmeter_gain: float = 5.265
    """Model voltmeter, k1: drift of the voltage per DN of change, times (DN + dark level); threshold 1."""
    voltmeter_dark_level: float = 20.0
    """Model voltmeter, k2: DN that the dark current amounts to."""
    voltmeter_photon_noise: float = 1e-4
    """Model voltmeter, k3: voltage noise per root of microsecond, times sqrt(DN) / (DN + dark level)."""
    voltmeter_leak: float = 1e-7
    """Model voltmeter, k4: drift per microsecond in the dark."""
    voltmeter_light_leak: float = 5e-9
    """Model voltmeter, k5: drift per microsecond and DN (parasitic photocurrent)."""
    voltmeter_noise_floor: float = 1e-5
    """Model voltmeter, k6: voltage noise per root of microsecond in the dark."""
    white_level: float = 1e4
    """Model icns: light of 255 DN, in the unit of which 1000 makes the filter as slow as time_constant_us."""
    time_constant_us: float = 40.0
    """Model icns: of the photoreceptor low-pass at light 1000; inversely proportional to light + 1."""
    noise_rate_on_hz: float = 0.1
    """Model icns: ON noise events per pixel and second, periodic with a random phase per pixel."""
    noise_rate_off_hz: float = 0.01
    """Model icns: OFF noise events per pixel and second, periodic with a random phase per pixel."""

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
        for name, low, high in (
            ("step_rate_hz", 1e-3, 1e6),
            ("latency_us", 0, 1e4),
            ("latency_jitter_us", 0, 1e4),
        ):
            if getattr(self, name) is not None:
                require_range(name, getattr(self, name), low, high)
        for name, low, high in (
            ("log_offset", 1e-9, 1.0),
            ("voltmeter_gain", 0, 1e3),
            ("voltmeter_dark_level", 1.0, 1e4),
            ("voltmeter_photon_noise", 0, 1.0),
            ("voltmeter_leak", 0, 1.0),
            ("voltmeter_light_leak", 0, 1e-6),
            ("voltmeter_noise_floor", 0, 1.0),
            ("white_level", 1.0, 1e9),
            ("time_constant_us", 0.01, 1e6),
            ("dead_pixel_fraction", 0, 1),
            ("hot_pixel_fraction", 0, 1),
            ("hot_pixel_rate_hz", 1e-6, 1e6),
            ("noise_rate_on_hz", 0, 1e4),
            ("noise_rate_off_hz", 0, 1e4),
        ):
            require_range(name, getattr(self, name), low, high)
        require_range("surround_distance_px", self.surround_distance_px, 0, 100)
        require_range("surround_time_constant_us", self.surround_time_constant_us, 1, 1e7)
        require_range("scidvs_time_constant_us", self.scidvs_time_constant_us, 1, 1e9)
        require_range("scidvs_time_constant_spread", self.scidvs_time_constant_spread, 0, 3)
        for name, known in (
            ("model", tuple(MODEL_FIELDS)),
            ("clock", ("linear", "grid")),
            ("precision", ("float32", "float64")),
            ("input", ("linear", "log")),
            ("low_pass", ("v2e", "exact")),
        ):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} = {getattr(self, name)!r}, expected one of {', '.join(known)}")
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not self.uses(entry.name) and not _is_harmless(entry.name, value, entry.default):
                models = ", ".join(model for model, names in MODEL_FIELDS.items() if entry.name in names)
                raise ConfigError(
                    f"{entry.name} = {value!r} with model {self.model}, which does not use it (used by "
                    f"{models}): leave it at {entry.default!r}"
                )
        self._check_options()

        if self.dead_pixel_fraction + self.hot_pixel_fraction > 1:
            raise ConfigError(
                f"dead_pixel_fraction + hot_pixel_fraction = "
                f"{self.dead_pixel_fraction + self.hot_pixel_fraction:g}, expected at most 1"
            )

    def _check_options(self) -> None:
        """Options that need or exclude each other."""
        if self.photoreceptor_noise and not (self.shot_noise_rate_hz > 0 and self.cutoff_hz > 0):
            raise ConfigError(
                f"photoreceptor_noise with shot_noise_rate_hz = {self.shot_noise_rate_hz} and cutoff_hz = "
                f"{self.cutoff_hz}, expected both above 0: they set its strength and its bandwidth"
            )
        if self.low_pass == "exact":
            self._check_exact()
        if self.scidvs_as_v2e and not self.scidvs:
            raise ConfigError("scidvs_as_v2e without scidvs, expected both: set scidvs, too")
        if self.input == "log" and self.float_full_scale != 1.0:
            raise ConfigError(
                f"float_full_scale = {self.float_full_scale} with input log, expected 1.0: the frames are "
                "logarithms of DN and have no scale"
            )

    def _check_exact(self) -> None:
        """What the solution in closed form cannot be combined with."""
        if self.cutoff_hz == 0:
            raise ConfigError("low_pass = exact with cutoff_hz = 0, expected a cutoff: there is no filter")
        for name, neutral in (
            ("clock", "linear"),
            ("photoreceptor_noise", False),
            ("surround_distance_px", 0.0),
            ("scidvs", False),
            ("input", "linear"),
        ):
            if getattr(self, name) != neutral:
                raise ConfigError(
                    f"{name} = {getattr(self, name)!r} with low_pass = exact, expected {neutral!r}: its "
                    "crossings have no closed form; set low_pass to v2e"
                )

    def uses(self, name: str) -> bool:
        """Whether the model reads field `name`."""
        return name in EVERY_MODEL or name in MODEL_FIELDS[self.model]


def _is_harmless(name: str, value: Any, default: Any) -> bool:
    """Whether a field that the model does not use says nothing that the model contradicts."""
    return bool(value == default or (name in MAY_BE_ZERO and value == 0))
