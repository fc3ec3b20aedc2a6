"""Data sets whose clips `evsim simulate` finds: one module each, found here by its name.

A new recipe is one new module in this folder that holds `RECIPE`; nothing else changes. Packages outside
announce theirs as entry points of the group ``evsim.recipes``, each a `Recipe`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from evsim import plugins
from evsim.errors import InputError
from evsim.pipelines.runs.recipe import FoundClips, Recipe
from evsim.registry import nearest

GROUP = "evsim.recipes"


class _Recipes(Mapping[str, Recipe]):
    """Recipes by name; names are listed without loading, a recipe is loaded when it is asked for."""

    def __getitem__(self, name: str) -> Recipe:
        if name in _modules():
            return importlib.import_module(f"{__name__}.{name}").RECIPE
        announced = plugins.announced(GROUP)
        if name not in announced:
            choices = list(self)
            raise InputError(f"unknown recipe {name!r}{nearest(name, choices)}; known: {', '.join(choices)}")
        found = plugins.load(announced[name])
        if not isinstance(found, Recipe):
            raise InputError(
                f"{GROUP}: {name!r} is a {type(found).__name__}, expected a Recipe; mend or uninstall it"
            )
        return found

    def __contains__(self, name: object) -> bool:
        return name in set(self)

    def __iter__(self) -> Iterator[str]:
        inside, outside = _modules(), set(plugins.announced(GROUP))
        if repeated := sorted(inside & outside):
            raise InputError(
                f"{GROUP}: the name {repeated[0]!r} is one of evsim's own; expected another name"
            )
        return iter(sorted(inside | outside))

    def __len__(self) -> int:
        return len(list(iter(self)))


RECIPES: Mapping[str, Recipe] = _Recipes()


def find_source_clips(recipe: str, root: Path, fps: float | None) -> FoundClips:
    """The clips of a recipe under `root`. Raises InputError for a root that is no folder or holds none."""
    if not root.is_dir():
        raise InputError(
            f"{root} {'is no folder' if root.exists() else 'does not exist'}; expected the data set's root"
        )
    return RECIPES[recipe].find(root, fps)


def _modules() -> set[str]:
    return {module.name for module in pkgutil.iter_modules(__path__)}
