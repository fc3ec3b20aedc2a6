"""What happens to events between the pixels and the output, for any pixel model.

Dead pixels give nothing. Every other event leaves after a delay, normal with the configured latency and
jitter, within 0 to 10 ms (Joubert et al. 2021, without the part that the pixel's own filter causes); what
leaves after the end of the interval is kept and comes in the interval it falls into. Hot pixels add a Poisson
process of their own, ON and OFF alike, which does not touch the pixel's signals.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evsim.events import SHOT_NOISE
from evsim.kernels.compiled import LOOP
from evsim.kernels.philox import random_words
from evsim.sensor.config import SensorConfig
from evsim.sensor.fields import FrameFields, RandomFields, check_field, normal_pair
from evsim.sensor.listing import make_columns
from evsim.sensor.per_pixel import key_words
from evsim.sensor.sorting import Columns
from evsim.sensor.sums import EventSum
from evsim.sensor.variates import draw_block, fraction

BROKEN, DELAY_RADIUS, DELAY_ANGLE, HOT = 0, 1, 2, 3
"""Purposes of random words under the key of the readout."""
LONGEST_DELAY_US = 10_000.0
EVENTS_PER_ROW = 8192
SLOT_BITS = 29
SLOT, ROW, COLUMN = np.uint64(35), np.uint64(19), np.uint64(3)
"""Where a key has the microsecond in the interval, the row and the column; below are polarity and label."""
SIDE = np.uint64(0xFFFF)


def uses_readout(config: SensorConfig, fields: RandomFields | None) -> bool:
    """Whether the events of a sensor have to go through a `Readout`."""
    broken = config.dead_pixel_fraction > 0 or config.hot_pixel_fraction > 0
    given = fields is not None and (fields.dead_pixels is not None or fields.hot_pixels is not None)
    return broken or given or config.readout_latency_us != (0.0, 0.0)


class Readout:
    """Pixels with a readout behind them; the same methods as the pixels themselves.

    pixels: of any model. key: of the random generator, not that of the pixels.
    """

    def __init__(
        self, pixels: Any, config: SensorConfig, size: tuple[int, int], key: int, fields: RandomFields | None
    ) -> None:
        self._pixels, self._config, self._size, self._key = pixels, config, size, key
        self._dead, self._hot = _broken_pixels(config, size, key, fields or RandomFields())
        self._hot_rows, self._hot_columns = np.nonzero(self._hot)
        self._waiting = make_columns(0)

    def start(self, frame: NDArray[Any], t_ns: int, *, first: bool) -> None:
        """Take `frame` as settled; events on their way are gone."""
        self._pixels.start(frame, t_ns, first=first)
        self._waiting = make_columns(0)

    def log_intensity(self, frame: NDArray[Any]) -> NDArray[np.float32]:
        """float32 (H, W): what the photoreceptor makes of a checked frame."""
        result: NDArray[np.float32] = self._pixels.log_intensity(frame)
        return result

    def require_light(self, frame: NDArray[Any]) -> None:
        """InputError for a checked frame with light too bright for the pixels."""
        self._pixels.require_light(frame)

    def require_pass(self, t0_ns: int, t1_ns: int, given: FrameFields | None) -> None:
        """InputError for an interval or random fields that the pixels cannot take; moves nothing."""
        self._pixels.require_pass(t0_ns, t1_ns, given)

    def planes(self) -> dict[str, NDArray[Any]]:
        """The state of the pixels, by name, and which are broken."""
        return {**self._pixels.planes(), "dead_pixels": self._dead, "hot_pixels": self._hot}

    def save(self) -> dict[str, Any]:
        """Copies of the state, with what `load` needs."""
        waiting = {name: column.copy() for name, column in self._waiting._asdict().items()}
        broken = {"dead_pixels": self._dead.copy(), "hot_pixels": self._hot.copy()}
        return {**self._pixels.save(), "readout": {**broken, "waiting": waiting}}

    def load(self, state: dict[str, Any]) -> None:
        """Take over a state from `save`."""
        self._pixels.load(state)
        waiting = state["readout"]["waiting"]
        self._waiting = Columns(*(np.array(waiting[name]) for name in Columns._fields))

    def advance(
        self, frame: NDArray[Any], t0_ns: int, t1_ns: int, index: int, given: FrameFields | None
    ) -> Columns:
        """Events that leave within (t0_ns, t1_ns]; `index` counts passes."""
        columns = self._pixels.advance(frame, t0_ns, t1_ns, index, given)
        if self._dead.any():
            alive = ~self._dead[columns.y, columns.x]
            columns = Columns._make(column[alive] for column in columns)
        columns = self._delay(columns, t1_ns // 1000, index)
        if len(self._hot_rows):
            columns = _joined(columns, self._fire_hot(t0_ns, t1_ns, index))
        return _in_order(columns, t0_ns // 1000 + 1)

    def add(
        self,
        frame: NDArray[Any],
        t0_ns: int,
        t1_ns: int,
        index: int,
        given: FrameFields | None,
        target: EventSum,
    ) -> int:
        """As `advance`, but add the events to `target`; returns how many."""
        return target.add_columns(self.advance(frame, t0_ns, t1_ns, index, given))

    def _delay(self, columns: Columns, end_us: int, index: int) -> Columns:
        """Events that leave until `end_us`, with those that were waiting; the others wait."""
        mean, deviation = self._config.readout_latency_us
        if (mean, deviation) == (0.0, 0.0):
            return columns
        count = len(columns.t)
        delay = np.full(count, mean)
        if deviation > 0 and count:
            rows = -(-count // EVENTS_PER_ROW)
            z, _ = normal_pair(self._key, (EVENTS_PER_ROW, rows), DELAY_RADIUS, DELAY_ANGLE, index)
            delay += deviation * z.reshape(-1)[:count]
        late = np.rint(np.clip(delay, 0.0, LONGEST_DELAY_US)).astype(np.int64)
        columns = _joined(self._waiting, columns._replace(t=columns.t + late))
        waits = columns.t > end_us
        self._waiting = Columns._make(column[waits] for column in columns)
        return Columns._make(column[~waits] for column in columns)

    def _fire_hot(self, t0_ns: int, t1_ns: int, index: int) -> Columns:
        """Events of the hot pixels in an interval, unordered."""
        length = (t1_ns - t0_ns) / 1000
        mean = self._config.hot_pixel_rate_hz * length * 1e-6
        capacity = int(len(self._hot_rows) * mean * 1.5) + 1024
        while True:
            times, places = np.empty(capacity), np.empty(capacity, np.int64)
            on = np.empty(capacity, np.uint8)
            used = _list_hot(
                *key_words(self._key),
                np.uint32(index & 0xFFFFFFFF),
                mean,
                self._hot_rows,
                self._hot_columns,
                times,
                places,
                on,
            )
            if used <= capacity:
                break
            capacity = used
        columns, which = make_columns(used), places[:used]
        first, last = t0_ns // 1000 + 1, t1_ns // 1000
        exact = (t0_ns % 1000) / 1000 + times[:used] * length
        columns.t[:] = np.clip(t0_ns // 1000 + np.rint(exact).astype(np.int64), first, last)
        columns.x[:], columns.y[:] = self._hot_columns[which], self._hot_rows[which]
        columns.p[:], columns.label[:] = on[:used], SHOT_NOISE
        return columns


def _broken_pixels(
    config: SensorConfig, size: tuple[int, int], key: int, given: RandomFields
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which pixels are dead and which hot, bool (H, W); no pixel is both unless given so."""
    u = random_words(key, size, 0, BROKEN) * 2.0**-32
    dead = check_field("dead_pixels", given.dead_pixels, size, np.bool_)
    hot = check_field("hot_pixels", given.hot_pixels, size, np.bool_)
    return (
        u < config.dead_pixel_fraction if dead is None else dead,
        u >= 1.0 - config.hot_pixel_fraction if hot is None else hot,
    )


