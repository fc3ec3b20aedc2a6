"""The upsampling methods by name: none and flow are built in, other packages announce theirs.

An entry point of the group `evsim.interpolators` names a callable: `UpsampleConfig` -> `Interpolator`, which
reads method, weights and options alone. It is the method of the entry point's name; or, where it has a
function `names`, of every name that gives (so one object serves all networks of `evsim.models`, which this
room may not import). Nothing is looked up, and none is loaded, for the built-in methods.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from evsim import plugins
from evsim.errors import ConfigError
from evsim.registry import nearest

if TYPE_CHECKING:
    from evsim.upsample.config import UpsampleConfig
    from evsim.upsample.interpolator import Interpolator

BUILT_IN = ("none", "flow")
GROUP = "evsim.interpolators"


def make_interpolator(config: UpsampleConfig) -> Interpolator | None:
    """What makes the frames in between as a configuration says, None where there are none.

    Weights are loaded here, so one that is asked for more than a clip should be kept. Raises InputError for
    weights that cannot be used, ConfigError for options that the method does not have.
    """
    if config.method == "none" or (config.factor == 1 and not config.adaptive):
        return None
    if config.method == "flow":
        from evsim.upsample.flow import FlowInterpolator  # loads OpenCV and numba

        return FlowInterpolator()
    return _maker(config.method)(config)


class KeptInterpolators:
    """Interpolators that are kept for the configurations to come; each process makes its own.

    Only method, weights and options decide which one it is. Pickled, it is empty.
    """

    def __init__(self) -> None:
        self._made: list[tuple[tuple[Any, ...], Interpolator | None]] = []

    def get(self, config: UpsampleConfig) -> Interpolator | None:
        """As `make_interpolator`, but nothing is loaded twice."""
        if config.method in BUILT_IN:
            return make_interpolator(config)
        wanted = (os.getpid(), config.method, config.weights, config.part_weights, config.options)
        for made, interpolator in self._made:
            if made == wanted:
                return interpolator
        found = make_interpolator(config)
        self._made.append((wanted, found))
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return (KeptInterpolators, ())


def require_method(name: str) -> None:
    """ConfigError that lists the methods unless one has this name."""
    if name not in BUILT_IN:
        _maker(name)


def _maker(name: str) -> Callable[[UpsampleConfig], Interpolator]:
    points = plugins.announced(GROUP)
    if name in points:
        found = plugins.load(points[name])
        if not _names(found):
            return found
    known = [*BUILT_IN]
    for own, point in points.items():
        found = plugins.load(point)
        names = _names(found) or (own,)
        if name in names:
            return found
        known += names
    raise ConfigError(f"method = {name!r}{nearest(name, known)}, expected one of {', '.join(known)}")


def _names(found: Any) -> Iterable[str]:
    """The methods that an announced object serves by names of its own."""
    return tuple(found.names()) if hasattr(found, "names") else ()
