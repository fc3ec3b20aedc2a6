"""`Simulator`: frames and times in, events out; checks its input, divides intervals, keeps the state."""

from __future__ import annotations

import itertools
import math
import operator
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim import configuration
from evsim.errors import InputError
from evsim.events import Events
from evsim.kernels.threads.limits import allowed_threads
from evsim.randomness import derive_key
from evsim.sensor.config import SensorConfig
from evsim.sensor.fields import FrameFields, RandomFields
from evsim.sensor.frames import check_frame, check_log_frame, dn_scale, to_dn
from evsim.sensor.pixel_models import Pixels
from evsim.sensor.readout import Readout, broken_fields, uses_readout
from evsim.sensor.sorting import Columns
from evsim.sensor.sums import EventSum

LARGEST_SIDE = 65536
SMALL_SENSOR = 65536
STATE_VERSION = 1
LARGEST_DIVISIBLE = 0.999 * float(np.finfo(np.float32).max)
"""Between values up to this, and between their DN, interpolation is finite whatever rounding does."""


class PlannedStep(NamedTuple):
    """A step of which all checks are made.

    image: the checked frame. t_ns: its time. edges: the times between which the passes lie, nanoseconds; none
    to set the pixels to rest. fields: as given. warned: whether a warning of the frame rate was given.
    """

    image: NDArray[Any]
    t_ns: int
    edges: tuple[int, ...]
    fields: FrameFields | None
    warned: bool


