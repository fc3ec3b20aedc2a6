"""Frames to disk: image folders with their times, video files, NPY stacks; complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError, RunError
from evsim.files import atomic_output, require_absent
from evsim.media.image import require_image
from evsim.media.timing import format_seconds, frame_time_ns, not_increasing, rational_rate
from evsim.media.transfer import quantize
from evsim.media.video import open_capture, packet_times_ms, quiet_opencv
from evsim.media.warning import MediaWarning

ImageFormat = Literal["png", "npy"]

VIDEO_CODECS: dict[str, tuple[str, ...]] = {
    ".mp4": ("mp4v",),
    ".mov": ("mp4v",),
    ".avi": ("FFV1", "MJPG"),
    ".mkv": ("FFV1", "MJPG"),
    ".webm": ("VP90", "VP80"),
}
"""Four-letter codes that are tried for each suffix; FFV1 is lossless."""
_STACK_HEADER_BYTES = 128


class FrameWriter:
    """Takes frames one by one; got from `open_writer`.

    frames_written: so far. clipped: float values outside [0, 1] so far, which integer codes cannot hold.
    """

    def __init__(self, path: Path, name: str, fps: float | None, size: tuple[int, int] | None) -> None:
        self.path = path
        self.name = name
        self.frames_written = 0
        self.clipped = 0
        self._rate = None if fps is None else rational_rate(fps)
        self._size = size
        self._form: tuple[tuple[int, ...], np.dtype[Any]] | None = None
        self._last_ns = 0

    def write(self, image: NDArray[Any], t_ns: int | None = None) -> None:
        """Append an image (H, W) or (H, W, 3) RGB: uint8, uint16 codes or floats of full scale 1.0.

        t_ns: its time, nanoseconds; without it frame k is at k / fps. Raises InputError if the size or type
        changes, or times do not strictly increase.
        """
        image = require_image(np.asarray(image), f"frame {self.frames_written} for {self.name}")
        self._require_form(image)
        if t_ns is None:
            if self._rate is None:
                raise InputError(f"{self.name}: frame {self.frames_written} has no time; give t_ns or fps")
            t_ns = round(frame_time_ns(self.frames_written, self._rate))
        if self.frames_written and t_ns <= self._last_ns:
            k = self.frames_written
            raise not_increasing(self.name, f"frame {k - 1}", f"frame {k}", self._last_ns, t_ns)
        self._append(image, t_ns)
        self._last_ns = t_ns
        self.frames_written += 1

    def finish(self) -> None:
        """Complete the output; `open_writer` calls it. Raises InputError if no frame was written."""
        if self.frames_written == 0:
            raise InputError(f"{self.name}: no frame was written")
        self._complete()
        if self.clipped:
            warnings.warn(
                f"{self.name}: {self.clipped} values outside [0, 1] were clipped to the range of codes",
                MediaWarning,
                stacklevel=2,
            )

    def abandon(self) -> None:
        """Let go of what is open; the unfinished output is removed by `open_writer`."""

    def _append(self, image: NDArray[Any], t_ns: int) -> None:
        raise NotImplementedError

    def _complete(self) -> None:
        raise NotImplementedError

    def _codes(self, image: NDArray[Any], dtype: type[np.unsignedinteger]) -> NDArray[Any]:
        if image.dtype.kind != "f":
            return image
        codes, clipped = quantize(image, dtype)
        self.clipped += clipped
        return codes

    def _require_form(self, image: NDArray[Any]) -> None:
        size = (image.shape[1], image.shape[0])
        if self._size is not None and size != self._size:
            raise InputError(
                f"{self.name}: frame {self.frames_written} is {size[0]}x{size[1]} pixels, "
                f"expected {self._size[0]}x{self._size[1]}"
            )
        self._form = self._form or (image.shape, image.dtype)
        if (image.shape, image.dtype) != self._form:
            raise InputError(
                f"{self.name}: frame {self.frames_written} is {image.dtype} of shape {image.shape}, "
                f"the frames before it {self._form[1]} of shape {self._form[0]}"
            )


class FolderWriter(FrameWriter):
    """00000000.png, 00000001.png, ... (or .npy) and timestamps.txt: seconds with nine decimals.

    PNG keeps uint8 and uint16 exactly and rounds floats to 16 bit; npy keeps every type.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        fps: float | None,
        size: tuple[int, int] | None,
        image_format: ImageFormat,
    ) -> None:
        super().__init__(path, name, fps, size)
        self._image_format = image_format
        path.mkdir()
        self._times = (path / "timestamps.txt").open("w", encoding="ascii")

    def _append(self, image: NDArray[Any], t_ns: int) -> None:
        file = self.path / f"{self.frames_written:08d}.{self._image_format}"
        if self._image_format == "npy":
            np.save(file, image)
        else:
            codes = self._codes(image, np.uint16)
            order = codes if codes.ndim == 2 else cv2.cvtColor(codes, cv2.COLOR_RGB2BGR)
            # Encoded in memory and written plainly: OpenCV's own writing hides why it failed.
            encoded, content = cv2.imencode(".png", order)
            if not encoded:
                raise RunError(f"{self.name}: frame {self.frames_written} could not be encoded as PNG")
            file.write_bytes(content.tobytes())
        self._times.write(format_seconds(t_ns) + "\n")

    def _complete(self) -> None:
        self._times.close()

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self._times.close()


