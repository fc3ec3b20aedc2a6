"""Networks, their published weights, data sets, training and evaluation.

Importing this package loads no torch: the public names are looked up when they are first used.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evsim.models.registry import create, load_state, names
    from evsim.models.weights.checkpoints import load, save

__all__ = ["create", "load", "load_state", "names", "save"]

_HOME = {
    "create": "evsim.models.registry",
    "load": "evsim.models.weights.checkpoints",
    "load_state": "evsim.models.registry",
    "names": "evsim.models.registry",
    "save": "evsim.models.weights.checkpoints",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(_import_module(_HOME[name]), name)
    raise AttributeError(f"module 'evsim.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
