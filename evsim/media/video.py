"""Video files through OpenCV's decoder, at the times at which they are to be presented."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.media.frame import Frame, Transfer
from evsim.media.selection import WHOLE_CLIP, Selection
from evsim.media.source import Source, no_frame_selected
from evsim.media.timing import Grid, find_grid, frame_time_ns, not_increasing, rational_rate
from evsim.media.warning import MediaWarning

# Enough packets to tell a constant rate from a variable one; the rest of a long file is not read for it.
_PROBED_PACKETS = 1024


@contextlib.contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV and its FFmpeg from writing to stderr: what they say is raised as an error instead."""
    logging = cv2.utils.logging
    level = logging.getLogLevel()
    variable = "OPENCV_FFMPEG_LOGLEVEL"
    chosen = os.environ.get(variable)
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    if chosen is None:
        os.environ[variable] = "-8"  # read once, when the first file of the process is opened
    try:
        yield
    finally:
        logging.setLogLevel(level)
        if chosen is None:
            os.environ.pop(variable, None)


def open_capture(path: str | os.PathLike[str], *, packets: bool = False) -> Any:
    """An opened cv2.VideoCapture, or None if the content cannot be read as video.

    packets: deliver the compressed packets instead of images, which is quick.
    """
    backend = cv2.CAP_FFMPEG
    if backend not in cv2.videoio_registry.getStreamBackends():
        backend = cv2.CAP_ANY
    with quiet_opencv():
        capture = cv2.VideoCapture(os.fspath(path), backend, [cv2.CAP_PROP_FORMAT, -1] if packets else [])
    if capture.isOpened():
        return capture
    capture.release()
    return None


def packet_times_ms(path: str | os.PathLike[str], limit: int | None = None) -> list[float]:
    """Presentation times in milliseconds of the first `limit` packets, in the order of decoding."""
    capture = open_capture(path, packets=True)
    times: list[float] = []
    if capture is None:
        return times
    try:
        while (limit is None or len(times) < limit) and capture.grab():
            times.append(float(capture.get(cv2.CAP_PROP_POS_MSEC)))
    finally:
        capture.release()
    return times