class StackWriter(FrameWriter):
    """One NPY array (T, H, W) or (T, H, W, 3) of the frames' own type, and `<stem>.timestamps.txt`."""

    def __init__(
        self, path: Path, name: str, fps: float | None, size: tuple[int, int] | None, times_path: Path
    ) -> None:
        super().__init__(path, name, fps, size)
        self._stack = path.open("wb")
        self._stack.write(bytes(_STACK_HEADER_BYTES))
        self._times = times_path.open("w", encoding="ascii")

    def _append(self, image: NDArray[Any], t_ns: int) -> None:
        self._stack.write(np.ascontiguousarray(image).data)
        self._times.write(format_seconds(t_ns) + "\n")

    def _complete(self) -> None:
        self._times.close()
        self._stack.seek(0)
        self._stack.write(self._header())
        self._stack.close()

    def _header(self) -> bytes:
        if self._form is None:
            raise InputError(f"{self.name}: no frame was written")
        shape, dtype = self._form
        entry = {"descr": dtype.str, "fortran_order": False, "shape": (self.frames_written, *shape)}
        # The length is fixed, so that the header can be written after the frames that it counts.
        start = np.lib.format.magic(1, 0) + (_STACK_HEADER_BYTES - 10).to_bytes(2, "little")
        return start + repr(entry).ljust(_STACK_HEADER_BYTES - 11).encode("ascii") + b"\n"

    def abandon(self) -> None:
        for file in (self._stack, self._times):
            with contextlib.suppress(OSError):
                file.close()


