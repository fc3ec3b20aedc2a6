"""One clip, from frames to events: frames -> upsample -> inverse ISP -> sensor, streaming, no files.

This is the only module that joins the rooms. `ClipSimulation` streams one clip interval by interval;
`simulate` is the short public form for arrays in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim import configuration
from evsim.configuration import Tree
from evsim.errors import ConfigError, InputError
from evsim.events import LABEL_NAMES, Events
from evsim.isp import IspConfig, IspParameters, draw_parameters, frame_noise_key, unprocess
from evsim.media import ArraySource, Frame, FrameSource, Transfer
from evsim.registry import nearest
from evsim.represent import VOXEL_RULES, placement_in_window
from evsim.represent.rules import Polarity
from evsim.represent.voxels import channels
from evsim.sensor import EventSum, SensorConfig, Simulator
from evsim.upsample import Interpolator, UpsampleConfig, decided_by, make_interpolator, upsample

DEFAULT_PRESET = "sim2real"
COLOR_PATTERN = "RGGB"
"""Of the mosaic that `isp.grey: bayer` makes; the events of such a clip carry it."""


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """Everything that decides which events a clip gives, beside the clip and the seed."""

    upsample: UpsampleConfig = field(default_factory=UpsampleConfig)
    """More frames per second."""
    isp: IspConfig = field(default_factory=IspConfig)
    """From code values to light."""
    sensor: SensorConfig = field(default_factory=SensorConfig)
    """From light to events."""


def preset_names() -> list[str]:
    """Names of the presets that ship with evsim."""
    folder = resources.files("evsim") / "presets"
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def read_preset(name: str) -> Tree:
    """The tree of a preset, draws unresolved. Raises ConfigError with the nearest name for an unknown one."""
    names = preset_names()
    if name not in names:
        raise ConfigError(f"unknown preset {name!r}{nearest(name, names)}; known: {', '.join(names)}")
    with resources.as_file(resources.files("evsim") / "presets" / f"{name}.yaml") as path:
        return configuration.read_file(path)


def resolve(tree: Tree, seed: int, clip: str) -> SimulationConfig:
    """The typed configuration of one clip: draws are made, fields and ranges checked (ConfigError)."""
    return configuration.build(SimulationConfig, configuration.resolve_draws(tree, seed, clip))


class SimulatedFrame(NamedTuple):
    """What one frame of the upsampled clip brought.

    frame: the frame before the inverse ISP; `frame.source_index` tells source frames from interpolated ones.
    light: what the sensor saw, (H, W). events: of the interval that ends at this frame.
    """

    frame: Frame
    light: NDArray[Any]
    events: Events


class SimulatedInterval(NamedTuple):
    """What the time between two source frames brought.

    frame: the frame that ends it, before the inverse ISP. target: what `make` gave for it, with its events
    added. events: how many.
    """

    frame: Frame
    target: EventSum
    events: int


@dataclass
class StageClock:
    """Seconds spent in each stage and the counts they processed, while a clip streams."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("decode", "upsample", "isp", "sensor"), 0.0)
    )
    source_frames: int = 0
    frames: int = 0
    cuts: int = 0
    events: int = 0
    on_events: int = 0
    labels: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LABEL_NAMES.values(), 0))

    def count(self, frame: Frame, events: Events) -> None:
        """Add one step."""
        self.frames += 1
        self.source_frames += frame.source_index is not None
        self.cuts += frame.cut
        self.events += len(events)
        self.on_events += int(np.count_nonzero(events.p))
        if events.label is not None:
            for value, total in enumerate(np.bincount(events.label, minlength=len(LABEL_NAMES))):
                self.labels[LABEL_NAMES[value]] += int(total)


