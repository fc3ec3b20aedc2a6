"""Data sets whose clips `evsim simulate` finds: one module each, found here by its name.

A new recipe is one new module in this folder that holds `RECIPE`; nothing else changes. Packages outside
announce theirs as entry points of the group ``evsim.recipes``, each a `Recipe`.
"""

from __future__ import annotations

from pathlib import Path

from evsim.errors import InputError
from evsim.pipelines.runs.recipe import FoundClips, Recipe
from evsim.registry import Registry

RECIPES: Registry[Recipe] = Registry(
    "recipe", "evsim.recipes", package=__name__, attribute="RECIPE", thing=Recipe
)


def find_source_clips(recipe: str, root: Path, fps: float | None) -> FoundClips:
    """The clips of a recipe under `root`. Raises InputError for a root that is no folder or holds none."""
    if not root.is_dir():
        raise InputError(
            f"{root} {'is no folder' if root.exists() else 'does not exist'}; expected the data set's root"
        )
    return RECIPES[recipe].find(root, fps)
