"""What a recipe says of a data set: where its clips are, how they are timed, which defaults its paper used.

A clip's name is its POSIX path relative to the root; it names the output and decides the random draws, so
that a data set may lie anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from evsim.configuration import Tree
from evsim.errors import InputError
from evsim.media.finding import entries
from evsim.media.image import natural_key


@dataclass(frozen=True)
class SourceClip:
    """One clip of a data set.

    name: POSIX path relative to the root. path: the folder of frames, or the video.
    fps: frames per second in place of the clip's own timing, or None.
    """

    name: str
    path: Path
    fps: float | None = None


@dataclass(frozen=True)
class FoundClips:
    """What a recipe found: the clips in natural order, and sentences about what it left out."""

    clips: tuple[SourceClip, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one data set is laid out.

    summary, example: the first sentence of the command's help, and a line to type.
    find: (root, fps or None) -> FoundClips; raises InputError where the layout is not what it should be.
    preset, defaults: the configuration that is used where the user says nothing.
    """

    summary: str
    example: str
    find: Callable[[Path, float | None], FoundClips]
    preset: str = "sim2real"
    defaults: Tree = field(default_factory=dict)


def found_clips(clips: list[SourceClip], root: Path, layout: str, notes: tuple[str, ...] = ()) -> FoundClips:
    """The clips in natural order. Raises InputError with the expected layout where there are none."""
    if not clips:
        left_out = f" ({'; '.join(notes)})" if notes else ""
        raise InputError(f"{root} holds no clip, expected {layout}{left_out}")
    return FoundClips(tuple(sorted(clips, key=lambda clip: natural_key(clip.name))), notes)


def splits(root: Path, names: tuple[str, ...]) -> list[Path]:
    """The folders of these names that a root has. Raises InputError if it has none."""
    found = [root / name for name in names if (root / name).is_dir()]
    if not found:
        here = ", ".join(entry.name for entry in subfolders(root)[:5]) or "no folders"
        raise InputError(f"{root} holds {here}; expected at least one of {', '.join(names)}")
    return found


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden ones, in natural order."""
    return [entry for entry in entries(folder) if entry.is_dir()]


def clip_name(path: Path, root: Path) -> str:
    """The name of the clip at `path`."""
    return path.relative_to(root).as_posix()
