"""What packages outside this one add: things announced as entry points of their distributions.

Groups: evsim.formats, evsim.networks, evsim.recipes, evsim.pixel_models, evsim.interpolators. An entry point
names a module or an object; what it must hold is said where the group is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evsim.errors import InputError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def announced(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group by name, sorted. Raises InputError where two packages announce one name."""
    from importlib import metadata  # takes longer to import than all else of a command's help

    found: dict[str, EntryPoint] = {}
    for point in sorted(metadata.entry_points(group=group), key=lambda point: (point.name, point.value)):
        known = found.setdefault(point.name, point)
        if known.value != point.value:
            raise InputError(
                f"{group}: the name {point.name!r} is announced by {_origin(known)} and {_origin(point)}, "
                "expected once; uninstall one of them"
            )
    return found


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
    return f"{point.dist.name if point.dist else 'an unnamed package'} ({point.value})"
