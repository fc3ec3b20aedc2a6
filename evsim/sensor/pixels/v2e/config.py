"""`V2eConfig`: the parameters of v2e's pixel; those that Sim2Real's variant shares are in `V2eFields`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from evsim.configuration import require_range
from evsim.errors import ConfigError
from evsim.sensor.config import ThresholdConfig
from evsim.sensor.fields import RandomFields


@dataclass(frozen=True, kw_only=True)
class V2eFields(ThresholdConfig):
    """What v2e's pixel and its variants have; the defaults are those of the v2e command line."""

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
    bypass_probability: float = 0.5
    """Model idslpf: probability that a pixel bypasses its low-pass in one pass, in steps of 1/4096."""
    clock: Literal["linear", "grid"] = "linear"
    """Event times: each pixel's own crossing time, or v2e's slots common to all pixels of an interval."""
    precision: Literal["float32", "float64"] = "float32"
    """Of the pixel signals; float64 follows v2e's promotion rules (double once the low-pass is on)."""
    input: Literal["linear", "log"] = "linear"
    """Frames of light, or float frames of the natural logarithm of DN (255 is 5.541)."""
    photoreceptor_noise: bool = False
    """Low-passed noise before the comparator in place of shot_noise_rate_hz events."""
    surround_distance_px: float = 0.0
    """Reach of the surround that is subtracted (centre-surround pixel). 0: none."""
    surround_time_constant_us: float = 10000.0
    """With which the surround follows its own pixel."""
    scidvs: bool = False
    """SCIDVS pixel, a high-pass of gain 2 that forgets large signals faster."""
    scidvs_time_constant_us: float = 10000.0
    """With scidvs: median time constant of the high-pass."""
    scidvs_time_constant_spread: float = 0.5
    """With scidvs: standard deviation of its natural logarithm from pixel to pixel."""
    scidvs_as_v2e: bool = False
    """With scidvs: v2e's explicit steps, and its start: a burst of OFF events in every pixel."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low, high in (
            ("cutoff_hz", 0, 1e9),
            ("leak_rate_hz", 0, 1e4),
            ("leak_jitter", 0, 1),
            ("leak_rate_spread_decades", 0, 2),
            ("shot_noise_rate_hz", 0, 1e6),
            ("bypass_probability", 0, 1),
            ("surround_distance_px", 0, 100),
            ("surround_time_constant_us", 1, 1e7),
            ("scidvs_time_constant_us", 1, 1e9),
            ("scidvs_time_constant_spread", 0, 3),
        ):
            require_range(name, getattr(self, name), low, high)
        if self.photoreceptor_noise and not (self.shot_noise_rate_hz > 0 and self.cutoff_hz > 0):
            raise ConfigError(
                f"photoreceptor_noise with shot_noise_rate_hz = {self.shot_noise_rate_hz} and cutoff_hz = "
                f"{self.cutoff_hz}, expected both above 0: they set its strength and its bandwidth"
            )
        if self.scidvs_as_v2e and not self.scidvs:
            raise ConfigError("scidvs_as_v2e without scidvs, expected both: set scidvs, too")
        if self.input == "log" and self.float_full_scale != 1.0:
            raise ConfigError(
                f"float_full_scale = {self.float_full_scale} with input log, expected 1.0: the frames are "
                "logarithms of DN and have no scale"
            )

    @property
    def solves_low_pass(self) -> bool:
        """Whether the low-pass is solved in closed form instead of taking one step per interval."""
        return False

    @property
    def bypasses_low_pass(self) -> bool:
        """Whether pixels bypass their low-pass at random, and its weight is exponential."""
        return False

    @property
    def has_options(self) -> bool:
        """Whether filters lie between the low-pass and the comparator, or the input is logarithmic."""
        return (
            self.photoreceptor_noise or self.surround_distance_px > 0 or self.scidvs or self.reads_logarithms
        )

    @property
    def reads_logarithms(self) -> bool:
        """Whether frames are natural logarithms of DN instead of light."""
        return self.input == "log"

    @property
    def compares_log_intensity(self) -> bool:
        """Whether what the comparator sees lies on the scale of log intensity."""
        return not self.scidvs and self.surround_distance_px == 0

    def create_pixels(
        self, size: tuple[int, int], key: int, given: RandomFields, threads: int, recycle: bool
    ) -> Any:
        """The pixels with the pass that the configuration needs; see `SensorConfig.create_pixels`."""
        # Modules that compile, and know this class.
        from evsim.sensor.pixels.v2e.pass_exact_low_pass import ExactPixels
        from evsim.sensor.pixels.v2e.pass_with_options import OptionalPixels
        from evsim.sensor.pixels.v2e.pixels import V2ePixels

        kind = V2ePixels
        if self.has_options:
            kind = OptionalPixels
        elif self.solves_low_pass:
            kind = ExactPixels
        return kind(self, size, key, given, threads, recycle)


@dataclass(frozen=True, kw_only=True)
class V2eConfig(V2eFields):
    """v2e's pixel: low-pass, leak and shot noise (Hu et al. 2021)."""

    model: Literal["v2e"] = "v2e"
    """Pixel model."""
    low_pass: Literal["v2e", "exact"] = "v2e"
    """One step per interval, bounded, or the filter's solution with its own crossing times."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.solves_low_pass:
            self._require_closed_form()

    @property
    def solves_low_pass(self) -> bool:
        """Whether the low-pass is solved in closed form instead of taking one step per interval."""
        return self.low_pass == "exact"

    def _require_closed_form(self) -> None:
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
