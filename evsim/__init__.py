"""evsim: ordinary video to trained event-camera networks.

Importing this package loads nothing heavier than the standard library: the public names below are
looked up when they are first used.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path

if __name__ != "evsim":
    raise ImportError(
        f"evsim was imported as {__name__}; run from the folder that holds evsim/, not from inside it"
    )
_root = _Path(__file__).resolve().parent.parent
if (_root / "setup.cfg").is_file():
    __path__.append(str(_root))  # source checkout: the folders beside evsim/ are its subpackages

__version__ = "0.1.0"
__all__ = ["Events", "Simulator", "open_events", "save_events", "simulate", "simulate_voxels"]

_HOME = {
    "Events": "evsim.events",
    "Simulator": "evsim.sensor",
    "open_events": "evsim.formats",
    "save_events": "evsim.formats",
    "simulate": "evsim.chain",
    "simulate_voxels": "evsim.chain",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(_import_module(_HOME[name]), name)
    raise AttributeError(f"module 'evsim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
