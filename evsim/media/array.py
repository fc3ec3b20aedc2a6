"""Frames that are already in memory, and NPY/NPZ files that hold a whole stack of them."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.media.frame import Frame, Transfer
from evsim.media.image import require_image
from evsim.media.selection import WHOLE_CLIP, Selection
from evsim.media.source import Source, no_frame_selected, require_light
from evsim.media.timing import (
    NANOSECONDS,
    frame_time_ns,
    median_fps,
    rational_rate,
    read_timestamps,
    require_increasing,
)


class ArraySource(Source):
    """Frames from an array (T, H, W) or (T, H, W, 3), or from a sequence of images.

    frames: uint8, uint16 or floats of full scale 1.0. times: int64 (T,) nanoseconds, strictly increasing, or
    one number: frames per second. `selection.fps` overrides both. The array is not copied. Raises
    InputError for other shapes and types, NaN, or negative light.
    """

    kind = "array"

    def __init__(
        self,
        frames: NDArray[Any] | Sequence[NDArray[Any]],
        times: NDArray[np.int64] | Sequence[int] | float,
        transfer: Transfer = "srgb",
        name: str = "array",
        *,
        selection: Selection = WHOLE_CLIP,
        timing: str | None = None,
    ) -> None:
        _require_stack(frames, name)
        if selection.fps is not None:
            times, timing = selection.fps, f"--fps {selection.fps:g}"
        clock, words = _clock(times, len(frames), name)
        labels = [f"frame {index}" for index in range(len(frames))]
        rounded = [round(t) for t in clock]
        require_increasing(rounded, labels, name)
        self._chosen = [index for index, t in enumerate(rounded) if selection.contains(t)]
        if not self._chosen:
            raise no_frame_selected(name, selection, rounded[0], rounded[-1])
        self.frames = frames
        self.t_ns = np.array([selection.real_time_ns(clock[index]) for index in self._chosen], np.int64)
        require_increasing(self.t_ns, [labels[index] for index in self._chosen], name)
        super().__init__(
            name,
            require_image(np.asarray(frames[self._chosen[0]]), f"{name} frame {self._chosen[0]}"),
            selection=selection,
            transfer=transfer,
            timing=timing or words,
            fps=median_fps(self.t_ns),
            frame_count=len(self.t_ns),
            frames_expected=len(self.t_ns),
            duration_s=float(self.t_ns[-1] - self.t_ns[0]) / 1e9,
        )

    def __iter__(self) -> Iterator[Frame]:
        return self.stretch(0, len(self._chosen))

    def stretch(self, first: int, last: int) -> Iterator[Frame]:
        """The frames first..last - 1 of the selection; no others are touched."""
        for index, t_ns in zip(self._chosen[first:last], self.t_ns[first:last].tolist()):
            image = require_image(np.asarray(self.frames[index]), f"{self.name} frame {index}")
            require_light(image, f"{self.name} frame {index}", self.transfer)
            yield Frame(self._fit(image, f"frame {index}"), t_ns, False, index)


def open_stack(
    path: str | os.PathLike[str],
    *,
    selection: Selection = WHOLE_CLIP,
    transfer: Transfer | None = None,
) -> ArraySource:
    """The frames in an NPY or NPZ file, (T, H, W) or (T, H, W, 3).

    NPY is mapped, not loaded; its times are in `<stem>.timestamps.txt` beside it (seconds). NPZ holds
    `frames` (or one array under any name) and `t_ns` (nanoseconds) or `fps`. Otherwise `selection.fps` is
    required. Floats are linear light unless `transfer` says otherwise. Raises InputError.
    """
    file = Path(path)
    try:
        loaded = np.load(file, mmap_mode="r" if file.suffix.lower() == ".npy" else None, allow_pickle=False)
        frames, times, timing = (
            _read_npz(loaded, file) if isinstance(loaded, np.lib.npyio.NpzFile) else (loaded, None, "")
        )
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} is not a readable stack of frames: {error}") from error
    sidecar = file.with_name(f"{file.stem}.timestamps.txt")
    if selection.fps is not None:
        times = selection.fps
    elif times is None and sidecar.is_file():
        times, timing = read_timestamps(sidecar, len(frames), NANOSECONDS), sidecar.name
    if times is None:
        raise InputError(
            f"{file}: nothing says when its frames were taken; pass --fps, or add {sidecar.name}"
        )
    usual: Transfer = "linear" if frames.dtype.kind == "f" else "srgb"
    source = ArraySource(
        frames, times, transfer or usual, str(path), selection=selection, timing=timing or None
    )
    source.kind = "stack"
    return source


def _read_npz(archive: Any, file: Path) -> tuple[NDArray[Any], Any, str]:
    with archive:
        others = [key for key in archive.files if key not in ("t_ns", "fps")]
        key = "frames" if "frames" in others else others[0] if len(others) == 1 else None
        if key is None:
            raise InputError(
                f"{file} holds {', '.join(archive.files) or 'nothing'}; expected an array 'frames'"
            )
        if "t_ns" in archive.files:
            return archive[key], archive["t_ns"], f"{file.name}: t_ns"
        if "fps" in archive.files:
            return archive[key], float(archive["fps"]), f"{file.name}: fps"
        return archive[key], None, ""


def _require_stack(frames: Any, name: str) -> None:
    if isinstance(frames, np.ndarray):
        if frames.ndim == 3 and frames.shape[2] in (3, 4) and frames.shape[0] > 4:
            raise InputError(
                f"{name} has shape {frames.shape}: one colour image or {frames.shape[0]} grey frames "
                f"{frames.shape[2]} pixels wide? Pass (T, H, W) or (T, H, W, 3)"
            )
        if frames.ndim not in (3, 4):
            raise InputError(f"{name} has shape {frames.shape}, expected (T, H, W) or (T, H, W, 3)")
    if len(frames) == 0:
        raise InputError(f"{name} holds no frame, expected at least one")


def _clock(times: Any, count: int, name: str) -> tuple[Sequence[int | Fraction], str]:
    if isinstance(times, (int, float, np.number)) and not isinstance(times, bool):
        if not 0 < float(times) < math.inf:
            raise InputError(f"{name}: {times} frames per second, expected a positive number")
        rate = rational_rate(float(times))
        return [frame_time_ns(index, rate) for index in range(count)], f"{float(times):g} frames/s"
    given = np.asarray(times)
    if given.dtype.kind not in "iu" or given.ndim != 1:
        raise InputError(
            f"{name}: times are {given.dtype} of shape {given.shape}; expected int64 nanoseconds of shape "
            f"({count},), or one number of frames per second"
        )
    if len(given) != count:
        raise InputError(f"{name}: {len(given)} times for {count} frames; expected one for each")
    return [int(t) for t in given], "times given"
