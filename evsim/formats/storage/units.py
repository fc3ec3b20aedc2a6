"""Columns of foreign files made evsim's: microseconds, pixels, polarity; nothing guessed or wrapped."""

from __future__ import annotations

import os
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError

TimeUnit = Literal["s", "ms", "us", "ns"]
PER_MICROSECOND = {"s": 1e-6, "ms": 1e-3, "us": 1.0, "ns": 1e3}
"""How many of each unit make one microsecond."""

EXACT_FLOAT_US = 2**53
"""Below this a float64 holds every whole microsecond."""
EXACT_SECONDS_US = 2**51
"""Below this a time printed in seconds and read as float64 still rounds to the same microsecond."""
SAMPLE = 1000
EPOCH_US = 1_200_000_000_000_000
"""Times from here on (January 2008) are taken as Unix time: their whole seconds go to t_origin."""

_WIDEST = {"u": np.uint64, "i": np.int64, "b": np.int64, "f": np.float64}


def check_unit(unit: str | None) -> TimeUnit | None:
    """`unit` if it is one that evsim knows, or None. Raises InputError naming the four."""
    if unit is not None and unit not in get_args(TimeUnit):
        raise InputError(f"unit {unit!r} is unknown; expected one of {', '.join(get_args(TimeUnit))}")
    return unit  # type: ignore[return-value]


def decide_unit(path: str | os.PathLike[str], sample: NDArray[Any], unit: str | None) -> TimeUnit:
    """The unit of a time column: `unit` if given, microseconds if every value of `sample` is whole.

    Raises InputError naming --unit for fractional times, whose unit nothing in the file tells.
    """
    given = check_unit(unit)
    if given is not None:
        return given
    if sample.dtype.kind in "iub" or bool(np.all(np.isfinite(sample)) and np.all(sample == np.rint(sample))):
        return "us"
    raise InputError(
        f"{os.fspath(path)}: the times are fractional ({sample[:2].tolist()} ...) and the file does not say "
        "their unit; pass unit= (--unit s, ms, us or ns)"
    )


def to_microseconds(
    column: NDArray[Any], unit: TimeUnit, path: str | os.PathLike[str], place: str
) -> tuple[NDArray[np.int64], int]:
    """int64 microseconds of a time column, rounded to nearest, and how many of its values had to be rounded.

    Raises FormatError for NaN, infinite values and times that the column cannot hold to the microsecond.
    """
    if column.dtype.kind not in _WIDEST:
        raise FormatError(path, f"times are {column.dtype}, expected numbers", place=place)
    wide = np.asarray(column, _WIDEST[column.dtype.kind])
    if wide.dtype.kind in "ui":
        return _whole(wide, unit, path, place)
    if unit == "us" and (whole := _whole_floats(wide)) is not None:
        return whole, 0
    if not np.all(np.isfinite(wide)):
        raise FormatError(path, f"a time is {wide[~np.isfinite(wide)][0]}, expected numbers", place=place)
    scaled = wide / PER_MICROSECOND[unit]
    limit = EXACT_FLOAT_US if unit == "us" else EXACT_SECONDS_US
    if wide.size and np.abs(scaled).max() >= limit:
        raise FormatError(
            path, f"times reach {np.abs(scaled).max():.6g} us, more than float64 holds exactly", place=place
        )
    rounded = np.rint(scaled)
    # A decimal fraction of a second is a whole microsecond up to the float's own error.
    error = np.spacing(np.abs(wide)) / PER_MICROSECOND[unit] * 2 if unit != "us" else 0.0
    return rounded.astype(np.int64), int(np.count_nonzero(np.abs(scaled - rounded) > error))


