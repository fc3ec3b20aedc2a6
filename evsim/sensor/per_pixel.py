"""`PerPixelModel`: what models that treat each pixel by itself share: blocks of rows, lists, saved state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.kernels.compiled import LOOP
from evsim.kernels.threads.bands import RowBands
from evsim.sensor.config import SensorConfig, ThresholdConfig
from evsim.sensor.fields import FrameFields, RandomFields, draw_thresholds, refuse_field
from evsim.sensor.frames import dn_scale
from evsim.sensor.listing import Sorter
from evsim.sensor.sorting import Columns
from evsim.sensor.sums import EventSum, add_listed

ROOM_PER_PIXEL = 0.5


@njit(**LOOP)
def load_dn(frame: NDArray[Any], scale: float, out: NDArray[np.float32], first: int, last: int) -> None:
    """DN of rows first..last - 1 of a frame of any type."""
    for y in range(first, last):
        row, values = frame[y], out[y]
        for x in range(row.size):
            values[x] = np.float32(row[x]) * np.float32(scale)


class PerPixelModel:
    """Pixels that do not see each other. A subclass sets `_planes` and defines `start` and `_advance`.

    key: of the random generator. given: fields of the fixed pattern that are not drawn. threads: of a pass.
    recycle: outputs are valid until the next pass.
    """

    # Words of state that belong to the sensor, not to its history, may be uniform over rows.
    PATTERN: tuple[str, ...] = ()
    LARGEST_DN = math.inf
    """Of the light that the model can take."""

    def __init__(
        self,
        config: SensorConfig,
        size: tuple[int, int],
        key: int,
        given: RandomFields,
        threads: int,
        recycle: bool,
    ) -> None:
        self._config, self._size, self._key = config, size, key
        self._bands = RowBands(threads)
        width, height = size
        self._blocks = 1 if threads == 1 else min(4 * threads, height)
        room = int(width * height * ROOM_PER_PIXEL / self._blocks) + 1024
        self._sorter = Sorter(self._blocks, height, room, recycle)
        self._origin_ns = 0
        self._planes: dict[str, NDArray[Any]] = self._make_planes(_draw_pattern(config, size, key, given))

    def require_light(self, frame: NDArray[Any]) -> None:
        """InputError for a checked frame with light too bright for the model."""
        if frame.dtype.kind != "f" or math.isinf(self.LARGEST_DN):
            return
        brightest = float(frame.max()) * dn_scale(frame, self._config.float_full_scale)
        if brightest > self.LARGEST_DN:
            raise InputError(
                f"frame has light of {brightest:.3g} DN, expected at most {self.LARGEST_DN:g} with model "
                f"{self._config.model}: set float_full_scale to the value that means white"
            )

    def require_pass(self, t0_ns: int, t1_ns: int, given: FrameFields | None) -> None:
        """InputError for an interval or random fields that `advance` cannot take; moves nothing."""
        if given is not None and any(field is not None for field in given):
            raise InputError(
                f"random fields of a pass were given to model {self._config.model}, expected none: only v2e "
                "and idslpf take them; choose the seed instead"
            )

    def advance(
        self, frame: NDArray[Any], t0_ns: int, t1_ns: int, index: int, given: FrameFields | None
    ) -> Columns:
        """Events of the interval (t0_ns, t1_ns] that ends with `frame`; `index` counts passes."""
        self._list(frame, t0_ns, t1_ns, index)
        return self._sorter.sort(self._bands, t0_ns // 1000 + 1, t1_ns // 1000 - t0_ns // 1000)

    def add(
        self,
        frame: NDArray[Any],
        t0_ns: int,
        t1_ns: int,
        index: int,
        given: FrameFields | None,
        target: EventSum,
    ) -> int:
        """As `advance`, but add the events to `target`, unsorted; returns how many."""
        self._list(frame, t0_ns, t1_ns, index)
        listing, out = self._sorter.listing, target.out.reshape(-1)
        rule, origin = target.rule(), t0_ns // 1000 + 1
        for slots, keys, used in zip(listing.slot, listing.key, listing.used):
            add_listed(slots[:used], keys[:used], 16, origin, rule, self._size[0], out)
        return int(listing.used.sum())

    def _list(self, frame: NDArray[Any], t0_ns: int, t1_ns: int, index: int) -> None:
        """Move the pixels and list their events."""
        self._sorter.clear()
        self._advance(frame, t0_ns, t1_ns, index)

    def planes(self) -> dict[str, NDArray[Any]]:
        """The state, by name; the arrays themselves, not copies."""
        return self._planes

    def save(self) -> dict[str, Any]:
        """Copies of the state, with what `load` needs."""
        return {**{name: plane.copy() for name, plane in self._planes.items()}, "origin_ns": self._origin_ns}

    def load(self, state: dict[str, Any]) -> None:
        """Take over a state from `save`, fixed pattern included; InputError if it is of another sensor."""
        width, height = self._size
        planes = {}
        for name, plane in self._planes.items():
            saved = np.asarray(state[name])
            shapes = {plane.shape, (1, width), (height, width)} if name in self.PATTERN else {plane.shape}
            if saved.shape not in shapes or saved.dtype != plane.dtype:
                raise InputError(
                    f"state {name} is {saved.dtype} {saved.shape}, expected {plane.dtype} {plane.shape}: "
                    "it is of another sensor"
                )
            planes[name] = saved.copy()
        self._planes = planes
        self._origin_ns = int(state["origin_ns"])

    def start(self, frame: NDArray[Any], t_ns: int, *, first: bool) -> None:
        """Take `frame` as settled: all pixels rest at its level. `first`: also set the origin of times."""
        raise NotImplementedError

    def log_intensity(self, frame: NDArray[Any]) -> NDArray[np.float32]:
        """float32 (H, W): what the photoreceptor makes of a checked frame."""
        raise NotImplementedError

    def _make_planes(self, pattern: RandomFields) -> dict[str, NDArray[Any]]:
        raise NotImplementedError

    def _advance(self, frame: NDArray[Any], t0_ns: int, t1_ns: int, index: int) -> None:
        raise NotImplementedError

    def _read_dn(self, frame: NDArray[Any], out: NDArray[np.float32]) -> None:
        self._bands.split(load_dn, frame.shape[0], self._blocks, frame, self._dn_scale(frame), out)

    def _dn_scale(self, frame: NDArray[Any]) -> float:
        """From values of a frame to DN."""
        return dn_scale(frame, self._config.float_full_scale)

    def _list_events(self, kernel: Any, *arguments: Any) -> None:
        """Run a compiled pass over all blocks until each has had room for its events."""
        while True:
            self._bands.split(kernel, self._blocks, self._blocks, *arguments, self._sorter.listing)
            if not self._sorter.listing.stopped.any():
                return
            self._sorter.grow()


def _draw_pattern(config: SensorConfig, size: tuple[int, int], key: int, given: RandomFields) -> RandomFields:
    """The fixed pattern: thresholds where the model has them."""
    refuse_field("leak_rate_factor", given.leak_rate_factor, config)
    if isinstance(config, ThresholdConfig):
        return RandomFields(*draw_thresholds(config, size, key, given))
    refuse_field("threshold_on", given.threshold_on, config)
    refuse_field("threshold_off", given.threshold_off, config)
    return RandomFields()


def slot_offset(t0_ns: int) -> float:
    """What to add to microseconds since t0 so that the whole part is the slot, rounded to nearest."""
    return (t0_ns - (t0_ns // 1000 + 1) * 1000) / 1000 + 0.5


def key_words(key: int) -> tuple[np.uint32, np.uint32]:
    """The two words of a 64-bit key."""
    return np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32)


def field_plane(field: NDArray[np.float32] | None, uniform: float, width: int) -> NDArray[np.float32]:
    """A given field, or one row of a uniform value."""
    return np.full((1, width), uniform, np.float32) if field is None else field.astype(np.float32)
