"""Any tree of image folders and videos."""

from __future__ import annotations

from pathlib import Path

from evsim.errors import InputError
from evsim.media.finding import clips_below, has_images
from evsim.pipelines.runs.recipe import FoundClips, Recipe, SourceClip, clip_name, found_clips


def find_folders(root: Path, fps: float | None = None) -> FoundClips:
    """Every folder of images and every video under the root; an image folder needs timing files or `fps`."""
    if has_images(root):
        raise InputError(
            f"{root} holds frames itself: it is one clip, expected a tree of clips; use evsim simulate video"
        )
    clips = [SourceClip(clip_name(path, root), path, fps) for path in clips_below(root)]
    return found_clips(clips, root, "folders of images, or videos")


RECIPE = Recipe(
    summary="Events of every image folder and video in a tree.",
    example="evsim simulate folders clips -o run --preset v2e-noisy",
    find=find_folders,
)
