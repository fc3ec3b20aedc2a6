"""One door for every kind of footage: what lies at a path decides how it is read."""

from __future__ import annotations

import os
from pathlib import Path

from evsim.errors import InputError
from evsim.media.frame import Transfer
from evsim.media.image import image_kind
from evsim.media.selection import WHOLE_CLIP, Selection
from evsim.media.source import Source


def open_source(
    path: str | os.PathLike[str],
    *,
    selection: Selection = WHOLE_CLIP,
    transfer: Transfer | None = None,
) -> Source:
    """The clip at `path`: a video file, a folder of images, or an NPY/NPZ stack.

    transfer: what code values mean, where the usual (srgb for codes, linear for floats, raw for camera
    RAW) is not it. Raises InputError for what cannot be read, and for a single image.
    """
    found = Path(path)
    if not found.exists():
        raise InputError(f"{found} does not exist; expected a video, a folder of images or an NPY/NPZ stack")
    if found.is_dir():
        from evsim.media.folder import open_folder

        return open_folder(path, selection=selection, transfer=transfer)
    if found.suffix.lower() in (".npy", ".npz"):
        from evsim.media.array import open_stack

        return open_stack(path, selection=selection, transfer=transfer)
    if image_kind(found):
        raise InputError(
            f"{found} is a single image, expected a clip; "
            f"`evsim simulate image` moves a camera over it, or pass the folder that holds the frames"
        )
    from evsim.media.video import VideoSource

    return VideoSource(path, selection=selection, transfer=transfer)
