"""When frames were taken: exact times from frame rates, container clocks and timing files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError

NANOSECONDS = 10**9
# Clocks that containers count in, as ticks per second: MPEG-4 movie header, Matroska, MPEG transport.
_TICK_RATES = (600, 1000, 90_000)


def rational_rate(fps: float) -> Fraction:
    """The frame rate as the exact ratio that was meant: 29.97002997... is 30000/1001."""
    for limit in (1001, 10**6):
        rate = Fraction(fps).limit_denominator(limit)
        if rate > 0 and abs(float(rate) - fps) <= 1e-9 * fps:
            return rate
    return Fraction(fps)


def frame_time_ns(index: int, rate: Fraction) -> Fraction:
    """Exact time of frame `index` at `rate` frames per second, in nanoseconds, not yet rounded."""
    return Fraction(index * NANOSECONDS) / rate


def regular_times_ns(count: int, fps: float) -> NDArray[np.int64]:
    """int64 (count,): times of frames 0, 1, ... at `fps` frames per second, each rounded once."""
    rate = rational_rate(fps)
    return np.fromiter((round(frame_time_ns(k, rate)) for k in range(count)), np.int64, count)


def median_fps(t_ns: NDArray[np.int64]) -> float:
    """Frames per second by the median interval, 0.0 for fewer than two times."""
    return float(NANOSECONDS / np.median(np.diff(t_ns))) if len(t_ns) > 1 else 0.0


@dataclass(frozen=True)
class Grid:
    """Equally spaced instants on which a container's frames lie, perhaps with gaps."""

    rate: Fraction
    """Instants per second."""
    origin_ns: Fraction
    """Time of the first frame."""
    tolerance_ns: float
    """How far the container's clock may be off by rounding."""

    def snap(self, t_ns: float) -> Fraction:
        """The exact instant that `t_ns` was rounded from; `t_ns` to the nanosecond if it lies on none."""
        step = NANOSECONDS / self.rate
        index = round((t_ns - float(self.origin_ns)) / float(step))
        exact = self.origin_ns + index * step
        return exact if abs(float(exact) - t_ns) <= self.tolerance_ns else Fraction(round(t_ns))


def find_grid(t_ns: Sequence[float], fps: float) -> Grid | None:
    """The grid on which container times in nanoseconds lie, or None if they are irregular.

    fps: the rate the container claims. A clock of coarse ticks rounds the times; the grid undoes it.
    """
    if len(t_ns) < 2 or not 0 < fps < math.inf:
        return None
    ordered = sorted(t_ns)
    tolerance = _clock_tolerance_ns(ordered)
    origin = Fraction(round(ordered[0]))
    whole = max(1, round(fps))
    for rate in (rational_rate(fps), Fraction(whole), Fraction(whole * 1000, 1001)):
        step = float(NANOSECONDS / rate)
        # Less than half a step: two frames must never snap to one instant.
        reach = min(tolerance, 0.45 * step)
        offsets = (np.asarray(ordered) - ordered[0]) / step
        if np.all(np.abs(offsets - np.round(offsets)) * step <= reach):
            return Grid(rate, origin, reach)
    return None


def require_increasing(t_ns: Sequence[int] | NDArray[np.int64], labels: Sequence[str], name: str) -> None:
    """InputError that names the first two frames whose times do not strictly increase."""
    times = np.asarray(t_ns, np.int64)
    wrong = np.flatnonzero(times[1:] <= times[:-1])
    if len(wrong):
        raise not_increasing(
            name, labels[wrong[0]], labels[wrong[0] + 1], int(times[wrong[0]]), int(times[wrong[0] + 1])
        )


def not_increasing(name: str, before: str, after: str, t0_ns: int, t1_ns: int) -> InputError:
    """The error for two neighbouring frames whose times do not strictly increase."""
    return InputError(
        f"{name}: {after} is at {format_seconds(t1_ns)} s, not after {before} at {format_seconds(t0_ns)} s; "
        f"frame times must strictly increase: mend them or pass --fps"
    )


def format_seconds(t_ns: int) -> str:
    """Seconds with nine decimals, exactly."""
    whole, part = divmod(abs(int(t_ns)), NANOSECONDS)
    return f"{'-' if t_ns < 0 else ''}{whole}.{part:09d}"


@dataclass(frozen=True)
class FolderTiming:
    """Times of the files of a folder, and in words where they come from."""

    t_ns: Sequence[int | Fraction]
    """Nanoseconds, exact where a frame rate gives them."""
    source: str


