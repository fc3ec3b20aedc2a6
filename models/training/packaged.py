"""Configurations that networks bring along: the YAML files beside their modules, known by name."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from evsim import configuration
from evsim.errors import ConfigError
from evsim.models import registry
from evsim.registry import nearest


def packaged_configurations(network: str) -> dict[str, Path]:
    """The configurations in the package of a network, by name. Raises InputError for an unknown network."""
    found = registry.entry(network)
    owner = found.config or found.options
    if owner is None:
        return {}
    module = import_module(owner.__module__)
    folder = Path(str(sys.modules[module.__name__].__file__)).parent
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_configuration(name_or_file: str, network: str) -> configuration.Tree:
    """The mapping of a packaged configuration, else of a file.

    name_or_file: without slash and suffix the name of a configuration that the network brings. Raises
    ConfigError that lists those where there is neither, and for a file that is none.
    """
    if "/" not in name_or_file and not Path(name_or_file).suffix:
        packaged = packaged_configurations(network)
        if name_or_file in packaged:
            return configuration.read_file(packaged[name_or_file])
        if not Path(name_or_file).is_file():
            raise ConfigError(
                f"{name_or_file!r} is neither a file nor a configuration of {network}"
                f"{nearest(name_or_file, list(packaged))}; it brings: {', '.join(packaged) or 'none'}"
            )
    return configuration.read_file(name_or_file)
