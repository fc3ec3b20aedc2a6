"""Recipes: where the clips of a data set are, how they are timed, and which defaults its paper used.

A clip's name is its POSIX path relative to the root; it names the output and decides the random draws, so
that a data set may lie anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from evsim.configuration import Tree
from evsim.errors import InputError
from evsim.media.finding import clips_below, entries, has_images
from evsim.media.image import natural_key
from evsim.registry import Registry

GOPRO_FPS = 240.0
REDS_FPS = {"orig": 120.0, "sharp": 24.0}
"""REDS was shot at 120 frames per second; its `sharp` frames are 24 per second."""


@dataclass(frozen=True)
class Clip:
    """One clip of a data set.

    name: POSIX path relative to the root. path: the folder of frames, or the video.
    fps: frames per second in place of the clip's own timing, or None.
    """

    name: str
    path: Path
    fps: float | None = None


@dataclass(frozen=True)
class ClipSet:
    """What a recipe found: the clips in natural order, and sentences about what it left out."""

    clips: tuple[Clip, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """How one data set is laid out.

    find: (root, fps or None) -> ClipSet; raises InputError where the layout is not what it should be.
    preset, defaults: the configuration that is used where the user says nothing.
    """

    name: str
    summary: str
    find: Callable[[Path, float | None], ClipSet]
    preset: str = "sim2real"
    defaults: Tree = field(default_factory=dict)


def find_gopro(root: Path, fps: float | None = None) -> ClipSet:
    """The clips of GOPRO_Large_all: ``{train,test}/<clip>/*.png``, consecutive frames at 240 per second.

    GOPRO_Large, whose sharp frames are averages apart by several frames, is refused unless `fps` is given.
    Nah et al. 2017, "Deep multi-scale convolutional neural network for dynamic scene deblurring".
    """
    clips, blurred = [], []
    for split in _splits(root, ("train", "test")):
        for folder in _subfolders(split):
            if has_images(folder):
                clips.append(Clip(_name(folder, root), folder, fps or GOPRO_FPS))
            elif (folder / "sharp").is_dir() or (folder / "blur").is_dir():
                blurred.append(folder)
    if not blurred:
        return _require_clips(clips, root, "{train,test}/<clip>/*.png")
    if fps is None:
        raise InputError(
            f"{root} is GOPRO_Large: {blurred[0].relative_to(root)} holds blur/ and sharp/, and its sharp "
            "frames are not consecutive (each is the middle of a blurred one, several frames apart); use "
            "GOPRO_Large_all, which has the consecutive 240 fps frames, or pass --fps to take sharp/ at "
            "that rate"
        )
    clips += [Clip(_name(folder, root), folder / "sharp", fps) for folder in blurred]
    note = f"{len(blurred)} clips of GOPRO_Large: sharp/ is taken at {fps:g} fps, blur/ is left out"
    return _require_clips(clips, root, "{train,test}/<clip>/sharp/*.png", (note,))


def find_reds(root: Path, fps: float | None = None) -> ClipSet:
    """The clips of REDS: ``{train,val,test}/<split>_{orig,sharp}/<clip>/*.png``; 120 fps orig, 24 fps sharp.

    Blurred and down-scaled versions are left out with a note. Other layouts, ``<split>/<clip>/*.png`` among
    them, need `fps`. Nah et al. 2019, "NTIRE 2019 challenges on video deblurring and super-resolution".
    """
    clips, notes, undated = [], [], []
    for split in _splits(root, ("train", "val", "test")):
        for version in _subfolders(split):
            words = version.name.lower().split("_")
            rate = fps or next((REDS_FPS[word] for word in words if word in REDS_FPS), None)
            folders = [folder for folder in (version, *_subfolders(version)) if has_images(folder)]
            if {"blur", "bicubic", "comp"} & set(words):
                notes.append(
                    f"{version.relative_to(root)} was left out: blurred, compressed or down-scaled frames"
                )
            elif rate is None:
                undated += folders
            else:
                clips += [Clip(_name(folder, root), folder, rate) for folder in folders]
    if undated:
        raise InputError(
            f"{root}: {len(undated)} clips such as {undated[0].relative_to(root)} lie in no *_orig (120 fps) "
            "or *_sharp (24 fps) folder, so that nothing says their frame rate; pass --fps"
        )
    return _require_clips(clips, root, "{train,val,test}/<split>_{orig,sharp}/<clip>/*.png", tuple(notes))


def find_folders(root: Path, fps: float | None = None) -> ClipSet:
    """Every folder of images and every video under the root; an image folder needs timing files or `fps`."""
    if has_images(root):
        raise InputError(
            f"{root} holds frames itself: it is one clip, expected a tree of clips; use evsim simulate video"
        )
    clips = [Clip(_name(path, root), path, fps) for path in clips_below(root)]
    return _require_clips(clips, root, "folders of images, or videos")


RECIPES: Registry[Recipe] = Registry("recipe")
for _recipe in (
    Recipe("gopro", "GoPro (GOPRO_Large_all), 240 fps", find_gopro, defaults={"upsample": {"factor": 8}}),
    Recipe("reds", "REDS, 120 fps (orig) or 24 fps (sharp)", find_reds, defaults={"upsample": {"factor": 8}}),
    Recipe("folders", "any tree of image folders and videos", find_folders),
):
    RECIPES.register(_recipe.name)(_recipe)


def find_clips(recipe: str, root: Path, fps: float | None) -> ClipSet:
    """The clips of a recipe under `root`. Raises InputError for a root that is no folder or holds none."""
    if not root.is_dir():
        raise InputError(
            f"{root} {'is no folder' if root.exists() else 'does not exist'}; expected the data set's root"
        )
    return RECIPES[recipe].find(root, fps)


def _splits(root: Path, names: tuple[str, ...]) -> list[Path]:
    found = [root / name for name in names if (root / name).is_dir()]
    if not found:
        here = ", ".join(entry.name for entry in _subfolders(root)[:5]) or "no folders"
        raise InputError(f"{root} holds {here}; expected at least one of {', '.join(names)}")
    return found


def _require_clips(clips: list[Clip], root: Path, layout: str, notes: tuple[str, ...] = ()) -> ClipSet:
    if not clips:
        left_out = f" ({'; '.join(notes)})" if notes else ""
        raise InputError(f"{root} holds no clip, expected {layout}{left_out}")
    return ClipSet(tuple(sorted(clips, key=lambda clip: natural_key(clip.name))), notes)


def _subfolders(folder: Path) -> list[Path]:
    return [entry for entry in entries(folder) if entry.is_dir()]


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
