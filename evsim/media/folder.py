"""Folders of images as clips: which files, in which order, at which times."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.media.frame import Frame, Transfer
from evsim.media.image import image_kind, natural_key, read_image, read_image_and_alpha, usual_transfer
from evsim.media.selection import WHOLE_CLIP, Selection
from evsim.media.source import Source, no_frame_selected, require_light
from evsim.media.timing import folder_timing, median_fps, require_increasing
from evsim.media.warning import MediaWarning


class ImageFilesSource(Source):
    """One image file for each frame, all of one size and type.

    files: paths. t_ns: their times on the clip's own clock, nanoseconds, strictly increasing. Files are
    read one at a time. Warns (MediaWarning) once if transparency was dropped. Raises InputError for a file
    that cannot be read, differs from the first in size or type, or holds NaN or negative light.
    """

    kind = "images"

    def __init__(
        self,
        files: Sequence[str | os.PathLike[str]],
        t_ns: Sequence[int | Fraction] | NDArray[np.int64],
        *,
        selection: Selection = WHOLE_CLIP,
        transfer: Transfer | None = None,
        name: str = "images",
        timing: str = "times given",
    ) -> None:
        paths = [Path(file) for file in files]
        if not paths:
            raise InputError(f"{name}: no image, expected at least one")
        if len(t_ns) != len(paths):
            raise InputError(f"{name}: {len(t_ns)} times for {len(paths)} images; expected one for each")
        labels = [path.name for path in paths]
        clock = [round(t) for t in t_ns]
        require_increasing(clock, labels, name)
        self._chosen = [index for index, t in enumerate(clock) if selection.contains(t)]
        if not self._chosen:
            raise no_frame_selected(name, selection, clock[0], clock[-1])
        self.files = paths
        times = np.array([_real_time(t_ns[index], selection) for index in self._chosen], np.int64)
        require_increasing(times, [labels[index] for index in self._chosen], name)
        self.t_ns = times
        probe = read_image(paths[self._chosen[0]])
        super().__init__(
            name,
            probe,
            selection=selection,
            transfer=transfer or usual_transfer(paths[0], probe),
            timing=timing,
            fps=median_fps(times),
            frame_count=len(times),
            frames_expected=len(times),
            duration_s=float(times[-1] - times[0]) / 1e9,
        )

    def __iter__(self) -> Iterator[Frame]:
        return self.stretch(0, len(self._chosen))

    def stretch(self, first: int, last: int) -> Iterator[Frame]:
        """The frames first..last - 1 of the selection; no other file is read."""
        transparent: list[str] = []
        for index, t_ns in zip(self._chosen[first:last], self.t_ns[first:last].tolist()):
            path = self.files[index]
            image, missing = read_image_and_alpha(path)
            if missing:
                transparent.append(path.name)
            require_light(image, str(path), self.transfer)
            yield Frame(self._fit(image, path.name), t_ns, False, index)
        if transparent:
            count = f"{len(transparent)} of {self.frame_count}"
            warnings.warn(
                f"{self.name}: transparency was dropped from {count} images, first {transparent[0]}",
                MediaWarning,
                stacklevel=2,
            )


def open_folder(
    path: str | os.PathLike[str],
    *,
    selection: Selection = WHOLE_CLIP,
    transfer: Transfer | None = None,
) -> ImageFilesSource:
    """The images of one kind in a folder, or in its subfolder `imgs`, in natural order of their names.

    Hidden files and files that are no images are left alone. Times as in `folder_timing`. Raises InputError
    for a folder without images, with images of several kinds, or without times.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder} {'is no folder' if folder.exists() else 'does not exist'}")
    files = list_images(folder)
    if not files and (folder / "imgs").is_dir():
        folder = folder / "imgs"
        files = list_images(folder)
    if not files:
        raise InputError(
            f"{folder} holds no image; expected PNG, TIFF, JPEG, BMP, EXR, NPY or camera RAW files"
        )
    timing = folder_timing(folder, [file.name for file in files], selection.fps)
    return ImageFilesSource(
        files, timing.t_ns, selection=selection, transfer=transfer, name=str(path), timing=timing.source
    )


def list_images(folder: Path) -> list[Path]:
    """The image files directly in a folder, in natural order; InputError if they are of several kinds."""
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.is_file()]
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from error
    files = [entry for entry in entries if image_kind(entry)]
    kinds = Counter(image_kind(file) for file in files)
    if len(kinds) > 1:
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        raise InputError(
            f"{folder} holds images of several kinds ({counts}), expected one; move the others away"
        )
    return sorted(files, key=lambda file: natural_key(file.name))


def _real_time(t_ns: Any, selection: Selection) -> int:
    return selection.real_time_ns(t_ns if isinstance(t_ns, Fraction) else int(t_ns))
