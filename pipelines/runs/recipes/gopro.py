"""GoPro: Nah et al. 2017, "Deep multi-scale convolutional neural network for dynamic scene deblurring"."""

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

GOPRO_FPS = 240.0


def find_gopro(root: Path, fps: float | None = None) -> FoundClips:
    """The clips of GOPRO_Large_all: ``{train,test}/<clip>/*.png``, consecutive frames at 240 per second.

    GOPRO_Large, whose sharp frames are averages apart by several frames, is refused unless `fps` is given.
    Nah et al. 2017, "Deep multi-scale convolutional neural network for dynamic scene deblurring".
    """
    clips, blurred = [], []
    for split in splits(root, ("train", "test")):
        for folder in subfolders(split):
            if has_images(folder):
                clips.append(SourceClip(clip_name(folder, root), folder, fps or GOPRO_FPS))
            elif (folder / "sharp").is_dir() or (folder / "blur").is_dir():
                blurred.append(folder)
    if not blurred:
        return found_clips(clips, root, "{train,test}/<clip>/*.png")
    if fps is None:
        raise InputError(
            f"{root} is GOPRO_Large: {blurred[0].relative_to(root)} holds blur/ and sharp/, and its sharp "
            "frames are not consecutive (each is the middle of a blurred one, several frames apart); use "
            "GOPRO_Large_all, which has the consecutive 240 fps frames, or pass --fps to take sharp/ at "
            "that rate"
        )
    clips += [SourceClip(clip_name(folder, root), folder / "sharp", fps) for folder in blurred]
    note = f"{len(blurred)} clips of GOPRO_Large: sharp/ is taken at {fps:g} fps, blur/ is left out"
    return found_clips(clips, root, "{train,test}/<clip>/sharp/*.png", (note,))


RECIPE = Recipe(
    summary="Events of the GoPro data set (GOPRO_Large_all), 240 fps upsampled x8.",
    example="evsim simulate gopro GOPRO_Large_all -o run --workers 8",
    find=find_gopro,
    defaults={"upsample": {"factor": 8}},
)
