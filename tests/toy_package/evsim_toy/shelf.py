"""A recipe: every folder ``shelf-*`` of a data set is a clip of 25 frames per second."""

from __future__ import annotations

from pathlib import Path

from evsim.pipelines.runs.recipe import FoundClips, Recipe, SourceClip, clip_name, found_clips, subfolders


def find(root: Path, fps: float | None = None) -> FoundClips:
    """The shelves under a root. Raises InputError where there are none."""
    shelves = [folder for folder in subfolders(root) if folder.name.startswith("shelf-")]
    clips = [SourceClip(clip_name(folder, root), folder, fps or 25.0) for folder in shelves]
    return found_clips(clips, root, "shelf-*/*.png")


RECIPE = Recipe(
    summary="Events of the toy data set, shelves at 25 fps.",
    example="evsim simulate toy_shelf TOYS -o run",
    find=find,
    preset="v2e-clean",
    defaults={"upsample": {"factor": 2}},
)