def broken_fields(state: dict[str, Any]) -> RandomFields | None:
    """The broken pixels that a saved state of a sensor's pixels holds, or None if it has no readout."""
    if "readout" not in state:
        return None
    saved = state["readout"]
    return RandomFields(dead_pixels=saved["dead_pixels"], hot_pixels=saved["hot_pixels"])


def _joined(first: Columns, second: Columns) -> Columns:
    columns: Iterable[tuple[NDArray[Any], NDArray[Any]]] = zip(first, second)
    return Columns._make(np.concatenate(pair) for pair in columns)


def _in_order(columns: Columns, origin_us: int) -> Columns:
    """The events sorted by (t, y, x, p, label); the first microsecond of the interval is `origin_us`."""
    slot = columns.t - origin_us
    if len(slot) and int(slot.max()) >> SLOT_BITS:
        order = np.lexsort((columns.label, columns.p, columns.x, columns.y, columns.t))
        return Columns._make(column[order] for column in columns)
    key = slot.astype(np.uint64) << SLOT
    key |= columns.y.astype(np.uint64) << ROW
    key |= columns.x.astype(np.uint64) << COLUMN
    key |= columns.p.astype(np.uint64) << np.uint64(2)
    key |= columns.label
    key.sort()
    ordered = make_columns(len(key))
    ordered.t[:] = key >> SLOT
    ordered.t[:] += origin_us
    ordered.y[:] = (key >> ROW) & SIDE
    ordered.x[:] = (key >> COLUMN) & SIDE
    ordered.p[:] = (key >> np.uint64(2)) & np.uint64(1)
    ordered.label[:] = key & np.uint64(3)
    return ordered


@njit(**LOOP)
def _list_hot(
    low: Any,
    high: Any,
    index: Any,
    mean: float,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    times: NDArray[np.float64],
    places: NDArray[np.int64],
    on: NDArray[np.uint8],
) -> int:
    """Events of Poisson processes of `mean` in the unit interval; returns how many, also beyond the room.

    times: 0..1. places: number of the pixel.
    """
    used = 0
    for i in range(rows.size):
        time, number = 0.0, 0
        while True:
            first, second, _, _ = draw_block(columns[i], rows[i], number, index, HOT, low, high)
            time -= math.log(fraction(first)) / mean
            if not time < 1.0:
                break
            if used < times.size:
                times[used], places[used], on[used] = time, i, second & np.uint32(1)
            used += 1
            number += 1
    return used
