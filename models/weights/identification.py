"""Which network a state belongs to, for messages about weights that were loaded into another one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from evsim.errors import EvsimError
from evsim.models import registry
from evsim.models.weights.state import PublishedState, State, find_problems, outline_network


def identify(state: State, other_than: str) -> str | None:
    """Name of the network whose published keys these are, all of them, or None."""
    for name in registry.names():
        if name != other_than and _fits(name, state):
            return name
    return None


def _fits(name: str, state: State) -> bool:
    entry = registry.entry(name)
    for convert in (entry.from_published, lambda state: PublishedState(state=state)):
        if convert is None:
            continue
        try:
            published = convert(state)
            network = outline_network(partial(registry.from_config, entry, published.config))
        except (EvsimError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
            continue  # a conversion may stumble over the keys of another network
        if not find_problems(network, published):
            return True
    return False


def describe_sizes(found: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """The hyper-parameters in which a file differs from what was asked for, or an empty text."""
    differing = [name for name in asked if name in found and found[name] != asked[name]]
    return ", ".join(f"{name} = {found[name]!r} (asked for: {asked[name]!r})" for name in differing)