class ClipSimulation:
    """The chain over one clip; iterating yields a `SimulatedFrame` for every frame of the upsampled clip.

    source: the clip. config: see `SimulationConfig`. seed, clip: decide every random draw.
    threads: of the sensor pass, None for all cores. interpolator: used instead of one that would be made as
    the configuration says, such as one that is there already and has the weights loaded.
    watch: may be set; called by the sensor after every pass, see `Simulator`.
    The first step has no events: K frames give K - 1 intervals.
    Raises ConfigError where the sensor expects logarithms and would get light, or the other way round;
    InputError for weights of an upsampling method that cannot be used.
    """

    def __init__(
        self,
        source: FrameSource,
        config: SimulationConfig,
        *,
        seed: int = 0,
        clip: str = "",
        threads: int | None = None,
        interpolator: Interpolator | None = None,
    ) -> None:
        _check_sensor_input(config, source.transfer)
        self.source = source
        self.config = config
        self.seed = seed
        self.clip = clip
        self.clock = StageClock()
        self.isp_parameters: IspParameters = draw_parameters(config.isp, seed, clip)
        self.watch: Callable[[Simulator, NDArray[Any], int], None] | None = None
        self._threads = threads
        self._interpolator = interpolator or make_interpolator(config.upsample)
        self._read_ns = 0

    @property
    def files(self) -> Mapping[str, str]:
        """SHA-256 of every file that the upsampling method has loaded, by name."""
        return {} if self._interpolator is None else self._interpolator.files

    def __iter__(self) -> Iterator[SimulatedFrame]:
        simulator, clock = self._simulator(), self.clock
        for frame, light in self._lit_frames():
            started = time.perf_counter()
            events = simulator.step(light, frame.t_ns, cut=frame.cut)
            if self._sees_colors(frame):
                events = replace(events, color_pattern=COLOR_PATTERN)
            clock.seconds["sensor"] += time.perf_counter() - started
            clock.count(frame, events)
            yield SimulatedFrame(frame, light, events)
        self._require_intervals()

    def intervals(self, make: Callable[[int, int], EventSum]) -> Iterator[SimulatedInterval]:
        """A `SimulatedInterval` for every two consecutive source frames, its events added up, not listed.

        make: called with the times of both frames, nanoseconds, before the first event; gives what the events
        between them are added to (`voxel_target`, `count_target`). `clock` counts frames and events, not
        polarities and labels.
        """
        simulator, clock = self._simulator(), self.clock
        target: EventSum | None = None
        total, begun_ns = 0, 0
        for frame, light in self._lit_frames():
            started = time.perf_counter()
            if clock.frames == 0:
                simulator.step(light, frame.t_ns)
            else:
                # The upsampler has read the frame that ends the interval before it gives the first between.
                target = target or make(begun_ns, self._read_ns)
                total += simulator.add(light, frame.t_ns, target, cut=frame.cut)
            clock.seconds["sensor"] += time.perf_counter() - started
            clock.frames += 1
            clock.cuts += frame.cut
            if frame.source_index is None:
                continue
            clock.source_frames += 1
            clock.events += total
            if target is not None:
                yield SimulatedInterval(frame, target, total)
            target, total, begun_ns = None, 0, frame.t_ns
        self._require_intervals()

    def _simulator(self) -> Simulator:
        self.clock = StageClock()
        size = (self.source.width, self.source.height)
        simulator = Simulator(self.config.sensor, size, seed=self.seed, clip=self.clip, threads=self._threads)
        simulator.watch = self.watch
        return simulator

    def _lit_frames(self) -> Iterator[tuple[Frame, NDArray[Any]]]:
        """Every frame of the upsampled clip, and what the sensor sees of it."""
        clock = self.clock
        decoded = self._note_times(_timed(iter(self.source), clock, "decode"))
        dense = _timed(
            upsample(decoded, self.config.upsample, interpolator=self._interpolator),
            clock,
            "upsample",
            within="decode",
        )
        for frame in dense:
            started = time.perf_counter()
            light = self._light(frame, clock.frames)
            clock.seconds["isp"] += time.perf_counter() - started
            yield frame, light

    def _note_times(self, decoded: Iterator[Frame]) -> Iterator[Frame]:
        for frame in decoded:
            self._read_ns = frame.t_ns
            yield frame

    def _require_intervals(self) -> None:
        if self.clock.frames < 2:
            raise InputError(
                f"{self.source.name} gave {self.clock.frames} frame(s), expected at least 2: "
                "events need an interval"
            )

    def _sees_colors(self, frame: Frame) -> bool:
        """Whether each pixel saw the light of its own colour filter."""
        config = self.config.isp
        return config.grey_rule == "bayer" and (frame.image.ndim == 3 or config.is_camera)

    def _light(self, frame: Frame, index: int) -> NDArray[Any]:
        config = self.config.isp
        noise_key = None if config.noise == "none" else frame_noise_key(self.seed, self.clip, index)
        try:
            return unprocess(
                frame.image, self.isp_parameters, config, self.source.transfer, noise_key=noise_key
            )
        except InputError as error:
            raise InputError(f"{self.source.name} at {frame.t_ns / 1e9:g} s: {error}") from error


def _check_sensor_input(config: SimulationConfig, transfer: Transfer) -> None:
    """ConfigError unless the sensor reads what the inverse ISP hands it; only variant none keeps logs."""
    given = "log" if transfer == "log" and config.isp.variant == "none" else "linear"
    wanted = "log" if config.sensor.reads_logarithms else "linear"
    if wanted != given:
        mend = "set sensor.input to linear"
        if given == "log":
            mend = "set sensor.input to log (models v2e and idslpf) or isp.variant to linearize"
        raise ConfigError(
            f"sensor.input = {wanted}, but frames of transfer {transfer} after isp.variant "
            f"{config.isp.variant} are {given}: {mend}"
        )


def _timed(
    frames: Iterable[Frame], clock: StageClock, stage: str, *, within: str | None = None
) -> Iterator[Frame]:
    """Pass frames on and add the time each took to `stage`, less what `within`, called from it, added."""
    iterator = iter(frames)
    while True:
        inner = clock.seconds[within] if within else 0.0
        started = time.perf_counter()
        frame = next(iterator, None)
        spent = time.perf_counter() - started
        clock.seconds[stage] += spent - ((clock.seconds[within] - inner) if within else 0.0)
        if frame is None:
            return
        yield frame


