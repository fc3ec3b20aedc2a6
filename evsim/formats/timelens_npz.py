"""Time Lens folders: one .npz of x, y, t, p for each gap between frames, and the frames with their times."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.formats.catalogue import Format, register
from evsim.formats.npz import write_archive
from evsim.formats.storage.event_buffer import EventBuffer
from evsim.formats.storage.npz_folder import Arrays, NpzFolderRecording, first_holds, write_image
from evsim.formats.storage.units import to_pixels
from evsim.formats.storage.writer import EventWriter

DEFAULT_GAP_US = 33_333
NAMES = ("t", "x", "y", "p")


def sniff(path: Path, head: bytes) -> bool:
    """True for a folder whose first .npz holds t, x, y and p."""
    return first_holds(path, NAMES)


class TimeLensRecording(NpzFolderRecording):
    """A folder of one .npz a gap, of Time Lens or Sim2Real; see `NpzFolderRecording`.

    Images count where a timestamp.txt gives their times, in the events' unit.
    """

    names: ClassVar[tuple[str, str, str, str]] = NAMES

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, unit: str | None = None) -> None:
        super().__init__(path, "timelens_npz", size=size, unit=unit)

    def _pixels(self, arrays: Arrays, place: str) -> tuple[NDArray[Any], NDArray[Any]]:
        x, y = to_pixels(arrays["x"], self.path, place), to_pixels(arrays["y"], self.path, place)
        return (x, y) if x.dtype == y.dtype else (x.astype(np.float32), y.astype(np.float32))


class TimeLensWriter(EventWriter):
    """Writes events/%06d.npz and images/%06d.png with images/timestamp.txt; see `EventWriter`.

    As Time Lens counts, file n holds the events after image n - 1 and up to image n; so file 0 comes before
    the first image, and one more file follows the last image if events do. pairing "sim2real" instead
    begins with the events between images 0 and 1, pairs by position, and leaves out, with a count, what lies
    outside the images. Without images a file holds gap_us microseconds. signed: polarity -1/1 instead of 0/1.
    """

    holds_images = True
    holds_subpixel = True
    largest_time = 2**63 - 1

    def __init__(
        self,
        path: str | os.PathLike[str],
        width: int,
        height: int,
        *,
        t_origin: int = 0,
        labels: bool = False,
        seed: int | None = None,
        config: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        pairing: str = "timelens",
        signed: bool = False,
        gap_us: int = DEFAULT_GAP_US,
    ) -> None:
        super().__init__(
            path,
            width,
            height,
            t_origin=t_origin,
            labels=labels,
            seed=seed,
            config=config,
            overwrite=overwrite,
        )
        if pairing not in ("timelens", "sim2real"):
            raise InputError(f"{self.path}: pairing {pairing!r}, expected timelens or sim2real")
        if gap_us < 1:
            raise InputError(f"{self.path}: gap_us {gap_us}, expected at least 1")
        self._pairing, self._signed, self._gap_us = pairing, signed, gap_us

    def _open(self, temporary: Path) -> None:
        (temporary / "events").mkdir(parents=True)
        self._folder = temporary
        self._spool = EventBuffer(temporary)

    def _write(self, events: Events) -> None:
        self._spool.append(events)

    def _write_image(self, image: NDArray[np.uint8], t_us: float) -> None:
        folder = self._folder / "images"
        folder.mkdir(exist_ok=True)
        write_image(folder / f"{len(self.image_times):06d}.png", image)

    def _finish(self) -> None:
        if self.image_times:
            lines = "".join(f"{t:.0f}\n" if t == int(t) else f"{t!r}\n" for t in self.image_times)
            (self._folder / "images" / "timestamp.txt").write_text(lines, encoding="ascii")
        for number, (start, stop) in enumerate(self._gaps()):
            rows: dict[str, Any] = dict(self._spool.rows(start, stop))
            if self._signed:
                rows["p"] = (2 * rows["p"].astype(np.int8) - 1).astype(np.int8)
            told = {"width": self.width, "height": self.height, "t_origin": self.t_origin, "time_unit": "us"}
            write_archive(self._folder / "events" / f"{number:06d}.npz", {**rows, **told})
        self._spool.close()

    def _gaps(self) -> list[tuple[int, int]]:
        """[start, end) of the events of each file."""
        total = len(self._spool)
        if self.image_times:
            ends = [self._spool.search(t, after=True) for t in self.image_times]
            if self._pairing == "sim2real":
                self.remarks["events before the first or after the last image were left out"] = (
                    total - ends[-1] + ends[0]
                )
                return list(itertools.pairwise(ends))
            cuts = [0, *ends, *([total] if ends[-1] < total else [])]
        else:
            first, last = self.t_first or 0, self.t_last or 0
            borders = range(first + self._gap_us, last + 1, self._gap_us)
            if len(borders) > 1_000_000:
                raise InputError(
                    f"{self.path}: {len(borders)} files of {self._gap_us} us would be needed; "
                    "give a longer gap_us"
                )
            cuts = [0, *(self._spool.search(border) for border in borders), total]
        return list(itertools.pairwise(cuts))

    def _abandon(self) -> None:
        if hasattr(self, "_spool"):
            self._spool.close()


register(
    Format(
        name="timelens_npz",
        summary="Time Lens folder: one .npz of x, y, t, p a gap between frames, and the frames",
        suffixes=(".timelens",),
        sniff=sniff,
        open=TimeLensRecording,
        create=TimeLensWriter,
        images=True,
        subpixel=True,
        origin=True,
        options=("pairing", "signed", "gap_us"),
    )
)
