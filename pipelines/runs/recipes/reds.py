"""REDS: Nah et al. 2019, "NTIRE 2019 challenges on video deblurring and super-resolution"."""

from __future__ import annotations

from pathlib import Path

from evsim.errors import InputError
from evsim.media.finding import has_images
from evsim.pipelines.runs.recipe import (
    FoundClips,
    Recipe,
    SourceClip,
    clip_name,
    found_clips,
    splits,
    subfolders,
)

REDS_FPS = {"orig": 120.0, "sharp": 24.0}
"""REDS was shot at 120 frames per second; its `sharp` frames are 24 per second."""


def find_reds(root: Path, fps: float | None = None) -> FoundClips:
    """The clips of REDS: ``{train,val,test}/<split>_{orig,sharp}/<clip>/*.png``; 120 fps orig, 24 fps sharp.

    Blurred and down-scaled versions are left out with a note. Other layouts, ``<split>/<clip>/*.png`` among
    them, need `fps`. Nah et al. 2019, "NTIRE 2019 challenges on video deblurring and super-resolution".
    """
    clips, notes, undated = [], [], []
    for split in splits(root, ("train", "val", "test")):
        for version in subfolders(split):
            words = version.name.lower().split("_")
            rate = fps or next((REDS_FPS[word] for word in words if word in REDS_FPS), None)
            folders = [folder for folder in (version, *subfolders(version)) if has_images(folder)]
            if {"blur", "bicubic", "comp"} & set(words):
                notes.append(
                    f"{version.relative_to(root)} was left out: blurred, compressed or down-scaled frames"
                )
            elif rate is None:
                undated += folders
            else:
                clips += [SourceClip(clip_name(folder, root), folder, rate) for folder in folders]
    if undated:
        raise InputError(
            f"{root}: {len(undated)} clips such as {undated[0].relative_to(root)} lie in no *_orig (120 fps) "
            "or *_sharp (24 fps) folder, so that nothing says their frame rate; pass --fps"
        )
    return found_clips(clips, root, "{train,val,test}/<split>_{orig,sharp}/<clip>/*.png", tuple(notes))


RECIPE = Recipe(
    summary="Events of the REDS data set: 120 fps (orig) or 24 fps (sharp).",
    example="evsim simulate reds REDS -o run --workers 8",
    find=find_reds,
    defaults={"upsample": {"factor": 8}},
)