def image_time_us(time: float, unit: TimeUnit) -> float:
    """A stored time of an image in microseconds, without the rounding that its own unit brought.

    That is a whole microsecond where the time is one up to its own precision, else the nearest nanosecond.
    """
    scaled = float(time) / PER_MICROSECOND[unit]
    if unit == "us":
        return scaled
    nearest = round(scaled)
    error = float(np.spacing(abs(float(time)))) / PER_MICROSECOND[unit] * 2
    return float(nearest) if abs(scaled - nearest) <= error else round(scaled, 3)


def _whole_floats(wide: NDArray[Any]) -> NDArray[np.int64] | None:
    """The usual column, whole microseconds that float64 holds exactly, in few passes; None for any other."""
    with np.errstate(invalid="ignore"):
        whole = wide.astype(np.int64)
    if not len(whole):
        return whole
    exact = whole.min() > -EXACT_FLOAT_US and whole.max() < EXACT_FLOAT_US and np.array_equal(whole, wide)
    return whole if exact else None


def _whole(
    wide: NDArray[Any], unit: TimeUnit, path: str | os.PathLike[str], place: str
) -> tuple[NDArray[np.int64], int]:
    factor = {"s": 1_000_000, "ms": 1000, "us": 1, "ns": 1}[unit]
    limit = np.iinfo(np.int64).max // factor
    if wide.size and (int(wide.max()) > limit or int(wide.min()) < -limit):
        raise FormatError(
            path, f"times reach {int(wide.max())} {unit}, more than 64 bits of microseconds hold", place=place
        )
    values = wide.astype(np.int64)
    if unit != "ns":
        return values * factor, 0
    return (values + 500) // 1000, int(np.count_nonzero(values % 1000))


def to_pixels(
    column: NDArray[Any], path: str | os.PathLike[str], place: str
) -> NDArray[np.uint16] | NDArray[np.float32]:
    """uint16 pixels, float32 where one is sub-pixel. Raises FormatError for values outside uint16."""
    if column.dtype.kind not in _WIDEST:
        raise FormatError(path, f"coordinates are {column.dtype}, expected numbers", place=place)
    if column.dtype == np.uint16:
        return column
    if column.dtype == np.int16 and column.size and column.min() >= 0:
        return column.view(np.uint16)
    if column.size:
        low, high = column.min(), column.max()
        if not (low >= 0 and high <= np.iinfo(np.uint16).max):  # negated so that NaN counts as outside
            raise FormatError(
                path, f"coordinates span {low}..{high}, expected pixels of the sensor", place=place
            )
    if column.dtype.kind == "f" and not np.array_equal(column, np.rint(column)):
        return column.astype(np.float32)
    return column.astype(np.uint16)


def to_polarity(column: NDArray[Any], path: str | os.PathLike[str], place: str) -> NDArray[np.uint8]:
    """uint8 polarity, 1 ON and 0 OFF, from bool, 0/1 or -1/1. Raises FormatError for any other value."""
    if column.dtype.kind not in _WIDEST:
        raise FormatError(path, f"polarities are {column.dtype}, expected numbers", place=place)
    if column.dtype == np.bool_:
        return column.view(np.uint8)
    if column.dtype == np.uint8 and column.size and column.max() <= 1:
        return column
    on = column > 0
    if column.dtype.kind != "b":
        other = ~(on & (column == 1) | (column == 0) | (column == -1))
        if other.any():
            value = column[int(np.argmax(other))]
            raise FormatError(path, f"a polarity is {value}, expected 0 and 1 or -1 and 1", place=place)
    return on.astype(np.uint8)


def polarity_coding(sample: NDArray[Any]) -> str:
    """How a column writes polarity: 'bool', '-1/1' or '0/1'."""
    if sample.dtype.kind == "b":
        return "bool"
    return "-1/1" if sample.size and sample.min() < 0 else "0/1"


def epoch_origin(t_first_us: int) -> int:
    """The t_origin of a recording whose first event is at `t_first_us`: whole seconds, 0 if no Unix time."""
    return t_first_us // 1_000_000 * 1_000_000 if t_first_us >= EPOCH_US else 0
