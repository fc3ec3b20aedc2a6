"""What packages outside this one add: things announced as entry points of their distributions.

Groups: evsim.formats, evsim.networks, evsim.recipes, evsim.pixel_models, evsim.interpolators. An entry point
names a module or an object; what it must hold is said where the group is read. evsim announces in the same
way what its core may not import; in a source checkout, installed or not, that is read from its setup.cfg,
so that it never differs from the sources.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evsim.errors import InputError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

OWN_DISTRIBUTION = "evsim"


def announced(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group by name, sorted. Raises InputError where two packages announce one name."""
    from importlib import metadata  # takes longer to import than all else of a command's help

    points = list(metadata.entry_points(group=group))
    declared = Path(__file__).resolve().parent.parent / "setup.cfg"
    if declared.is_file():
        others = [point for point in points if point.dist is None or point.dist.name != OWN_DISTRIBUTION]
        points = [*others, *points_in_setup_file(declared, group)]
    found: dict[str, EntryPoint] = {}
    for point in sorted(points, key=lambda point: (point.name, point.value)):
        known = found.setdefault(point.name, point)
        if known.value != point.value:
            raise InputError(
                f"{group}: the name {point.name!r} is announced by {_origin(known)} and {_origin(point)}, "
                "expected once; uninstall one of them"
            )
    return found


def points_in_setup_file(path: Path, group: str) -> list[EntryPoint]:
    """The entry points of a group that a setup.cfg declares."""
    from configparser import ConfigParser
    from importlib.metadata import EntryPoint

    parser = ConfigParser(delimiters=("=",), interpolation=None)
    parser.read(path, encoding="utf-8")
    lines = parser.get("options.entry_points", group, fallback="").splitlines()
    named = [line.partition("=") for line in lines if line.strip()]
    return [EntryPoint(name.strip(), value.strip(), group) for name, _, value in named]


def load(point: EntryPoint) -> Any:
    """The object or module of an entry point. Raises InputError that names the package where it fails."""
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{point.group}: {point.name!r} of {_origin(point)} cannot be loaded ({error}); mend or "
            "uninstall it"
        ) from error


def _origin(point: EntryPoint) -> str:
    own = point.value.startswith(f"{OWN_DISTRIBUTION}.")
    name = point.dist.name if point.dist else OWN_DISTRIBUTION if own else "an unnamed package"
    return f"{name} ({point.value})"
