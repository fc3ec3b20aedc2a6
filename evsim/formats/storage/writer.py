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
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.files import EarlyFlush, atomic_output
from evsim.formats.storage.recording import without_labels
from evsim.formats.storage.units import EXACT_FLOAT_US

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

    def append_image(self, image: NDArray[np.uint8], t_us: float) -> None:
        """Add an image, uint8 (height, width) grey or (height, width, 3) RGB, at its time in microseconds.

        Events up to that time may come before or after. Raises InputError for another type, shape, or an
        earlier time than the image before, and where the format holds no images.
        """
        self._require_open()
        if not self.holds_images:
            raise InputError(f"{self.path}: this format has no place for images")
        if image.dtype != np.uint8 or image.shape not in (
            (self.height, self.width),
            (self.height, self.width, 3),
        ):
            raise InputError(
                f"{self.path}: image of {image.dtype} {image.shape}, expected uint8 "
                f"({self.height}, {self.width}) or that with 3 channels"
            )
        if not np.isfinite(t_us) or (self.image_times and t_us < self.image_times[-1]):
            raise InputError(
                f"{self.path}: image at {t_us} us after one at {self.image_times[-1:]}; append in order"
            )
        self._write_image(image, float(t_us))
        self.image_times.append(float(t_us))

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
