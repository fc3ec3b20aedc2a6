"""`SensorConfig`: what every simulated sensor has; each pixel model's class adds the fields of its own.

`SensorConfig(model="esim", ...)` and `configuration.build(SensorConfig, tree)` make the class of the model
named. They also take fields of other models that say nothing here, their defaults and certain zeros, as files
hold the fields of all models; any other value of such a field is a ConfigError.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evsim import configuration
from evsim.configuration import Tree, check_choices, require_range
from evsim.errors import ConfigError
from evsim.registry import nearest
from evsim.sensor.layout import FIRST_LAYOUT, lay_out, says_nothing

if TYPE_CHECKING:
    from evsim.sensor.fields import RandomFields
    from evsim.sensor.pixel_models import Pixels

SMALLEST_THRESHOLD = 0.01
FIRST_MODEL = "v2e"
"""Of a configuration that names none."""
SWITCHED_OFF = "switched_off"


class _ClassOfModel(type):
    """Makes `SensorConfig(...)` an instance of the class of the model that is named."""

    def __call__(cls, *positional: Any, **fields: Any) -> Any:
        if cls is not SensorConfig:
            return super().__call__(*positional, **fields)
        if positional:
            raise TypeError("SensorConfig takes its fields by name")
        # All fields of another configuration may be given, this one included.
        fields = {**dict.fromkeys(fields.pop(SWITCHED_OFF, ()), 0.0), **fields}
        chosen = SensorConfig.class_for(fields, "")
        return chosen(**chosen.from_written(fields, ""))


@dataclass(frozen=True, kw_only=True)
class SensorConfig(metaclass=_ClassOfModel):
    """Parameters of one sensor, whatever its pixels are.

    Raises ConfigError for a value out of range, and for a field that the model does not have.
    """

    model: str = FIRST_MODEL
    """Pixel model, by name."""
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
    switched_off: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    """Fields of other models that were given as 0; only kept to be written so again."""

    if TYPE_CHECKING:
        # Called on this class itself, which takes the fields of any model.
        def __init__(self, *, model: str = FIRST_MODEL, **fields: Any) -> None: ...

    def __post_init__(self) -> None:
        own = type(self).model
        if self.model != own:
            raise ConfigError(
                f"model = {self.model!r} for {type(self).__name__}, expected {own!r}; "
                "SensorConfig(model=...) makes the class of any model"
            )
        check_choices(self)
        for name, low, high in (
            ("float_full_scale", 1e-9, 1e9),
            ("step_rate_hz", 1e-3, 1e6),
            ("latency_us", 0, 1e4),
            ("latency_jitter_us", 0, 1e4),
            ("dead_pixel_fraction", 0, 1),
            ("hot_pixel_fraction", 0, 1),
            ("hot_pixel_rate_hz", 1e-6, 1e6),
        ):
            if getattr(self, name) is not None:
                require_range(name, getattr(self, name), low, high)
        if self.dead_pixel_fraction + self.hot_pixel_fraction > 1:
            raise ConfigError(
                f"dead_pixel_fraction + hot_pixel_fraction = "
                f"{self.dead_pixel_fraction + self.hot_pixel_fraction:g}, expected at most 1"
            )

    def create_pixels(
        self, size: tuple[int, int], key: int, given: RandomFields, threads: int, recycle: bool
    ) -> Pixels:
        """The pixels of one sensor, which the class of each model makes.

        size: (width, height). key: of the random generator. given: fields of the fixed pattern that are not
        drawn; InputError for one that the model does not have. threads: of a pass. recycle: outputs are valid
        until the next pass.
        """
        raise NotImplementedError

    @property
    def reads_logarithms(self) -> bool:
        """Whether frames are natural logarithms of DN instead of light."""
        return False

    @property
    def compares_log_intensity(self) -> bool:
        """Whether what the comparator sees lies on the scale of log intensity."""
        return True

    @property
    def readout_latency_us(self) -> tuple[float, float]:
        """Mean and deviation of the delay behind the pixels."""
        return self.latency_us or 0.0, self.latency_jitter_us or 0.0

    @classmethod
    def uses(cls, name: str) -> bool:
        """Whether the model reads field `name`."""
        return name in cls.__dataclass_fields__ and name != SWITCHED_OFF

    @classmethod
    def class_for(cls, tree: Mapping[str, Any], path: str) -> type[SensorConfig]:
        """The class of the model that a mapping names. Raises ConfigError for an unknown one."""
        if cls is not SensorConfig:
            return cls
        from evsim.sensor.pixel_models import configuration_class  # which knows this class

        return configuration_class(tree.get("model", FIRST_MODEL), _place(path, "model"))

    @classmethod
    def from_written(cls, tree: Mapping[str, Any], path: str) -> Tree:
        """The fields of this class in a mapping that may hold those of other models.

        Raises ConfigError for a field of another model with a value that this one contradicts, and for
        unknown fields.
        """
        own: Tree = {}
        zeros = []
        for name, value in tree.items():
            place = _place(path, name)
            if cls.uses(name):
                own[name] = value
            elif name not in FIRST_LAYOUT:
                raise ConfigError(cls._refuse(name, place))
            else:
                value = configuration.convert(type(FIRST_LAYOUT[name]), value, place)
                if not says_nothing(name, value):
                    raise ConfigError(
                        f"{place} = {value!r} with model {cls.model}, which does not use it (used by "
                        f"{_users(name)}): leave it at {FIRST_LAYOUT[name]!r}"
                    )
                if value != FIRST_LAYOUT[name]:
                    zeros.append(name)
        return {**own, SWITCHED_OFF: tuple(zeros)} if zeros else own

    @classmethod
    def _refuse(cls, name: str, place: str) -> str:
        names = [known for known in cls.__dataclass_fields__ if known != SWITCHED_OFF]
        users = _users(name)
        if users:
            return f"{place} with model {cls.model}, which does not use it (used by {users}): leave it out"
        alike = nearest(str(name), list(dict.fromkeys([*names, *FIRST_LAYOUT])))
        return f"unknown field {place!r}{alike}; fields of model {cls.model}: {', '.join(sorted(names))}"

    def to_written(self, tree: Tree) -> Tree:
        """The mapping that is written for the plain fields of this configuration."""
        return lay_out(
            {name: value for name, value in tree.items() if name != SWITCHED_OFF}, self.switched_off
        )


@dataclass(frozen=True, kw_only=True)
class ThresholdConfig(SensorConfig):
    """A sensor whose pixels compare changes of log intensity with two thresholds, and pause after an event.

    The defaults are those of the v2e command line.
    """

    contrast_threshold_on: float = 0.2
    """Increase of the natural logarithm of intensity that makes an ON event."""
    contrast_threshold_off: float = 0.2
    """Decrease of the natural logarithm of intensity that makes an OFF event."""
    contrast_threshold_spread: float = 0.03
    """Standard deviation of both thresholds from pixel to pixel (never below 0.01)."""
    refractory_period_us: float = 500.0
    """A pixel that fired stays silent until more than this many microseconds have passed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("contrast_threshold_on", "contrast_threshold_off"):
            require_range(name, getattr(self, name), SMALLEST_THRESHOLD, 100.0)
        require_range("contrast_threshold_spread", self.contrast_threshold_spread, 0, 10)
        require_range("refractory_period_us", self.refractory_period_us, 0, 1e8)


def _place(path: str, name: str) -> str:
    return f"{path}.{name}" if path else str(name)


def _users(name: str) -> str:
    """Names of the models that have a field."""
    from evsim.sensor.pixel_models import models_with  # which knows this module

    return ", ".join(models_with(name))
