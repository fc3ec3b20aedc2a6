"""`Events`: the columnar event stream that every part of evsim exchanges.

Times are int64 microseconds relative to ``t_origin``; pixel (0, 0) is the top left corner; polarity is
1 for ON and 0 for OFF. Signed polarity exists only inside representations.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError

SIGNAL, SHOT_NOISE, LEAK = 0, 1, 2
LABEL_NAMES = {SIGNAL: "signal", SHOT_NOISE: "shot noise", LEAK: "leak"}

COLORS = "RGB"
COLOR_PATTERNS = ("RGGB",)
"""Known colour filter arrays: the filters of a 2 x 2 cell, row by row, beginning at pixel (0, 0)."""

STRUCTURED_DTYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)])
"""tonic's event dtype."""


@dataclass(frozen=True, eq=False, slots=True)
class Events:
    """A stream of events of one sensor, as columns of equal length N.

    t: int64[N] microseconds, non-decreasing; absolute time is ``t + t_origin``.
    x, y: uint16[N] column and row (float32 where a source is sub-pixel).
    p: uint8[N], 1 ON, 0 OFF.
    width, height: sensor size in pixels.
    t_origin: microseconds that nothing adds silently.
    label: uint8[N] or None: 0 signal, 1 shot noise, 2 leak.
    color_pattern: "RGGB" where the pixels lie under a Bayer filter array that begins at pixel (0, 0).

    Construction checks nothing, so that slicing stays free: call `validate` where data enters.
    """

    t: NDArray[np.int64]
    x: NDArray[np.uint16] | NDArray[np.float32]
    y: NDArray[np.uint16] | NDArray[np.float32]
    p: NDArray[np.uint8]
    width: int
    height: int
    t_origin: int = 0
    label: NDArray[np.uint8] | None = None
    color_pattern: str | None = None

    @classmethod
    def empty(cls, width: int, height: int, *, t_origin: int = 0, labels: bool = False) -> Events:
        """No events on a sensor of width x height pixels."""
        return cls(
            np.empty(0, np.int64),
            np.empty(0, np.uint16),
            np.empty(0, np.uint16),
            np.empty(0, np.uint8),
            width,
            height,
            t_origin,
            np.empty(0, np.uint8) if labels else None,
        )

    @classmethod
    def concatenate(cls, parts: Iterable[Events]) -> Events:
        """One stream from consecutive parts of the same sensor; labels are kept if every part has them.

        Raises InputError without parts, and for parts of different size, origin or overlapping times.
        """
        found = list(parts)
        if not found:
            raise InputError("no events to concatenate: at least one part is needed to know the sensor size")
        first = found[0]
        for part in found[1:]:
            if (part.width, part.height, part.t_origin) != (first.width, first.height, first.t_origin):
                raise InputError(
                    f"parts differ: {part.width}x{part.height} with origin {part.t_origin}, expected "
                    f"{first.width}x{first.height} with origin {first.t_origin}"
                )
        full = [part for part in found if len(part)] or [first]
        for before, after in itertools.pairwise(full):
            if after.color_pattern != before.color_pattern:
                raise InputError(
                    f"parts differ: colour pattern {after.color_pattern}, expected {before.color_pattern}"
                )
            if after.t[0] < before.t[-1]:
                raise InputError(
                    f"parts overlap: one ends at {before.t[-1]} us and the next begins at {after.t[0]} us; "
                    "pass them in order of time"
                )
        labels = [part.label for part in full]
        return cls(
            np.concatenate([part.t for part in full]),
            np.concatenate([part.x for part in full]),
            np.concatenate([part.y for part in full]),
            np.concatenate([part.p for part in full]),
            first.width,
            first.height,
            first.t_origin,
            None
            if any(label is None for label in labels)
            else np.concatenate([x for x in labels if x is not None]),
            full[0].color_pattern,
        )

    @classmethod
    def from_structured(
        cls, array: NDArray[np.void], *, width: int, height: int, t_origin: int = 0
    ) -> Events:
        """Events from a structured array with fields x, y, t, p (any order, any integer type, p bool or +-1).

        Raises InputError when a field is missing, or when what it holds is not valid (see `validate`).
        """
        missing = [name for name in "xytp" if name not in (array.dtype.names or ())]
        if missing:
            raise InputError(f"structured events have fields {array.dtype.names}, missing {missing}")
        for name, limit in (("x", width), ("y", height)):
            if len(array) and (array[name].min() < 0 or array[name].max() >= limit):
                raise InputError(
                    f"{name} spans {array[name].min()}..{array[name].max()}, expected 0..{limit - 1}"
                )
        events = cls(
            np.ascontiguousarray(array["t"], np.int64),
            np.ascontiguousarray(array["x"], np.uint16),
            np.ascontiguousarray(array["y"], np.uint16),
            (array["p"] > 0).astype(np.uint8),
            width,
            height,
            t_origin,
        )
        return events.validate()

    def to_structured(self) -> NDArray[np.void]:
        """Structured array with tonic's dtype: x, y int16, t int64, p bool; shape (N,).

        Raises InputError for sub-pixel coordinates and for sensors wider than int16 can hold.
        """
        if self.x.dtype.kind == "f" or max(self.width, self.height) > np.iinfo(np.int16).max + 1:
            raise InputError(
                f"x is {self.x.dtype} on a {self.width}x{self.height} sensor; "
                "the structured form holds int16 pixels"
            )
        array = np.empty(len(self), STRUCTURED_DTYPE)
        for name in "xytp":
            array[name] = getattr(self, name)
        return array

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, key: slice | NDArray[np.bool_]) -> Events:
        """Events of a slice (views, no copy) or of a boolean mask."""
        if isinstance(key, (int, np.integer)):
            raise TypeError("an Events index must be a slice or a mask; a single event is events[i:i + 1]")
        return replace(
            self,
            t=self.t[key],
            x=self.x[key],
            y=self.y[key],
            p=self.p[key],
            label=None if self.label is None else self.label[key],
        )

    def between(self, t0: int, t1: int) -> Events:
        """Events with t0 <= t < t1 (microseconds of column `t`), as views."""
        first, last = np.searchsorted(self.t, [t0, t1])
        return self[first:last]

    def colors(self) -> NDArray[np.uint8]:
        """uint8[N]: the colour that each event saw, 0 red, 1 green, 2 blue (so 0 <= color < 3).

        Raises InputError for events without a colour pattern, or of sub-pixel coordinates.
        """
        if self.color_pattern not in COLOR_PATTERNS:
            raise InputError(
                f"the colour pattern is {self.color_pattern}, expected {' or '.join(COLOR_PATTERNS)}: only a "
                "sensor under a colour filter array sees colours (isp.grey=bayer simulates one)"
            )
        if self.x.dtype.kind == "f" or self.y.dtype.kind == "f":
            raise InputError("the events have sub-pixel coordinates, which no single filter lies over")
        cell = np.array([COLORS.index(name) for name in self.color_pattern], np.uint8)
        return cell[(self.y % 2) * 2 + self.x % 2]

    def validate(self) -> Events:
        """Return self after checking lengths, dtypes, order, ranges and polarity once, vectorised.

        Raises InputError naming the column, the first offending row and the count.
        """
        _check_columns(self)
        if len(self):
            _check_values(self)
        return self

    @property
    def duration_us(self) -> int:
        """Microseconds from the first to the last event, 0 for fewer than two."""
        return int(self.t[-1] - self.t[0]) if len(self) else 0

    def __repr__(self) -> str:
        span = f", t {self.t[0]}..{self.t[-1]} us" if len(self) else ""
        return f"Events({len(self)} on {self.width}x{self.height}{span})"