def simulate(
    frames: NDArray[Any] | Sequence[NDArray[Any]],
    times: NDArray[np.int64] | Sequence[int] | float,
    *,
    preset: str = DEFAULT_PRESET,
    config: SimulationConfig | None = None,
    overrides: Sequence[str] = (),
    seed: int = 0,
    clip: str = "",
    transfer: Transfer = "srgb",
) -> Events:
    """The events that a sensor would give for a clip in memory.

    frames: (T, H, W) grey or (T, H, W, 3) RGB, uint8, uint16 or float with full scale 1.0.
    times: int64[T] nanoseconds, or one number, the frame rate in hertz.
    preset: a name of `preset_names()`; overrides: such as ``["sensor.cutoff_hz=200"]``; or a whole `config`.
    seed, clip: decide every random draw. transfer: what the code values mean.

    Raises InputError for frames or times that cannot be used, ConfigError for a wrong field.
    """
    config = _configuration(preset, config, overrides, seed, clip)
    simulation = ClipSimulation(ArraySource(frames, times, transfer=transfer), config, seed=seed, clip=clip)
    return Events.concatenate(step.events for step in simulation)


def voxel_target(
    size: tuple[int, int], bins: int, *, rule: str = "e2vid", polarity: Polarity | None = None
) -> Callable[[int, int], EventSum]:
    """For `ClipSimulation.intervals`: float32 (channels, H, W) voxel grids of the intervals.

    size: (width, height). rule, polarity: of `evsim.represent.voxel_grid`, to whose grid of the listed events
    with window=(t0, t1) each is equal up to rounding. Raises InputError for unknown names and for rules that
    need the events (ner, which is zero for fewer than three).
    """
    if VOXEL_RULES[rule].minimum_events > 1:
        raise InputError(
            f"rule {rule!r} gives zeros for fewer than {VOXEL_RULES[rule].minimum_events} events, which only "
            "listed events tell; choose another, or list them"
        )
    width, height = size
    planes = channels(bins, polarity or VOXEL_RULES[rule].polarity)

    def make(t0_ns: int, t1_ns: int) -> EventSum:
        window = (t0_ns / 1000, t1_ns / 1000)
        placement, layout = placement_in_window(rule, bins, window, polarity=polarity)
        return EventSum(np.zeros((planes, height, width), np.float32), bins, placement, layout, window)

    return make


def count_target(size: tuple[int, int]) -> Callable[[int, int], EventSum]:
    """For `ClipSimulation.intervals`: int32 (2, H, W), ON and OFF events of each pixel in each interval."""
    return lambda t0_ns, t1_ns: EventSum.counts(np.zeros((2, *size[::-1]), np.int32))


def simulate_voxels(
    frames: NDArray[Any] | Sequence[NDArray[Any]],
    times: NDArray[np.int64] | Sequence[int] | float,
    bins: int,
    *,
    rule: str = "e2vid",
    polarity: Polarity | None = None,
    preset: str = DEFAULT_PRESET,
    config: SimulationConfig | None = None,
    overrides: Sequence[str] = (),
    seed: int = 0,
    clip: str = "",
    transfer: Transfer = "srgb",
) -> NDArray[np.float32]:
    """float32 (T - 1, channels, H, W): a voxel grid for every two consecutive frames of a clip in memory.

    The events are those of `simulate` with the same arguments; they are added up and never listed. rule,
    polarity: see `voxel_target`; bins span the interval between the frames. Raises as `simulate`.
    """
    chosen = _configuration(preset, config, overrides, seed, clip)
    source = ArraySource(frames, times, transfer=transfer)
    make = voxel_target((source.width, source.height), bins, rule=rule, polarity=polarity)
    simulation = ClipSimulation(source, chosen, seed=seed, clip=clip)
    return np.stack([interval.target.out for interval in simulation.intervals(make)])


def _configuration(
    preset: str, config: SimulationConfig | None, overrides: Sequence[str], seed: int, clip: str
) -> SimulationConfig:
    """A preset or a whole configuration, with overrides."""
    if config is not None and not overrides:
        return config
    tree = read_preset(preset) if config is None else configuration.to_tree(config)
    return resolve(configuration.merge(tree, configuration.parse_overrides(overrides)), seed, clip)


def content_record(simulation: ClipSimulation) -> Tree:
    """What decides the events of a simulation, JSON-able: no path, worker, device, date or wall time."""
    tree = configuration.to_tree(simulation.config)
    return {
        "seed": simulation.seed,
        "clip": simulation.clip,
        **tree,
        "upsample": decided_by(tree["upsample"], simulation.files),
        "isp_parameters": simulation.isp_parameters.to_dict(),
    }
