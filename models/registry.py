"""The networks by name: how each is made, and how the state its authors published becomes ours.

A network is a folder of this package whose `__init__` holds one `NetworkEntry` called ENTRY, and one line
in the table below. Nothing of a network is imported before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from evsim import configuration
from evsim.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from evsim.models.reconstruction import Reconstructor
    from evsim.models.weights.state import PublishedState, State

NETWORKS: Registry[str] = Registry("network")
"""Name -> module that holds its ENTRY."""

NETWORKS.register("evinr")("evsim.models.evinr")
NETWORKS.register("firenet")("evsim.models.firenet")


@dataclass(frozen=True, kw_only=True)
class NetworkEntry:
    """What the package knows about one network.

    name, summary: for people. config: frozen dataclass of hyper-parameters, the published ones as defaults.
    create: an untrained network of a configuration; the network carries both as `name` and `config`.
    from_published: pure function, the authors' state dictionary -> ours. licence: of the published code and
    weights. paper: citation. reconstructor: for networks that turn events into images, what feeds them.
    tasks: name -> module whose TASK says how the network is trained for it, or "module:object"; the first is
    the default, and a network without any cannot be trained.
    """

    name: str
    summary: str
    paper: str
    licence: str
    config: type
    create: Callable[[Any], nn.Module]
    from_published: Callable[[State], PublishedState]
    reconstructor: Callable[[nn.Module], Reconstructor] | None = None
    tasks: Mapping[str, str] = field(default_factory=dict)


def names() -> list[str]:
    """Names of all networks, sorted."""
    return sorted(NETWORKS)


def entry(name: str) -> NetworkEntry:
    """The entry of a network. Raises InputError for an unknown name, with the nearest one."""
    found: NetworkEntry = import_module(NETWORKS[name]).ENTRY
    return found


def create(name: str, **hyper: Any) -> nn.Module:
    """An untrained network in training mode; `hyper` are fields of its configuration.

    Raises InputError for an unknown name, ConfigError for an unknown field or a wrong value.
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


def from_config(found: NetworkEntry, fields: Mapping[str, Any]) -> nn.Module:
    """An untrained network from the fields of its configuration."""
    return found.create(configuration.build(found.config, fields, found.name))


def from_published(
    found: NetworkEntry, state: State, source: str, hyper: Mapping[str, Any] | None = None
) -> nn.Module:
    """The network with a published state; source: what messages call where it came from."""
    from evsim.models.weights.state import fill_network

    published = found.from_published(state)
    network = from_config(found, {**published.config, **(hyper or {})})
    fill_network(network, published, source)
    return network.eval()