def folder_timing(folder: Path, names: Sequence[str], fps: float | None) -> FolderTiming:
    """When the files `names` in `folder` were taken.

    In this order: `fps`; `timestamps.txt` in the folder or beside it (seconds per line, or name and
    seconds); `info.txt` in the folder (name and microseconds); `fps.txt` in the folder or beside it (one
    number). Raises InputError when none is there, for an unreadable line, and for a mismatched count.
    """
    if fps is not None:
        return FolderTiming(_exact_times(len(names), fps), f"--fps {fps:g}")
    for file, unit_ns in (
        (folder / "timestamps.txt", NANOSECONDS),
        (folder.parent / "timestamps.txt", NANOSECONDS),
        (folder / "info.txt", 1000),
    ):
        if file.is_file():
            t_ns = read_timestamps(file, names, unit_ns, named=file.name == "info.txt")
            require_increasing(t_ns, names, str(file))
            return FolderTiming(t_ns.tolist(), str(file.relative_to(folder.parent)))
    for file in (folder / "fps.txt", folder.parent / "fps.txt"):
        if file.is_file():
            rate = read_fps(file)
            source = f"{file.relative_to(folder.parent)}: {rate:g} frames/s"
            return FolderTiming(_exact_times(len(names), rate), source)
    raise InputError(
        f"{folder}: nothing says when its {len(names)} images were taken; "
        f"pass --fps, or add timestamps.txt with one time in seconds per line"
    )


def read_timestamps(
    file: Path, names: Sequence[str] | int, unit_ns: int, *, named: bool = False
) -> NDArray[np.int64]:
    """int64 nanoseconds, one for each of `names` (or a count), from lines `time` or `name time`.

    unit_ns: nanoseconds in one unit of the file. named: only lines `name time` are taken. Empty lines and
    lines that start with # are comments. Raises InputError with the line number.
    """
    count = names if isinstance(names, int) else len(names)
    times: list[int] = []
    by_name: dict[str, int] = {}
    for number, line in enumerate(_read_lines(file), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) == 1 and not named and not by_name:
            times.append(_parse_time(words[0], unit_ns, file, number))
            continue
        label = " ".join(words[:-1])
        name = Path(label).name
        if len(words) == 1 or isinstance(names, int) or times:
            form = "a file name and a time" if named or by_name else "one time"
            raise InputError(f"{file} line {number}: {line.strip()!r}, expected {form}; or pass --fps")
        if name in by_name:
            raise InputError(f"{file} line {number}: {name} is listed twice")
        by_name[name] = _parse_time(words[-1], unit_ns, file, number)
    if by_name and not isinstance(names, int):
        return _in_order_of(names, by_name, file)
    if len(times) != count:
        raise InputError(f"{file} holds {len(times)} times for {count} frames; expected one for each")
    return np.array(times, np.int64)


def read_fps(file: Path) -> float:
    """The one positive number in an fps.txt; InputError if that is not what it holds."""
    text = " ".join(_read_lines(file)).strip()
    try:
        fps = float(text)
    except ValueError:
        fps = math.nan
    if not 0 < fps < math.inf:
        raise InputError(f"{file} line 1: {text[:60]!r}, expected one positive number: frames per second")
    return fps


def _exact_times(count: int, fps: float) -> list[int | Fraction]:
    rate = rational_rate(fps)
    return [frame_time_ns(index, rate) for index in range(count)]


def _clock_tolerance_ns(t_ns: Sequence[float]) -> float:
    """Half a tick of the coarsest known clock that all times are whole ticks of; 1 us if none is."""
    times = np.asarray(t_ns, np.float64)
    for rate in _TICK_RATES:
        ticks = times * (rate / NANOSECONDS)
        if np.all(np.abs(ticks - np.round(ticks)) < 1e-6 * np.maximum(1.0, np.abs(ticks) * 1e-6)):
            return 0.501 * NANOSECONDS / rate
    return 1000.0


def _parse_time(word: str, unit_ns: int, file: Path, number: int) -> int:
    try:
        value = Decimal(word)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or abs(value * unit_ns) >= 2**63:
        unit = "seconds" if unit_ns == NANOSECONDS else "microseconds"
        raise InputError(f"{file} line {number}: {word!r}, expected a time in {unit}; or pass --fps")
    return round(value * unit_ns)


def _in_order_of(names: Sequence[str], by_name: dict[str, int], file: Path) -> NDArray[np.int64]:
    missing = [name for name in names if name not in by_name]
    present = set(names)
    surplus = [name for name in by_name if name not in present]
    if missing or surplus:
        first = f"{missing[0]} has no time" if missing else f"{surplus[0]} is not in the folder"
        raise InputError(f"{file} lists {len(by_name)} frames, the folder holds {len(names)}: {first}")
    return np.array([by_name[name] for name in names], np.int64)


def _read_lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}") from error
