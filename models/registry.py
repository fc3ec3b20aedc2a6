"""The networks by name: how each is made, and how the state its authors published becomes ours.

A network is a folder of this package, or of one of its rooms, whose `__init__` holds one `NetworkEntry`
called ENTRY; the folder's name is the network's. Other packages announce theirs as entry points of the group
`evsim.networks`: the name is the network's, and what it names is a module that holds ENTRY, or the entry
itself. Folders are found by reading; nothing of a network is imported before it is asked for.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from evsim import configuration, plugins
from evsim.errors import CheckpointError, InputError
from evsim.models.prediction.needs import Needs
from evsim.registry import nearest

if TYPE_CHECKING:
    from torch import nn

    from evsim.models.prediction.flow import FlowEstimator
    from evsim.models.prediction.parts import PredictorParts
    from evsim.models.prediction.predictor import Predictor
    from evsim.models.weights.state import PublishedState, State

Role = Literal["reconstruct", "interpolate", "deblur", "flow"]
"""reconstruct: events to images; interpolate: frames, perhaps with events, to frames between them; deblur:
blurry frames and events to sharp frames; flow: two images to the motion between them."""

GROUP = "evsim.networks"
"""Entry points by which other packages announce their networks."""

DEFAULT_NETWORKS: Mapping[Role, str] = {"reconstruct": "firenet"}
"""Which network a verb takes where the user names none."""

_HOLDS_ENTRY = re.compile(r"^ENTRY\b", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class NetworkEntry:
    """What the package knows about one network, or about one method without a network.

    name, summary: for people. paper: citation. licence: of the published code and weights. roles: what it can
    do; of several, the first is what `evsim evaluate` takes it for.
    config: frozen dataclass of hyper-parameters, the published ones as defaults. create: an untrained network
    of a configuration; the network carries both as `name` and `config`. from_published: pure function, the
    authors' state dictionary -> ours. A method without a network has none of the three.
    needs: what its predictor needs. options: frozen dataclass of what can be chosen when it is applied, None
    where that is nothing; of methods fitted to a recording it is the section `fit` of configurations.
    predictor: what makes the images, for the roles reconstruct, interpolate and deblur. flow_estimator: what
    finds the motion, for the role flow. is_fitted: it is fitted to each recording, unless it is given the
    weights of a fit.
    tasks: name -> module whose TASK says how the network is trained for it, or "module:object"; the first is
    the default, and a network without any cannot be trained.
    """

    name: str
    summary: str
    paper: str
    licence: str
    roles: tuple[Role, ...] = ()
    config: type | None = None
    create: Callable[[Any], nn.Module] | None = None
    from_published: Callable[[State], PublishedState] | None = None
    needs: Needs = field(default_factory=Needs)
    options: type | None = None
    predictor: Callable[[PredictorParts], Predictor] | None = None
    flow_estimator: Callable[[PredictorParts], FlowEstimator] | None = None
    tasks: Mapping[str, str] = field(default_factory=dict)
    is_fitted: bool = False


def names(role: Role | None = None) -> list[str]:
    """Names of all networks, sorted; with a role, of those that have it, for which all are imported."""
    found = sorted(_places())
    return found if role is None else [name for name in found if role in entry(name).roles]


def entry(name: str) -> NetworkEntry:
    """The entry of a network.

    Raises InputError for an unknown name, with the nearest one, and for a place that holds no such entry.
    """
    places = _places()
    if name not in places:
        choices = sorted(places)
        raise InputError(f"unknown network {name!r}{nearest(name, choices)}; known: {', '.join(choices)}")
    place = places[name]
    held = import_module(place) if isinstance(place, str) else plugins.load(place)
    found = getattr(held, "ENTRY", held)
    where = place if isinstance(place, str) else f"{GROUP}: {place.value}"
    if not isinstance(found, NetworkEntry):
        raise InputError(f"{where} holds a {type(found).__name__}, expected a NetworkEntry called ENTRY")
    if found.name != name:
        raise InputError(f"{where} holds the network {found.name!r}, expected {name!r}; give both one name")
    return found


def _places() -> dict[str, Any]:
    """Name -> module of this package, or entry point of another one."""
    places: dict[str, Any] = {module.rpartition(".")[2]: module for module in _network_modules(__package__)}
    for name, point in plugins.announced(GROUP).items():
        if name in places:
            raise InputError(f"{GROUP}: {point.value} announces the network {name!r}, which evsim has itself")
        places[name] = point
    return places


def _network_modules(package: str) -> Iterator[str]:
    """Modules below a package whose source holds an ENTRY; nothing but the package is imported."""
    spec = find_spec(package)
    for found in pkgutil.iter_modules(spec.submodule_search_locations if spec else None):
        if not found.ispkg:
            continue
        module = found.module_finder.find_spec(found.name, None)
        source = module.loader.get_source(found.name) if module and module.loader else ""  # type: ignore[attr-defined]
        name = f"{package}.{found.name}"
        if _HOLDS_ENTRY.search(source or ""):
            yield name
        else:
            yield from _network_modules(name)


def create(name: str, **hyper: Any) -> nn.Module:
    """An untrained network in training mode; `hyper` are fields of its configuration.

    Raises InputError for an unknown name or a method without a network, ConfigError for an unknown field or a
    wrong value.
    """
    return from_config(entry(name), hyper)


def load_state(name: str, state_dict: Mapping[str, Any], **hyper: Any) -> nn.Module:
    """The network with the tensors of a published state dictionary, in evaluation mode.

    state_dict: published key names, plain or wrapped as in the published file. hyper: what overrides the
    configuration inferred from the shapes. Raises CheckpointError that lists every missing, left over or
    wrongly shaped key.
    """
    from evsim.models.weights.state import find_state

    source = "the state dictionary"
    return from_published(entry(name), find_state(state_dict, source), source, hyper)


def from_config(found: NetworkEntry, fields: Mapping[str, Any], section: str | None = None) -> nn.Module:
    """An untrained network from the fields of its configuration; section: what messages call these."""
    if found.config is None or found.create is None:
        raise InputError(f"{found.name} is a method without a network: it has no weights to make or to load")
    return found.create(configuration.build(found.config, fields, section or found.name))


def published_state(found: NetworkEntry, state: State, source: str) -> PublishedState:
    """Our state of a published one. Raises CheckpointError for a network of which none are published."""
    if found.from_published is None:
        raise CheckpointError(
            f"{source}: no weights of {found.name} are published, expected a file of evsim's"
        )
    return found.from_published(state)


def from_published(
    found: NetworkEntry, state: State, source: str, hyper: Mapping[str, Any] | None = None
) -> nn.Module:
    """The network with a published state; source: what messages call where it came from."""
    from evsim.models.weights.state import filled_network

    published = published_state(found, state, source)
    fields = {**published.config, **(hyper or {})}
    return filled_network(lambda: from_config(found, fields), published, source).eval()