class VideoWriter(FrameWriter):
    """A video file of 8-bit frames at a constant rate; verified by re-opening.

    Warns (MediaWarning) if frame times are not k / fps after the first: the file cannot hold them.
    """

    def __init__(
        self, path: Path, name: str, fps: float, size: tuple[int, int] | None, codec: str | None
    ) -> None:
        super().__init__(path, name, fps, size)
        self._fps = fps
        suffix = path.suffix.lower()
        if codec is not None and len(codec) != 4:
            raise InputError(
                f"codec = {codec!r}, expected a code of four letters such as {VIDEO_CODECS[suffix][0]}"
            )
        self._codecs = (codec,) if codec else VIDEO_CODECS[suffix]
        self._encoder: Any = None
        self._first_ns = 0
        self._moved = 0

    def _append(self, image: NDArray[Any], t_ns: int) -> None:
        if image.dtype == np.uint16:
            raise InputError(
                f"{self.name}: a video holds 8-bit frames, got uint16; write a folder or .npy instead"
            )
        if self._encoder is None:
            self._encoder = self._open((image.shape[1], image.shape[0]))
            self._first_ns = t_ns
        due = self._first_ns + frame_time_ns(self.frames_written, self._rate or Fraction(1))
        self._moved += abs(t_ns - due) > 1000
        codes = self._codes(image, np.uint8)
        code = cv2.COLOR_GRAY2BGR if codes.ndim == 2 else cv2.COLOR_RGB2BGR
        with quiet_opencv():
            self._encoder.write(cv2.cvtColor(codes, code))
        self._require_space()

    def _open(self, size: tuple[int, int]) -> Any:
        if size[0] % 2 or size[1] % 2:
            even = f"{size[0] // 2 * 2}x{size[1] // 2 * 2}"
            raise InputError(
                f"{self.name}: video needs an even width and height, got {size[0]}x{size[1]}; "
                f"pass --size {even} or write a folder"
            )
        for code in self._codecs:
            with quiet_opencv(), _no_stderr():
                encoder = cv2.VideoWriter(
                    str(self.path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), self._fps, size
                )
            if encoder.isOpened():
                return encoder
            encoder.release()
        self._raise_if_full()
        raise InputError(
            f"{self.name}: this OpenCV cannot encode {' or '.join(self._codecs)} at {size[0]}x{size[1]}, "
            f"{self._fps:g} frames/s; choose another suffix ({', '.join(VIDEO_CODECS)}) or write a folder"
        )

    def _complete(self) -> None:
        with quiet_opencv():
            self._encoder.release()
        found = self._frames_in_file()
        if found != self.frames_written:
            self._raise_if_full()
            raise RunError(
                f"{self.name}: {self.frames_written} frames were written, {found} can be read back"
            )
        if self._moved:
            warnings.warn(
                f"{self.name}: {self._moved} of {self.frames_written} frames are not at k / {self._fps:g} s, "
                f"and a video keeps only its rate; write a folder to keep the times",
                MediaWarning,
                stacklevel=3,
            )

    def _frames_in_file(self) -> int:
        packets = len(packet_times_ms(self.path)) if self.path.is_file() else 0
        if packets == self.frames_written:
            return packets
        # Some codecs add packets that show nothing: decoding decides.
        capture = open_capture(self.path)
        count = 0
        while capture is not None and capture.grab():
            count += 1
        if capture is not None:
            capture.release()
        return count

    def _raise_if_full(self) -> None:
        """OSError if the disk refuses more bytes: the encoder does not say so."""
        with self.path.open("ab") as file:
            file.write(bytes(1 << 16))
            file.flush()
            os.fsync(file.fileno())

    def _require_space(self) -> None:
        """OSError as soon as the system reports a full disk, rather than after the last frame."""
        if hasattr(os, "statvfs") and os.statvfs(self.path.parent).f_bavail == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def abandon(self) -> None:
        if self._encoder is not None:
            with quiet_opencv():
                self._encoder.release()


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Nothing reaches stderr: OpenCV prints a complaint about every WebM, whatever its log level."""
    try:
        kept = os.dup(2)
    except OSError:  # closed already
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def open_writer(
    path: str | os.PathLike[str],
    *,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    overwrite: bool = False,
    codec: str | None = None,
    image_format: ImageFormat = "png",
) -> Iterator[FrameWriter]:
    """A writer for what the suffix of `path` says: none: a folder; .npy: a stack; .mp4, .avi, ...: a video.

    The output appears under its name when the block ends, complete, and not at all if it raises. fps: frames
    per second, required for video, else used where `write` gets no time. size: (width, height) that frames
    must have. codec: four letters, for video. image_format: of the files in a folder. Raises InputError for
    a suffix or option that fits none, RunError when the disk is full or frames were lost.
    """
    final = Path(path)
    suffix = final.suffix.lower()
    if fps is not None and not 0 < fps < math.inf:
        raise InputError(f"fps = {fps}, expected a positive number")
    if image_format not in ("png", "npy"):
        raise InputError(f"image_format = {image_format!r}, expected 'png' or 'npy'")
    if suffix not in ("", ".npy", *VIDEO_CODECS):
        known = ", ".join((".npy", *VIDEO_CODECS))
        raise InputError(
            f"{final}: cannot write frames as {suffix}; expected no suffix (a folder) or {known}"
        )
    if codec is not None and suffix not in VIDEO_CODECS:
        raise InputError(f"{final}: codec = {codec!r} is for video, not for {suffix or 'a folder'}")
    if suffix in VIDEO_CODECS and fps is None:
        raise InputError(f"{final}: a video needs a frame rate; pass --fps")
    with contextlib.ExitStack() as outputs:
        writer: FrameWriter
        if suffix == "":
            temporary = outputs.enter_context(atomic_output(final, overwrite=overwrite))
            writer = FolderWriter(temporary, str(path), fps, size, image_format)
        elif suffix == ".npy":
            require_absent(final, overwrite=overwrite)
            # The times are renamed first: the stack never stands without them.
            temporary = outputs.enter_context(atomic_output(final, overwrite=overwrite))
            sidecar = final.with_name(f"{final.stem}.timestamps.txt")
            times_path = outputs.enter_context(atomic_output(sidecar, overwrite=overwrite))
            writer = StackWriter(temporary, str(path), fps, size, times_path)
        else:
            temporary = outputs.enter_context(atomic_output(final, overwrite=overwrite))
            writer = VideoWriter(temporary, str(path), fps or 1.0, size, codec)
        try:
            yield writer
            writer.finish()
        except BaseException:
            writer.abandon()
            raise