def _check_columns(events: Events) -> None:
    n = len(events.t)
    wanted = {"t": ("int64",), "x": ("uint16", "float32"), "y": ("uint16", "float32"), "p": ("uint8",)}
    if events.label is not None:
        wanted["label"] = ("uint8",)
    for name, dtypes in wanted.items():
        column = getattr(events, name)
        if column.dtype.name not in dtypes:
            raise InputError(f"column {name} is {column.dtype}, expected {' or '.join(dtypes)}")
        if column.shape != (n,):
            raise InputError(f"column {name} has shape {column.shape}, expected ({n},) as t has")
    if events.width < 1 or events.height < 1:
        raise InputError(f"sensor size is {events.width}x{events.height}, expected at least 1x1")


def _check_values(events: Events) -> None:
    backwards = events.t[1:] < events.t[:-1]
    if backwards.any():
        row = int(np.argmax(backwards)) + 1
        raise InputError(
            f"times are not sorted: event {row} is at {events.t[row]} us after {events.t[row - 1]} us "
            f"({int(backwards.sum())} such steps); sort the events by time first"
        )
    for name, limit in (("x", events.width), ("y", events.height)):
        column = getattr(events, name)
        if column.dtype.kind == "u" and column.max() < limit:
            continue
        # Negated so that NaN counts as outside; a sub-pixel position reaches up to the last pixel's border.
        outside = ~((column >= 0) & (column < limit))
        if outside.any():
            row = int(np.argmax(outside))
            raise InputError(
                f"{int(outside.sum())} of {len(events)} events lie outside the sensor of {events.width}x"
                f"{events.height}: event {row} has {name} = {column[row]}; give the right size or crop"
            )
    if events.p.max() > 1:
        raise InputError(f"polarity reaches {events.p.max()}, expected 0 (OFF) and 1 (ON)")
    if events.label is not None and events.label.max() > LEAK:
        raise InputError(f"label reaches {events.label.max()}, expected one of {LABEL_NAMES}")