class Simulator:
    """An event sensor that watches frames.

    size: (width, height), at most 65536 each. seed, clip: with the number of the pass they decide every
    random draw. threads: None for all allowed; the events do not depend on it. fields: the fixed pattern, if
    it shall not be drawn. recycle: the returned Events are valid only until the next step; saves the cost of
    fresh memory, which for dense scenes exceeds that of the simulation.
    watch: may be set to a function that is called with (simulator, frame as the pixels saw it, its time in
    nanoseconds) when the pixels were set and after every pass, of which a step may take several.
    Raises InputError for a size, thread count or field that cannot be.
    """

    def __init__(
        self,
        config: SensorConfig,
        size: tuple[int, int],
        seed: int = 0,
        clip: str = "",
        *,
        threads: int | None = None,
        fields: RandomFields | None = None,
        recycle: bool = False,
    ) -> None:
        self.config, self.size, self.seed, self.clip = config, _check_size(size), seed, clip
        self.passes = 0
        key = derive_key(seed, clip, "sensor")
        count = _choose_threads(threads, self.size)
        pixels: Pixels = config.create_pixels(self.size, key, fields or RandomFields(), count, recycle)
        if uses_readout(config, fields):
            pixels = Readout(pixels, config, self.size, derive_key(seed, clip, "readout"), fields)
        self._pixels = pixels
        self._t_ns: int | None = None
        self._previous: NDArray[Any] | None = None
        self._warned = False
        self.watch: Callable[[Simulator, NDArray[Any], int], None] | None = None

    def step(self, frame: Any, t_ns: int, *, cut: bool = False, fields: FrameFields | None = None) -> Events:
        """Events of the interval from the previous frame to this one, sorted by (t, y, x, p), labelled.

        frame: (H, W) uint8, uint16 (65535 is 255 DN) or float (`float_full_scale` is 255 DN). t_ns: its time
        in nanoseconds. cut: a scene cut lies before this frame. fields: random fields of the pass.
        The first frame, and a frame after a cut, only set the pixels to rest at its level: no events.
        Raises InputError for a frame of another size or type, values that are no light, a time that does not
        follow the previous one or leaves no whole microsecond between. A step that is refused changes
        nothing: all is checked before anything moves.
        """
        return self.list_planned(self.plan(frame, t_ns, cut=cut, fields=fields))

    def add(
        self, frame: Any, t_ns: int, target: EventSum, *, cut: bool = False, fields: FrameFields | None = None
    ) -> int:
        """As `step`, but the events of the interval are added to `target` instead of listed; how many.

        The sums are those of the events that `step` would give, up to the rounding of floats. Events are
        neither sorted nor made into columns on the way.
        Raises InputError as `step`, and for an interval that is not within the window of `target`.
        """
        return self.add_planned(self.plan(frame, t_ns, cut=cut, fields=fields, target=target), target)

    def count(
        self,
        frame: Any,
        t_ns: int,
        *,
        cut: bool = False,
        fields: FrameFields | None = None,
        out: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int32]:
        """int32 (2, H, W): how many ON and OFF events each pixel makes in the interval that `step` lists.

        out: overwritten and returned, unless the step is refused.
        """
        counts = np.zeros((2, *self.size[::-1]), np.int32) if out is None else out
        target = EventSum.counts(counts)
        planned = self.plan(frame, t_ns, cut=cut, fields=fields, target=target)
        counts[:] = 0
        self.add_planned(planned, target)
        return counts

    def plan(
        self,
        frame: Any,
        t_ns: int,
        *,
        cut: bool = False,
        fields: FrameFields | None = None,
        target: EventSum | None = None,
    ) -> PlannedStep:
        """A step with all its checks made: nothing has moved, and nothing will be refused.

        Raises InputError as `step` and `add`. A plan holds until the simulator makes another step.
        """
        image = self._check(frame)
        t_ns = _check_time(t_ns, self._t_ns)
        if self._t_ns is None or cut:
            return PlannedStep(image, t_ns, (), None, False)
        edges = self._edges(image, self._t_ns, t_ns, fields)
        for t0_ns, t1_ns in itertools.pairwise(edges):
            self._pixels.require_pass(t0_ns, t1_ns, fields)
        if target is not None:
            target.require(self.size, self._t_ns, t_ns)
        return PlannedStep(image, t_ns, edges, fields, self._warn_of_rate(t_ns - self._t_ns))

    def list_planned(self, planned: PlannedStep) -> Events:
        """The events of a planned step; see `step`."""
        found: list[Columns] = []

        def keep(image: NDArray[Any], t0_ns: int, t1_ns: int, more: bool) -> None:
            columns = self._pixels.advance(image, t0_ns, t1_ns, self.passes, planned.fields)
            # With recycled outputs the next pass overwrites these.
            found.append(Columns._make(column.copy() for column in columns) if more else columns)

        self._carry_out(planned, keep)
        return self._to_events(found)

    def add_planned(self, planned: PlannedStep, target: EventSum) -> int:
        """How many events a planned step adds to `target`, for which it was planned; see `add`."""
        total = 0

        def add(image: NDArray[Any], t0_ns: int, t1_ns: int, more: bool) -> None:
            nonlocal total
            total += self._pixels.add(image, t0_ns, t1_ns, self.passes, planned.fields, target)

        self._carry_out(planned, add)
        return total

    def probe(self) -> dict[str, NDArray[Any]]:
        """Copies of the pixel signals, (H, W): `low_pass` and `base` in log intensity, and the thresholds."""
        planes = self._pixels.planes()
        return {
            name: np.broadcast_to(planes[plane], self.size[::-1]).copy()
            for name, plane in (
                ("low_pass", "low_pass"),
                ("base", "base"),
                ("threshold_on", "theta_on"),
                ("threshold_off", "theta_off"),
            )
        }

    def probe_pixel(self, x: int, y: int, frame: NDArray[Any]) -> dict[str, float]:
        """The signals of one pixel after a pass: what `watch` may want to keep.

        frame: as the pixels saw it. light: its DN 0..255. log_intensity: what the photoreceptor makes of it.
        filtered, reference: what is compared and with what; threshold_on, threshold_off: for how much.
        """
        planes = self._pixels.planes()
        part = np.array(frame[y : y + 1, x : x + 1], order="C")
        part.flags.writeable = False
        log = float(self._pixels.log_intensity(part)[0, 0])
        light = math.exp(log) if self.config.reads_logarithms else float(part[0, 0])
        if not self.config.reads_logarithms:
            light *= dn_scale(part, self.config.float_full_scale)
        signals = {
            "filtered": planes.get("signal", planes["low_pass"]),
            "reference": planes["base"],
            "threshold_on": planes["theta_on"],
            "threshold_off": planes["theta_off"],
        }
        # Planes that are alike for all rows or pixels have one.
        values = {name: plane[y % len(plane), x % plane.shape[1]] for name, plane in signals.items()}
        return {"light": light, "log_intensity": log, **{name: float(v) for name, v in values.items()}}

    def log_intensity(self, frame: Any) -> NDArray[np.float32]:
        """float32 (H, W): what the photoreceptor makes of `frame` before the low-pass."""
        return self._pixels.log_intensity(self._check(frame))

    def state(self) -> dict[str, Any]:
        """Everything needed to go on later, bit for bit: plain values and arrays (copies)."""
        return {
            "version": STATE_VERSION,
            "config": configuration.to_tree(self.config),
            "size": self.size,
            "seed": self.seed,
            "clip": self.clip,
            "passes": self.passes,
            "t_ns": self._t_ns,
            "previous": None if self._previous is None else self._previous.copy(),
            "warned": self._warned,
            "pixels": self._pixels.save(),
        }

    @classmethod
    def from_state(
        cls, state: dict[str, Any], *, threads: int | None = None, recycle: bool = False
    ) -> Simulator:
        """The simulator that `state` was taken from. Raises InputError for a state of another version."""
        if not isinstance(state, dict) or state.get("version") != STATE_VERSION:
            found = state.get("version") if isinstance(state, dict) else type(state).__name__
            raise InputError(f"sensor state has version {found}, expected {STATE_VERSION}: simulate anew")
        pixels = state["pixels"]
        size = (int(state["size"][0]), int(state["size"][1]))
        simulator = cls(
            configuration.build(SensorConfig, state["config"]),
            size,
            state["seed"],
            state["clip"],
            threads=threads,
            fields=broken_fields(pixels),
            recycle=recycle,
        )
        simulator._pixels.load(pixels)
        simulator.passes = int(state["passes"])
        simulator._t_ns = state["t_ns"]
        simulator._warned = bool(state["warned"])
        if state["previous"] is not None:
            simulator._previous = simulator._check(state["previous"]).copy()
        return simulator

    def _check(self, frame: Any) -> NDArray[Any]:
        check = check_log_frame if self.config.reads_logarithms else check_frame
        image = check(frame, self.size)
        self._pixels.require_light(image)
        return image

    @property
    def _divides(self) -> bool:
        return self.config.step_rate_hz is not None and self.config.substep

    def _carry_out(self, planned: PlannedStep, run: Callable[..., None]) -> None:
        """Set the pixels, or `run` them, once or in parts: see `_pass`."""
        image, t_ns, edges = planned.image, planned.t_ns, planned.edges
        if not edges:
            self._pixels.start(image, t_ns, first=self._t_ns is None)
            if self.watch is not None:
                self.watch(self, image, t_ns)
        elif len(edges) == 2:
            self._pass(image, *edges, False, run)
        else:
            self._divided_passes(image, edges, run)
        self._t_ns = t_ns
        self._warned |= planned.warned
        if self._divides:
            self._remember(image)

    def _remember(self, image: NDArray[Any]) -> None:
        """Keep a copy of the frame, in the same memory as the one before where that fits."""
        kept = self._previous
        if kept is None or kept.dtype != image.dtype:
            self._previous = image.copy()
        else:
            kept[...] = image

    def _edges(
        self, image: NDArray[Any], t0_ns: int, t1_ns: int, fields: FrameFields | None
    ) -> tuple[int, ...]:
        """The times between which the passes of an interval lie, nanoseconds."""
        parts = self._count_parts(t1_ns - t0_ns)
        if parts == 1:
            return t0_ns, t1_ns
        if fields is not None:
            raise InputError(
                f"random fields were given for an interval divided into {parts} passes, expected none: "
                "set substep to False or frames at step_rate_hz"
            )
        edges = tuple(t0_ns + (t1_ns - t0_ns) * part // parts for part in range(parts + 1))
        if any(b // 1000 == a // 1000 for a, b in itertools.pairwise(edges)):
            raise InputError(
                f"the interval of {t1_ns - t0_ns} ns divided into {parts} passes leaves one without a whole "
                "microsecond; lower step_rate_hz"
            )
        if not self.config.reads_logarithms:
            assert self._previous is not None
            for frame in (self._previous, image):
                _require_divisible(frame, self.config.float_full_scale)
        return edges

    def _divided_passes(self, image: NDArray[Any], edges: tuple[int, ...], run: Callable[..., None]) -> None:
        assert self._previous is not None
        parts = len(edges) - 1
        if self.config.reads_logarithms:
            before, rise, unit = self._previous, image - self._previous, np.float32(1)
        else:
            before = to_dn(self._previous, self.config.float_full_scale)
            rise = to_dn(image, self.config.float_full_scale) - before
            # The passes take floats in the scale of the caller's float frames.
            unit = np.float32(self.config.float_full_scale / 255.0)
        for part in range(1, parts):
            between = (before + rise * np.float32(part / parts)) * unit
            between.flags.writeable = False  # as that of every checked frame
            self._pass(between, edges[part - 1], edges[part], True, run)
        self._pass(image, edges[-2], edges[-1], False, run)

    def _pass(
        self, image: NDArray[Any], t0_ns: int, t1_ns: int, more: bool, run: Callable[..., None]
    ) -> None:
        """One pass; `run` is told the frame, its interval, and whether more passes of the step follow."""
        run(image, t0_ns, t1_ns, more)
        self.passes += 1
        if self.watch is not None:
            self.watch(self, image, t1_ns)

    def _count_parts(self, interval_ns: int) -> int:
        steps = interval_ns * 1e-9 * (self.config.step_rate_hz or 0.0)
        return max(1, round(steps)) if self._divides and steps >= 0.5 else 1

    def _warn_of_rate(self, interval_ns: int) -> bool:
        """Warn, once, of frames that come at another rate than the sensor was made for; True if it did."""
        rate = self.config.step_rate_hz
        if rate is None or self._warned:
            return False
        steps = interval_ns * 1e-9 * rate
        if steps >= 0.5 and (self.config.substep or steps < 1.5):
            return False
        warnings.warn(
            f"frames come every {interval_ns / 1e6:g} ms but the sensor was made for {rate:g} Hz; "
            "its filter and noise act per pass and will differ"
            + ("" if steps < 0.5 else " (substep is off)"),
            UserWarning,
            stacklevel=4,
        )
        return True

    def _to_events(self, parts: list[Columns]) -> Events:
        width, height = self.size
        if not parts:
            return Events.empty(width, height, labels=True)
        t, x, y, p, label = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts))
        return Events(t, x, y, p, width, height, 0, label)


