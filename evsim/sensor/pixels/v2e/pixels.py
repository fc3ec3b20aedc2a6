"""`V2ePixels`: the state of v2e's pixels (and Sim2Real's variant of them) and one pass over it.

Signals per pixel: the log intensity after the low-pass, and the level at the last event. A pass moves both
over one interval and lists the events, over blocks of rows (`pass_per_pixel_times`) or over whole planes
(`pass_whole_planes`); the arithmetic is that of `row_arithmetic` and `shot_noise`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import LEAK
from evsim.kernels.threads.bands import RowBands
from evsim.kernels.threads.counters import SPACING, make_counters
from evsim.sensor import sorting
from evsim.sensor.fields import FrameFields, RandomFields, check_field, draw_thresholds, normal_pair
from evsim.sensor.listing import make_columns
from evsim.sensor.memory import copies_together, zeros_together
from evsim.sensor.pixels.v2e import pass_per_pixel_times, pass_whole_planes, sums_of_keys
from evsim.sensor.pixels.v2e.config import V2eFields
from evsim.sensor.pixels.v2e.light_tables import LightReader
from evsim.sensor.pixels.v2e.pass_records import Fields, Pass, Planes, Scratch
from evsim.sensor.pixels.v2e.shot_noise import BATCH
from evsim.sensor.sorting import Bins, Columns
from evsim.sensor.sums import EventSum
from evsim.sensor.vector import LANES

REBASE_AFTER = 2**29
BLOCKS_PER_THREAD = 8
"""Small enough that threads which start late or run slower do not keep the others waiting."""
PATTERN = ("theta_on", "theta_off", "leak_rate")
LEAK_RADIUS, LEAK_ANGLE = 18, 19
"""Purposes of random words of a whole plane, beside those of the thresholds."""


class V2ePixels:
    """Pixels of one sensor. `threads`: of a pass; `recycle`: outputs are valid until the next pass."""

    def __init__(
        self,
        config: V2eFields,
        size: tuple[int, int],
        key: int,
        given: RandomFields,
        threads: int,
        recycle: bool,
    ) -> None:
        self._config, self._size, self._key = config, size, key
        self._bands = RowBands(threads)
        width, height = size
        wide = config.precision == "float64" and (config.cutoff_hz > 0 or config.reads_logarithms)
        self._real: Any = np.float64 if wide else np.float32
        self._reader = LightReader(config)
        self._origin_us = 0
        self._planes = self._make_planes(draw_fixed_pattern(config, size, key, given))
        self._largest_leak = float(self._planes.leak_rate.max())
        blocks = 1 if threads == 1 else min(BLOCKS_PER_THREAD * threads, height)
        self._scratch = _make_scratch(
            max(blocks, pass_per_pixel_times.ROWS_APART * threads), width, self._real
        )
        self._bins = _make_bins(blocks, size, width * height // (2 * blocks) + 1024, 1024)
        self._counters = make_counters(pass_per_pixel_times.counters(threads))
        self._nothing = Fields(
            False,
            False,
            False,
            np.empty((0, 0), np.float32),
            np.empty((0, 0), np.bool_),
            np.empty((0, 0), np.float32),
        )
        self._outputs = make_columns(0) if recycle else None

    def start(self, frame: NDArray[Any], t_ns: int, *, first: bool) -> None:
        """Take `frame` as settled: all pixels rest at its level. `first`: also set the origin of times."""
        if first:
            self._origin_us = t_ns // 1000
        self._planes.low_pass[:] = self.log_intensity(frame)
        self._planes.base[:] = self._planes.low_pass
        self._planes.leak_sum[:] = 0

    def log_intensity(self, frame: NDArray[Any]) -> NDArray[np.float32]:
        """float32 (H, W) log intensity of a checked frame, before the low-pass."""
        result = np.empty(frame.shape, np.float32)
        pass_whole_planes.log_plane(self._reader.read(frame, 0), result)
        return result

    def require_light(self, frame: NDArray[Any]) -> None:
        """Nothing: these pixels take any light that a checked frame can hold."""

    def require_pass(self, t0_ns: int, t1_ns: int, given: FrameFields | None) -> None:
        """InputError for an interval or random fields that `advance` cannot take; moves nothing."""
        if given is not None:
            self._check_fields(given)

    def advance(
        self, frame: NDArray[Any], t0_ns: int, t1_ns: int, index: int, given: FrameFields | None
    ) -> Columns:
        """Events of the interval (t0_ns, t1_ns] that ends with `frame`; `index` counts passes."""
        light = self._reader.read(frame, t1_ns - t0_ns)
        fields = self._nothing if given is None else self._check_fields(given)
        now = self._describe(t0_ns, t1_ns, index, fields)
        origin = t0_ns // 1000 + 1
        if self._config.clock == "grid":
            return self._grid_pass(light, fields, now, t0_ns, t1_ns, origin)
        if self._too_large(now.slots):
            return self._long_pass(light, fields, now, origin)
        return self._linear_pass(light, fields, now, origin)

    def add(
        self,
        frame: NDArray[Any],
        t0_ns: int,
        t1_ns: int,
        index: int,
        given: FrameFields | None,
        target: EventSum,
    ) -> int:
        """As `advance`, but add the events to `target`; returns how many.

        Only the passes over whole planes (grid clock, options, long intervals) list them on the way.
        """
        slots = t1_ns // 1000 - t0_ns // 1000
        if self._config.clock == "grid" or self._too_large(slots):
            return target.add_columns(self.advance(frame, t0_ns, t1_ns, index, given))
        light = self._reader.read(frame, t1_ns - t0_ns)
        fields = self._nothing if given is None else self._check_fields(given)
        now = self._describe(t0_ns, t1_ns, index, fields)
        return self._direct_pass(light, fields, now, t0_ns // 1000 + 1, target)

    def planes(self) -> dict[str, NDArray[Any]]:
        """The state, by name; the arrays themselves, not copies."""
        return self._planes._asdict()

    def save(self) -> dict[str, Any]:
        """Copies of the state, with what `load` needs."""
        return {
            **{name: plane.copy() for name, plane in self._planes._asdict().items()},
            "origin_us": self._origin_us,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over a state from `save`, fixed pattern included; InputError if it is of another sensor."""
        height, width = self._size[::-1]
        planes = {}
        for name, plane in self._planes._asdict().items():
            saved = np.asarray(state[name])
            # A fixed pattern may be the same in all rows or given for each pixel.
            shapes = {plane.shape, (1, width), (height, width)} if name in PATTERN else {plane.shape}
            if saved.shape not in shapes or saved.dtype != plane.dtype:
                raise InputError(
                    f"state {name} is {saved.dtype} {saved.shape}, expected {plane.dtype} {plane.shape}: "
                    "it is of another sensor"
                )
            planes[name] = saved
        self._planes = Planes(*copies_together(Planes(**planes)))
        self._largest_leak = float(self._planes.leak_rate.max())
        self._origin_us = int(state["origin_us"])

    def _make_planes(self, pattern: RandomFields) -> Planes:
        config, (width, height), real = self._config, self._size, self._real
        on = _plane(pattern.threshold_on, config.contrast_threshold_on, width, real)
        off = _plane(pattern.threshold_off, config.contrast_threshold_off, width, real)
        ratio = config.contrast_threshold_on / on.astype(np.float64)
        ratio = ratio + config.contrast_threshold_off / off.astype(np.float64)
        leaks, dead = config.leak_rate_hz > 0, config.refractory_period_us > 0
        rate = np.float32(config.leak_rate_hz)
        factor = pattern.leak_rate_factor if leaks else None
        if config.clock == "grid":
            last = np.full((height, width) if dead else (1, 1), -np.inf, np.float64)
        else:
            last = np.full((height, width) if dead else (1, 1), pass_whole_planes.NEVER, np.int32)
        planes = Planes(
            np.zeros((height, width), real),
            np.zeros((height, width), real),
            on,
            off,
            np.full((1, width), rate) if factor is None else rate * factor,
            np.zeros((height if leaks else 1, width), np.float32),
            last,
            np.broadcast_to(ratio.max(axis=1), (height,)),
        )
        return Planes(*copies_together(planes))

    def _check_fields(self, given: FrameFields) -> Fields:
        config, size = self._config, self._size
        if given.lowpass_bypass is not None and not (config.bypasses_low_pass and config.cutoff_hz > 0):
            raise InputError(
                f"field lowpass_bypass was given to model {config.model} with cutoff_hz = "
                f"{config.cutoff_hz}, expected model idslpf with a cutoff: others have nothing to bypass"
            )
        jitter = check_field("leak_jitter", given.leak_jitter, size, np.float32)
        bypass = check_field("lowpass_bypass", given.lowpass_bypass, size, np.bool_)
        shot = check_field("shot_uniform", given.shot_uniform, size, np.float32, low=0)
        empty = self._nothing
        return Fields(
            jitter is not None,
            bypass is not None,
            shot is not None,
            empty.jitter if jitter is None else jitter,
            empty.bypass if bypass is None else bypass,
            empty.shot if shot is None else shot,
        )

    def _describe(self, t0_ns: int, t1_ns: int, index: int, fields: Fields) -> Pass:
        config, real = self._config, self._real
        first_us, slots = t0_ns // 1000 + 1, t1_ns // 1000 - t0_ns // 1000
        seconds = (t1_ns - t0_ns) * 1e-9
        leaks = config.leak_rate_hz > 0
        filtered = config.cutoff_hz > 0
        level = round(config.bypass_probability * 4096) if config.bypasses_low_pass and filtered else 0
        jitter = config.leak_jitter if leaks else 0.0
        if config.clock == "linear" and first_us + slots - self._origin_us > REBASE_AFTER:
            self._move_origin(first_us + slots)
        return Pass(
            np.uint32(self._key & 0xFFFFFFFF),
            np.uint32(self._key >> 32),
            np.uint32(index & 0xFFFFFFFF),
            slots,
            real((t1_ns - t0_ns) / 1000),
            real((t0_ns - first_us * 1000) / 1000 + 0.5),
            np.float32(seconds),
            np.float32(jitter),
            np.uint32(level),
            filtered,
            leaks,
            (level > 0 and not fields.has_bypass) or (jitter > 0 and not fields.has_jitter),
            seconds * self._largest_leak * (1 + 8 * jitter) >= 0.5,
            real(config.clock == "linear"),
            math.floor(config.refractory_period_us) if config.refractory_period_us > 0 else -1,
            first_us - self._origin_us,
            config.shot_noise_rate_hz / 2 * seconds,
            config.contrast_threshold_on,
            config.contrast_threshold_off,
            np.uint32(0 if self._too_large(slots) or config.clock == "grid" else 0xFFFF),
        )

    def _too_large(self, slots: int) -> bool:
        """Whether an event does not fit into the 32-bit keys of the fast pass."""
        return slots > sorting.SLOT_LIMIT or self._size[0] > sorting.WIDTH_LIMIT

    def _move_origin(self, origin_us: int) -> None:
        """Keep times of last events within 32 bits; what lies too far back counts as never."""
        last = self._planes.last_event
        moved = last.astype(np.int64) - (origin_us - self._origin_us)
        last[:] = np.maximum(moved, pass_whole_planes.NEVER)
        self._origin_us = origin_us

    def _linear_pass(self, light: Any, fields: Fields, now: Pass, origin: int) -> Columns:
        arguments = (light, self._planes, fields, now, self._scratch)
        blocks, threads, counters = self._bins.keys.shape[0], self._bands.threads, self._counters
        self._clear_keys(now)
        placed = False
        if self._outputs is not None:
            # The memory for the events is there already, so that one call can do it all.
            more = (self._bins, origin, self._outputs, counters, threads)
            self._bands.share(pass_per_pixel_times.run_and_write, *arguments, *more)
            placed = not self._bins.wanted.any()
            if counters[pass_per_pixel_times.PLACED * SPACING] < pass_per_pixel_times.GIVEN_UP:
                return self._take_columns(int(self._bins.slot_start[now.slots]))
        if not placed:
            self._list_keys(arguments)
            sorting.place_slots(blocks, now.slots, self._bins)
        events = int(self._bins.slot_start[now.slots])
        columns = self._take_columns(events)
        order = (self._size[1], now.slots, origin, self._bins, columns, counters, threads)
        if events < pass_per_pixel_times.FEW_EVENTS:
            pass_per_pixel_times.write_events(*order, 0)
        else:
            self._bands.share(pass_per_pixel_times.write_events, *order)
        return columns

    def _direct_pass(self, light: Any, fields: Fields, now: Pass, origin: int, target: EventSum) -> int:
        self._clear_keys(now)
        self._list_keys((light, self._planes, fields, now, self._scratch))
        blocks, (width, height) = self._bins.keys.shape[0], self._size
        shares, out = target.shares(origin, now.slots), target.out.reshape(-1)
        arguments = (height, width, target.rule(), shares, self._bins, out)
        self._bands.split(sums_of_keys.add_blocks, blocks, blocks, *arguments)
        return int(self._bins.filled.sum())

    def _clear_keys(self, now: Pass) -> None:
        """Make ready for the keys of an interval."""
        blocks, height = self._bins.keys.shape[0], self._size[1]
        if self._bins.histogram.shape[1] < now.slots:
            self._bins = _widen(self._bins, now.slots)
        self._bins.cursor[:] = [block * height // blocks for block in range(blocks)]
        self._bins.filled[:] = 0
        self._bins.wanted[:] = 0
        self._counters[:] = 0

    def _list_keys(self, arguments: tuple[Any, ...]) -> None:
        """Move all signals; leaves the keys of their events, block by block and row by row.

        Goes on where blocks have stopped for lack of room.
        """
        while True:
            while self._bins.wanted.any():
                self._bins = _grow(self._bins)
                pass_per_pixel_times.resume_blocks(*arguments, self._bins)
            self._bands.share(
                pass_per_pixel_times.run_blocks, *arguments, self._bins, self._counters, self._bands.threads
            )
            if not self._bins.wanted.any():
                return

    def _long_pass(self, light: Any, fields: Fields, now: Pass, origin: int) -> Columns:
        crossings = self._crossings()
        total, _, candidates = self._advance_plane(light, fields, now, crossings)
        found = _make_found(total + candidates)
        used = pass_whole_planes.list_linear(crossings, self._planes, now, origin, found)
        used = pass_whole_planes.list_shots(
            light, self._planes, fields, now, self._scratch, origin, -1, found, used
        )
        return self._sorted(found, used)

    def _grid_pass(
        self, light: Any, fields: Fields, now: Pass, t0_ns: int, t1_ns: int, origin: int
    ) -> Columns:
        crossings = self._crossings()
        total, busiest, candidates = self._advance_plane(light, fields, now, crossings)
        count = max(busiest, 1)
        slots_ns = (t1_ns - t0_ns) * (np.arange(count) + 1.0) / count
        last_us = origin + now.slots - 1
        # t0 may be large: only the offsets inside the interval go through floating point.
        times = t0_ns // 1000 + np.floor((t0_ns % 1000 + slots_ns) / 1000 + 0.5).astype(np.int64)
        times = np.clip(times, origin, last_us)
        # Slots a whole dead time apart are common: v2e's own rounding of seconds decides which of them fire.
        start, end = t0_ns / 1e9, t1_ns / 1e9
        apart = (end - start) / count
        seconds = start + apart * (np.arange(count) + 1.0)
        if self._config.precision == "float64":
            seconds = _single_precision_seconds(start + apart, end, count)
        # v2e applies the dead time only where it is longer than the distance of its slots.
        dead_time = self._config.refractory_period_us / 1e6
        dead_time = dead_time if dead_time > apart else 0.0
        found = _make_found(total + candidates)
        used = pass_whole_planes.list_grid(crossings, self._planes, seconds, times, dead_time, found)
        used = pass_whole_planes.list_shots(
            light, self._planes, fields, now, self._scratch, origin, last_us, found, used
        )
        return self._sorted(found, used)

    def _advance_plane(
        self, light: Any, fields: Fields, now: Pass, crossings: pass_whole_planes.Crossings
    ) -> tuple[int, int, int]:
        """Move all signals; returns as `pass_whole_planes.advance_plane`."""
        return pass_whole_planes.advance_plane(light, self._planes, fields, now, self._scratch, crossings)

    def _crossings(self) -> pass_whole_planes.Crossings:
        shape = self._size[::-1]
        return pass_whole_planes.Crossings(
            np.empty(shape, np.int32),
            np.empty(shape, np.uint32),
            np.empty(shape, self._real),
            np.empty(shape, self._real),
        )

    def _sorted(self, found: pass_whole_planes.Found, used: int) -> Columns:
        t, key = found.t[:used], found.key[:used]
        order = np.lexsort((key, t))
        low = key[order].astype(np.uint32)
        label = low & np.uint32(3)
        columns = self._take_columns(used)
        columns.t[:] = t[order]
        columns.x[:] = low >> np.uint32(3)
        columns.y[:] = key[order] >> np.uint64(32)
        columns.p[:] = (low >> np.uint32(2)) & np.uint32(1)
        columns.label[:] = np.minimum(label, LEAK)
        return columns

    def _take_columns(self, count: int) -> Columns:
        if self._outputs is None:
            return make_columns(count)
        if len(self._outputs.t) < count:
            self._outputs = make_columns(count + count // 4)
        return Columns._make(column[:count] for column in self._outputs)


def draw_fixed_pattern(
    config: V2eFields, size: tuple[int, int], key: int, given: RandomFields
) -> RandomFields:
    """The fixed pattern of one sensor; fields that have no spread stay None, given ones are checked."""
    factor = None
    leaks = config.leak_rate_hz > 0 and config.leak_rate_spread_decades > 0
    if leaks and given.leak_rate_factor is None:
        deviate, _ = normal_pair(key, size, LEAK_RADIUS, LEAK_ANGLE)
        factor = (10.0 ** (config.leak_rate_spread_decades * deviate)).astype(np.float32)
    given_factor = given.leak_rate_factor
    return RandomFields(
        *draw_thresholds(config, size, key, given),
        check_field("leak_rate_factor", given_factor, size, np.float32, low=0, otherwise=factor),
    )


def _plane(field: NDArray[np.float32] | None, uniform: float, width: int, real: Any) -> NDArray[Any]:
    return np.full((1, width), uniform, real) if field is None else field.astype(real)


def _single_precision_seconds(start: float, end: float, count: int) -> NDArray[np.float64]:
    """`count` times from start to end with v2e's rounding: float32 steps, counted from the nearer end.

    Slots exactly one dead time apart are common, and which of them fire depends on this rounding.
    """
    first, last = np.float32(start), np.float32(end)
    if count == 1:
        return np.array([first], np.float64)
    step = np.float64((last - first) / np.float32(count - 1))
    i = np.arange(count)
    times = np.where(i < count // 2, first + step * i, last - step * (count - 1 - i))
    return times.astype(np.float32).astype(np.float64)


def _make_scratch(blocks: int, width: int, real: Any) -> Scratch:
    row, spare = (blocks, width), (blocks, width + LANES)
    kinds: dict[str, tuple[tuple[int, ...], Any]] = {
        "values": (row, np.float32),
        "alpha": (row, real),
        "jitter": (row, np.float32),
        "before": (row, real),
        "count": (row, np.int32),
        "key": (row, np.uint32),
        "first": (row, real),
        "spacing": (row, real),
        "column": (row, np.uint32),
        "aside": (row, np.int32),
        "deeper": (spare, np.uint32),
        "held": (spare, np.uint32),
        "words": ((blocks, (width + 3) // 4 * 4), np.uint32),
        "shot_words": ((blocks, 4, BATCH), np.uint32),
        "shot_low": ((blocks, BATCH), np.uint32),
        "shot_slot": ((blocks, BATCH), np.int64),
    }
    scratch = Scratch(**dict(zip(kinds, zeros_together(kinds.values()))))
    scratch.column[:] = np.arange(width, dtype=np.uint32)
    return scratch


def _make_bins(blocks: int, size: tuple[int, int], capacity: int, slots: int) -> Bins:
    keys, merged = _make_keys(blocks, capacity)
    return Bins(
        keys,
        np.zeros(blocks, np.int64),
        np.zeros(size[1], np.int64),
        np.zeros(blocks, np.int64),
        np.zeros(blocks, np.int64),
        np.zeros(blocks, np.int64),
        np.empty((blocks, slots), np.uint32),
        np.empty(slots + 1, np.int64),
        merged,
    )


def _make_keys(blocks: int, capacity: int) -> list[NDArray[np.uint32]]:
    return zeros_together([((blocks, capacity), np.uint32), ((blocks * capacity,), np.uint32)])


def _widen(bins: Bins, slots: int) -> Bins:
    blocks = bins.keys.shape[0]
    return bins._replace(
        histogram=np.empty((blocks, slots), np.uint32), slot_start=np.empty(slots + 1, np.int64)
    )


def _grow(bins: Bins) -> Bins:
    """Room for what the blocks that stopped asked for, and as much again."""
    blocks, capacity = bins.keys.shape
    larger = 2 * max(capacity, int((bins.filled + bins.wanted).max()))
    keys, merged = _make_keys(blocks, larger)
    keys[:, :capacity] = bins.keys
    return bins._replace(keys=keys, merged=merged)


def _make_found(count: int) -> pass_whole_planes.Found:
    return pass_whole_planes.Found(np.empty(count, np.int64), np.empty(count, np.uint64))
