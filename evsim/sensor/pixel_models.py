"""Pixel models by name: those of `evsim.sensor.pixels`, and what other packages announce.

A module (or folder) of `evsim.sensor.pixels` is a model of that name; its `PIXEL_MODEL` is the configuration
class, which makes the pixels. Other packages announce theirs as entry points of the group
`evsim.pixel_models`: the model's name, and where its configuration class is. They are looked for when a name
is not one of evsim's own.
"""

from __future__ import annotations

import importlib.util
import pkgutil
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evsim import plugins
from evsim.errors import ConfigError, InputError
from evsim.registry import nearest
from evsim.sensor import pixels as own_models
from evsim.sensor.config import SensorConfig
from evsim.sensor.fields import FrameFields
from evsim.sensor.sorting import Columns
from evsim.sensor.sums import EventSum

GROUP = "evsim.pixel_models"


class Pixels(Protocol):
    """The pixels of one sensor: their state, and one pass over them.

    Times are nanoseconds; `frame` is checked, (H, W), read-only; `index` counts passes and belongs into every
    random draw. `PerPixelModel` has most of it for pixels that do not see each other.
    """

    def require_light(self, frame: NDArray[Any]) -> None:
        """InputError for a frame with light that the model cannot take."""

    def require_pass(self, t0_ns: int, t1_ns: int, given: FrameFields | None) -> None:
        """InputError for an interval or random fields that `advance` cannot take; moves nothing.

        What passes both checks must not be refused by `start`, `advance` or `add`.
        """

    def start(self, frame: NDArray[Any], t_ns: int, *, first: bool) -> None:
        """Take `frame` as settled: all pixels rest at its level. first: also set the origin of times."""

    def advance(
        self, frame: NDArray[Any], t0_ns: int, t1_ns: int, index: int, given: FrameFields | None
    ) -> Columns:
        """Events of the interval (t0_ns, t1_ns] that ends with `frame`, sorted by (t, y, x, p)."""
        ...

    def add(
        self,
        frame: NDArray[Any],
        t0_ns: int,
        t1_ns: int,
        index: int,
        given: FrameFields | None,
        target: EventSum,
    ) -> int:
        """As `advance`, but add the events to `target`; returns how many."""
        ...

    def log_intensity(self, frame: NDArray[Any]) -> NDArray[np.float32]:
        """float32 (H, W): what the photoreceptor makes of a frame."""
        ...

    def planes(self) -> dict[str, NDArray[Any]]:
        """The state: `low_pass`, `base`, `theta_on`, `theta_off` and what else there is, (H, W) or less."""
        ...

    def save(self) -> dict[str, Any]:
        """Copies of the state, with what `load` needs."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Take over a state from `save`; InputError if it is of another sensor."""


def model_names() -> list[str]:
    """Names of all pixel models, those of other packages included, sorted."""
    return sorted({*_own_names(), *plugins.announced(GROUP)})


def configuration_class(name: Any, place: str = "model") -> type[SensorConfig]:
    """The configuration class of a pixel model.

    place: of the name, for the ConfigError of an unknown one. Raises InputError for a model of another
    package that cannot be loaded or is no pixel model.
    """
    if _is_own(name):
        return _own_class(name)
    announced = plugins.announced(GROUP)
    if not isinstance(name, str) or name not in announced:
        names = model_names()
        raise ConfigError(
            f"{place} = {name!r}{nearest(str(name), names)}, expected one of {', '.join(names)}"
        )
    found = plugins.load(announced[name])
    if not (isinstance(found, type) and issubclass(found, SensorConfig) and found.model == name):
        raise InputError(
            f"{GROUP}: {name!r} is {announced[name].value}, expected a subclass of evsim.sensor.SensorConfig "
            f"whose field model is {name!r}"
        )
    return found


def models_with(field: str) -> list[str]:
    """Names of the models that have a field; other packages are asked only if none of evsim's own has it."""
    own = [name for name in _own_names() if _own_class(name).uses(field)]
    return own or [name for name in plugins.announced(GROUP) if configuration_class(name).uses(field)]


def _own_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(own_models.__path__))


def _is_own(name: Any) -> bool:
    module = f"{own_models.__name__}.{name}"
    # A look into the table of modules, or for one file: every clip of a run asks.
    return isinstance(name, str) and name.isidentifier() and importlib.util.find_spec(module) is not None


def _own_class(name: str) -> type[SensorConfig]:
    found: type[SensorConfig] = importlib.import_module(f"{own_models.__name__}.{name}").PIXEL_MODEL
    return found
