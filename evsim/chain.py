"""One clip, from frames to events: frames -> upsample -> inverse ISP -> sensor, streaming, no files.

This is the only module that joins the rooms. `ClipSimulation` streams one clip interval by interval;
`simulate` is the short public form for arrays in memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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
from evsim.sensor import SensorConfig, Simulator
from evsim.upsample import Interpolator, UpsampleConfig, upsample

DEFAULT_PRESET = "sim2real"


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


class Step(NamedTuple):
    """What one frame of the upsampled clip brought.

    frame: the frame before the inverse ISP; `frame.source_index` tells source frames from interpolated ones.
    light: what the sensor saw, (H, W). events: of the interval that ends at this frame.
    """

    frame: Frame
    light: NDArray[Any]
    events: Events


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
    """The chain over one clip; iterating yields a `Step` for every frame of the upsampled clip.

    source: the clip. config: see `SimulationConfig`. seed, clip: decide every random draw.
    threads: of the sensor pass, None for all cores. interpolator: replaces the configured upsampling method.
    The first step has no events: K frames give K - 1 intervals.
    Raises ConfigError where the sensor expects logarithms and would get light, or the other way round.
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
        self._threads = threads
        self._interpolator = interpolator

    def __iter__(self) -> Iterator[Step]:
        self.clock = clock = StageClock()
        simulator = Simulator(
            self.config.sensor,
            (self.source.width, self.source.height),
            seed=self.seed,
            clip=self.clip,
            threads=self._threads,
        )
        decoded = _timed(iter(self.source), clock, "decode")
        dense = _timed(
            upsample(decoded, self.config.upsample, interpolator=self._interpolator),
            clock,
            "upsample",
            within="decode",
        )
        for frame in dense:
            started = time.perf_counter()
            light = self._light(frame, clock.frames)
            seen = time.perf_counter()
            events = simulator.step(light, frame.t_ns, cut=frame.cut)
            clock.seconds["isp"] += seen - started
            clock.seconds["sensor"] += time.perf_counter() - seen
            clock.count(frame, events)
            yield Step(frame, light, events)
        if clock.frames < 2:
            raise InputError(
                f"{self.source.name} gave {clock.frames} frame(s), expected at least 2: "
                "events need an interval"
            )

    def _light(self, frame: Frame, index: int) -> NDArray[Any]:
        config = self.config.isp
        noise_key = None if config.noise == "none" else frame_noise_key(self.seed, self.clip, index)
        return unprocess(frame.image, self.isp_parameters, config, self.source.transfer, noise_key=noise_key)


def _check_sensor_input(config: SimulationConfig, transfer: Transfer) -> None:
    """ConfigError unless the sensor reads what the inverse ISP hands it; only variant none keeps logs."""
    given = "log" if transfer == "log" and config.isp.variant == "none" else "linear"
    wanted = config.sensor.input
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
    if config is None:
        config = resolve(
            configuration.merge(read_preset(preset), configuration.parse_overrides(overrides)), seed, clip
        )
    elif overrides:
        config = resolve(
            configuration.merge(configuration.to_tree(config), configuration.parse_overrides(overrides)),
            seed,
            clip,
        )
    simulation = ClipSimulation(ArraySource(frames, times, transfer=transfer), config, seed=seed, clip=clip)
    return Events.concatenate(step.events for step in simulation)


def content_record(simulation: ClipSimulation) -> Tree:
    """What decides the events of a simulation, JSON-able: no path, worker, device, date or wall time."""
    return {
        "seed": simulation.seed,
        "clip": simulation.clip,
        **configuration.to_tree(simulation.config),
        "isp_parameters": simulation.isp_parameters.to_dict(),
    }