class VideoSource(Source):
    """The frames of a video file: (H, W, 3) RGB uint8 at the decoder's presentation times.

    Times that lie on a constant rate are exactly k / fps, whatever clock the container rounds them to;
    others are the decoder's. A file without times gets k / fps of its container. `frame_count` is None:
    containers may claim more frames than decode; `frames_expected` is that claim within the selection.
    Warns (MediaWarning) if frames end well before the claimed duration. Raises InputError for what is
    missing, empty, no video, or has no frame in the selection.
    """

    kind = "video"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        selection: Selection = WHOLE_CLIP,
        transfer: Transfer | None = None,
    ) -> None:
        self.path = Path(path)
        _require_content(self.path)
        capture = open_capture(self.path)
        if capture is None:
            raise InputError(f"{path} is not a video that can be read; expected an MP4, AVI, MKV, ... file")
        try:
            container_fps = float(capture.get(cv2.CAP_PROP_FPS))
            claimed = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            decoded, image = capture.read()
        finally:
            capture.release()
        if not decoded or image is None:
            raise InputError(f"{path}: no frame decodes; the file is damaged or holds no video stream")
        self.container_fps = container_fps if 0 < container_fps < math.inf else 0.0
        self.claimed_frame_count = int(claimed) if 0 < claimed < 2**40 else None
        times = np.sort(np.array(packet_times_ms(self.path, _PROBED_PACKETS), np.float64) * 1e6)
        timing, fps = self._choose_timing(selection, times)
        expected, duration_s = self._expect(selection, times, fps)
        super().__init__(
            str(path),
            _as_rgb(image),
            selection=selection,
            transfer=transfer or "srgb",
            timing=timing,
            fps=fps * selection.slow_motion,
            frame_count=None,
            frames_expected=expected,
            duration_s=duration_s,
        )

    def __iter__(self) -> Iterator[Frame]:
        capture = open_capture(self.path)
        if capture is None:
            raise InputError(f"{self.name} can no longer be read as video")
        first = clock = previous = Fraction(0)
        index, chosen, last_ns, reached_stop, reached_ms = 0, 0, 0, False, 0.0
        try:
            while capture.grab():
                clock = self._time(index, capture)
                if index == 0:
                    first = clock
                elif clock <= previous:
                    raise not_increasing(
                        self.name, f"frame {index - 1}", f"frame {index}", round(previous), round(clock)
                    )
                if self.selection.is_after(round(clock)):
                    reached_stop = True
                    break
                if not self.selection.is_before(round(clock)):
                    last_ns = self._require_later(chosen, last_ns, index, clock)
                    yield Frame(self._image(capture, index), last_ns, False, index)
                    chosen += 1
                previous = clock
                reached_ms = float(capture.get(cv2.CAP_PROP_POS_MSEC))
                index += 1
        finally:
            capture.release()
        if chosen == 0:
            raise no_frame_selected(self.name, self.selection, round(first), round(clock))
        if not reached_stop:
            self._check_complete(index, reached_ms / 1e3)

    def _choose_timing(self, selection: Selection, times: NDArray[np.float64]) -> tuple[str, float]:
        """Decide how frames get their times: sets `_rate` or `_grid`; returns words and frames per second.

        times: sorted presentation times of the probed packets, nanoseconds.
        """
        self._rate: Fraction | None = None
        self._grid: Grid | None = None
        if selection.fps is not None:
            self._rate = rational_rate(selection.fps)
            return f"--fps {selection.fps:g}", selection.fps
        if len(times) > 1 and times[0] == times[-1]:
            if not self.container_fps:
                raise InputError(f"{self.path} gives neither frame times nor a frame rate; pass --fps")
            self._rate = rational_rate(self.container_fps)
            return f"{self.container_fps:g} frames/s of the container, which has no times", self.container_fps
        steps = np.diff(times)
        median_fps = 1e9 / float(np.median(steps)) if len(steps) else self.container_fps
        self._grid = find_grid(times.tolist(), self.container_fps)
        if self._grid is None:
            return "presentation times, irregular", median_fps
        rate = float(self._grid.rate)
        if np.max(steps) > 1.5e9 / rate:
            return f"presentation times at multiples of 1/{rate:g} s, with gaps", median_fps
        return f"presentation times at {rate:g} frames/s", rate

    def _expect(
        self, selection: Selection, times: NDArray[np.float64], fps: float
    ) -> tuple[int | None, float | None]:
        """Frames and seconds to expect within the selection: counted in a short file, else as claimed."""
        if 0 < len(times) < _PROBED_PACKETS:
            if self._rate is not None:
                times = np.arange(len(times), dtype=np.float64) * (1e9 / float(self._rate))
            chosen = [t for t in times.tolist() if selection.contains(round(t))]
            span = chosen[-1] - chosen[0] if chosen else 0.0
            return len(chosen), span / 1e9 / selection.slow_motion
        own_fps = self.container_fps if selection.fps is None else fps
        if self.claimed_frame_count is None or not own_fps:
            return None, None
        stop = self.claimed_frame_count / own_fps
        if selection.stop_s is not None:
            stop = min(stop, selection.stop_s)
        count = max(0, round((stop - max(0.0, selection.start_s or 0.0)) * own_fps))
        return count, max(0, count - 1) / own_fps / selection.slow_motion

    def _time(self, index: int, capture: Any) -> Fraction:
        if self._rate is not None:
            return frame_time_ns(index, self._rate)
        t_ns = float(capture.get(cv2.CAP_PROP_POS_MSEC)) * 1e6
        if not math.isfinite(t_ns):
            raise InputError(f"{self.name}: frame {index} has no presentation time; pass --fps")
        return self._grid.snap(t_ns) if self._grid is not None else Fraction(round(t_ns))

    def _require_later(self, chosen: int, last_ns: int, index: int, clock: Fraction) -> int:
        t_ns = self.selection.real_time_ns(clock)
        if chosen and t_ns <= last_ns:
            raise not_increasing(self.name, f"frame {index - 1}", f"frame {index}", last_ns, t_ns)
        return t_ns

    def _image(self, capture: Any, index: int) -> NDArray[Any]:
        decoded, image = capture.retrieve()
        if not decoded or image is None:
            raise InputError(f"{self.name}: frame {index} cannot be decoded; the file is damaged there")
        return self._fit(_as_rgb(image), f"frame {index}")

    def _check_complete(self, decoded: int, last_s: float) -> None:
        """Warn if the last decoded frame, on the container's clock, falls short of the claimed duration."""
        claimed, fps = self.claimed_frame_count, self.container_fps
        if claimed is None or decoded >= claimed or not fps:
            return
        reached_s, claimed_s = last_s + 1 / fps, claimed / fps
        # A frame or two of slack: containers round durations up and drop leading frames.
        if reached_s < claimed_s - 2.5 / fps:
            warnings.warn(
                f"{self.name}: the container claims {claimed} frames ({claimed_s:.3f} s), {decoded} decoded "
                f"({reached_s:.3f} s); the file may be cut off",
                MediaWarning,
                stacklevel=3,
            )


def _require_content(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected a video file")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if empty:
        raise InputError(f"{path} is empty, expected a video file")


def _as_rgb(image: NDArray[Any]) -> NDArray[Any]:
    if image.ndim == 3 and image.shape[2] == 1:
        return image[..., 0]
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image
