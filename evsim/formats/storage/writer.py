"""`EventWriter`: an events file being written, whatever its format; complete under its name, or not there."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.files import EarlyFlush, atomic_output
from evsim.formats.storage.recording import without_labels
from evsim.formats.storage.units import EXACT_FLOAT_US
from evsim.registry import nearest
from evsim.timed_image import ImageKind, TimedImage

FLUSH = 1 << 18
"""Events gathered before they are handed on: a simulator's intervals are often a few hundred events."""
EVENT_BYTES = 13
"""Of an event in most formats: tells when enough was written to send it to the disk."""

W = TypeVar("W", bound="EventWriter")


class EventWriter(ABC):
    """Writes events in order of time, and images where the format holds them; a context manager.

    width, height: sensor size in pixels. t_origin: as in `Events`. labels: write the events' labels, which
    they then must carry; False leaves them out. seed, config: what determined the content, stored where the
    format has a place for it. The file appears when the `with` block ends without an exception; otherwise
    nothing is left; then `remarks` counts what the format could not hold as it was. Raises InputError for an
    existing output without `overwrite`, RunError on a full disk.
    """

    holds_images = False
    holds_timed_images = False
    holds_labels = False
    holds_subpixel = False
    largest_side = 65536
    largest_time = EXACT_FLOAT_US
    signed_time = True

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
    ) -> None:
        self.path = Path(path)
        self.width, self.height = width, height
        self.t_origin = t_origin
        self.labels = labels
        self.seed = seed
        self.config_json = None if config is None else json.dumps(config, sort_keys=True)
        self.event_count = self.on_count = 0
        self.t_first: int | None = None
        self.t_last: int | None = None
        self.image_times: list[float] = []
        self._image_sizes: dict[ImageKind, tuple[int, int]] = {}
        self.remarks: dict[str, int] = {}
        self._overwrite = overwrite
        self._pending: list[Events] = []
        self._pending_count = 0
        self._stack: contextlib.ExitStack | None = None
        if labels and not self.holds_labels:
            raise InputError(f"{self.path}: this format has no place for labels; write without them")
        if not (1 <= width <= self.largest_side and 1 <= height <= self.largest_side):
            raise InputError(
                f"{self.path}: sensor of {width}x{height}, expected 1 to {self.largest_side} a side"
            )

    @abstractmethod
    def _open(self, temporary: Path) -> None:
        """Start the file or folder at `temporary`."""

    @abstractmethod
    def _write(self, events: Events) -> None:
        """Add checked events."""

    @abstractmethod
    def _finish(self) -> None:
        """Complete and close; an error here leaves no file."""

    @abstractmethod
    def _abandon(self) -> None:
        """Close what is still open, without raising; called at the end in any case."""

    def _write_image(self, image: NDArray[np.uint8], t_us: float) -> None:
        raise NotImplementedError

    def _write_timed_image(self, image: TimedImage) -> None:
        """For formats that hold timed images; the others have frames and write them by `_write_image`."""
        self._write_image(image.image, image.t_us)

    def append(self, events: Events, *, checked: bool = False) -> None:
        """Add events that do not begin before the last one written.

        checked: they were validated, as those that a `Recording` gives; they are not validated again.
        Raises InputError for another sensor size or origin, sub-pixel coordinates that the format cannot
        hold, missing labels, and invalid events.
        """
        self._require_open()
        if (events.width, events.height, events.t_origin) != (self.width, self.height, self.t_origin):
            raise InputError(
                f"{self.path}: events of {events.width}x{events.height} with origin {events.t_origin}, "
                f"expected {self.width}x{self.height} with origin {self.t_origin}"
            )
        if not len(events):
            return
        if "f" in (events.x.dtype.kind, events.y.dtype.kind) and not self.holds_subpixel:
            raise InputError(
                f"{self.path}: the events have sub-pixel coordinates and this format holds whole pixels; "
                "pass round_coordinates=True (--round) to round them"
            )
        if self.labels and events.label is None:
            raise InputError(f"{self.path}: labels were announced, but these events carry none")
        self._require_later(events if checked else events.validate())
        self.event_count += len(events)
        self.on_count += int(np.count_nonzero(events.p))
        self.t_first = int(events.t[0]) if self.t_first is None else self.t_first
        self.t_last = int(events.t[-1])
        self._pending.append(events if self.labels else without_labels(events))
        self._pending_count += len(events)
        if self._pending_count >= FLUSH:
            self._flush_pending()

    def append_image(
        self, image: NDArray[np.uint8], t_us: float, *, exposure_us: float = 0.0, kind: ImageKind = "frame"
    ) -> None:
        """Add an image, uint8 (H, W) grey or (H, W, 3) RGB, with the end of its exposure in microseconds.

        exposure_us: the exposure's length, 0 where it is not known or none. Where the format holds timed
        images, all of one kind have one size, the sensor's or another; else every image is a frame of the
        sensor's size without exposure. Events up to t_us may come before or after. Raises InputError for
        another type, shape, kind or exposure, or an earlier time than the image before, and where the format
        holds no images.
        """
        self._require_open()
        if not self.holds_images:
            raise InputError(f"{self.path}: this format has no place for images")
        self._require_size(image, kind)
        self._require_exposure(exposure_us, kind)
        if not np.isfinite(t_us) or (self.image_times and t_us < self.image_times[-1]):
            raise InputError(
                f"{self.path}: image at {t_us} us after one at {self.image_times[-1:]}; append in order"
            )
        self._write_timed_image(TimedImage(image, float(t_us), float(exposure_us), kind))
        self.image_times.append(float(t_us))
        self._image_sizes[kind] = (image.shape[0], image.shape[1])

    def takes_size(self, size: tuple[int, ...], kind: ImageKind) -> bool:
        """True if an image of this size, (height, width), can be appended."""
        sensor = (self.height, self.width)
        if not self.holds_timed_images:
            return size == sensor
        # Width and height of the sensor in the wrong order are a mistake, not a camera of another size.
        return size == self._image_sizes.get(kind, size) and not (size == sensor[::-1] != sensor)

    def _require_size(self, image: NDArray[np.uint8], kind: ImageKind) -> None:
        usual = image.dtype == np.uint8 and image.ndim in (2, 3) and image.shape[2:] in ((), (3,))
        size = image.shape[:2]
        if usual and image.size and self.takes_size(size, kind):
            return
        if usual and image.size and size != (self.width, self.height):
            if self.holds_timed_images:
                raise InputError(
                    f"{self.path}: a {kind} image of {size[1]}x{size[0]} pixels, expected the size of the "
                    f"{kind} images before, {self._image_sizes[kind]} (height, width)"
                )
            raise InputError(
                f"{self.path}: image of {size[1]}x{size[0]} on a sensor of {self.width}x{self.height}: "
                f"{type(self).__name__} writes images of the sensor's size; resize them, or write native "
                ".h5, which holds other sizes"
            )
        height, width = self._image_sizes.get(kind, (self.height, self.width))
        raise InputError(
            f"{self.path}: image of {image.dtype} {image.shape}, expected uint8 ({height}, {width}) or that "
            "with 3 channels"
        )

    def _require_exposure(self, exposure_us: float, kind: ImageKind) -> None:
        kinds = list(get_args(ImageKind))
        if kind not in kinds:
            raise InputError(
                f"{self.path}: image of kind {kind!r}{nearest(kind, kinds)}, expected one of "
                f"{', '.join(kinds)}"
            )
        if not 0 <= exposure_us < np.inf:
            raise InputError(f"{self.path}: exposure of {exposure_us} us, expected 0 or more")
        if not self.holds_timed_images and (exposure_us or kind != "frame"):
            raise InputError(
                f"{self.path}: a {kind} image with an exposure of {exposure_us:g} us: {type(self).__name__} "
                "has no place for exposures and kinds; leave them out, or write native .h5"
            )

    def require_same_kind(self, image: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
        """Raise InputError for an image of another shape than the ones before it."""
        if image.shape != tuple(shape):
            raise InputError(
                f"{self.path}: an image of {image.shape} after images of {tuple(shape)}; this format holds "
                "one kind, all grey or all colour"
            )

    def __enter__(self: W) -> W:
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(atomic_output(self.path, overwrite=self._overwrite))
            self._early = EarlyFlush(temporary)
            stack.callback(self._abandon)
            stack.callback(self._early.give_up)
            self._open(temporary)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._stack = self._stack, None
        if stack is None:
            return
        if kind is None:
            try:
                self._flush_pending(final=True)
                self._finish()
                self._early.finish()
            except BaseException:
                # The stack removes the temporary; it raises its own error when the disk was full.
                stack.__exit__(*sys.exc_info())
                raise
        self._pending = []
        stack.__exit__(kind, error, trace)

    def _flush_pending(self, *, final: bool = False) -> None:
        """Hand on whole blocks of FLUSH events: the file must not depend on how they were appended."""
        if not self._pending:
            return
        block = self._pending[0] if len(self._pending) == 1 else Events.concatenate(self._pending)
        stop = len(block) if final else len(block) - len(block) % FLUSH
        for start in range(0, stop, FLUSH):
            self._write(block[start : min(start + FLUSH, stop)])
        self._early.grew(EVENT_BYTES * stop)
        self._pending = [block[stop:]] if stop < len(block) else []
        self._pending_count = len(block) - stop

    def _require_open(self) -> None:
        if self._stack is None:
            raise ValueError(f"{self.path}: write inside the writer's `with` block")

    def _require_later(self, events: Events) -> None:
        if self.t_last is not None and events.t[0] < self.t_last:
            raise InputError(
                f"{self.path}: events begin at {events.t[0]} us, before the last one written at "
                f"{self.t_last} us"
            )
        if not self.signed_time and events.t[0] < 0:
            raise InputError(
                f"{self.path}: times begin at {events.t[0]} us, and this format holds none below 0; "
                "add an origin first (t_origin keeps it)"
            )
        if max(abs(int(events.t[0])), abs(int(events.t[-1]))) >= self.largest_time:
            raise InputError(
                f"{self.path}: times reach {events.t[-1]} us, and this format is exact below "
                f"{self.largest_time} us; subtract an origin first (t_origin keeps it)"
            )