def _check_size(size: tuple[int, int]) -> tuple[int, int]:
    try:
        width, height = (operator.index(side) for side in size)
    except (TypeError, ValueError):
        raise InputError(f"size = {size!r}, expected (width, height) in pixels") from None
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise InputError(f"size = {width}x{height}, expected sides of 1 to {LARGEST_SIDE} pixels")
    return width, height


def _check_time(t_ns: int, previous_ns: int | None) -> int:
    try:
        t_ns = operator.index(t_ns)
    except TypeError:
        raise InputError(
            f"frame time is {t_ns!r} ({type(t_ns).__name__}), expected whole nanoseconds: "
            "round(seconds * 1e9)"
        ) from None
    if previous_ns is None:
        return t_ns
    if t_ns <= previous_ns:
        raise InputError(
            f"frame time is {t_ns} ns after {previous_ns} ns, expected times that increase; "
            "make a new Simulator for another clip"
        )
    if t_ns // 1000 == previous_ns // 1000:
        raise InputError(
            f"frame times {previous_ns} ns and {t_ns} ns lie within one microsecond, expected at least one "
            "whole microsecond between: events are timed in microseconds"
        )
    return t_ns


def _require_divisible(frame: NDArray[Any], float_full_scale: float) -> None:
    """InputError for light between which float32 cannot interpolate."""
    if frame.dtype.kind != "f":
        return
    largest = float(frame.max())
    if max(largest, largest * dn_scale(frame, float_full_scale)) > LARGEST_DIVISIBLE:
        raise InputError(
            f"frame has a value of {largest:.3g} with float_full_scale = {float_full_scale:g}, which is too "
            "bright for frames to be interpolated; set float_full_scale to the value that means white"
        )


def _choose_threads(threads: int | None, size: tuple[int, int]) -> int:
    if threads is None:
        # Below some 65 thousand pixels starting the threads costs more than they save.
        return allowed_threads() if size[0] * size[1] > SMALL_SENSOR else 1
    if threads < 1:
        raise InputError(f"threads = {threads}, expected at least 1, or None for all cores")
    return threads
