"""One clip to one event file: the job behind `evsim simulate`.

A job is pure: inputs + configuration + seed -> one output. The file appears complete or not at all; the
resolved configuration is written beside it and can be fed back.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from evsim import configuration
from evsim.chain import DEFAULT_PRESET, ClipSimulation, SimulationConfig, content_record, read_preset
from evsim.configuration import Tree, check_choices, require_range
from evsim.errors import InputError
from evsim.files import atomic_output, require_absent
from evsim.formats import create_events, format_for
from evsim.isp import IspParameters
from evsim.media import Frame, FrameSource, Selection, Transfer
from evsim.progress import Report

StoredFrames = Literal["source", "all", "none"]


@dataclass(frozen=True, kw_only=True)
class ClipJob(SimulationConfig):
    """The full, repeatable description of one simulated clip, apart from where its input lies."""

    seed: int = 0
    """Decides every random draw."""
    clip: str = ""
    """POSIX path relative to the data set's root; empty for a single video."""
    selection: Selection = field(default_factory=Selection)
    """Which part of the clip, and how its times are read."""
    transfer: Transfer | None = None
    """What the code values mean; as the file says where absent."""
    frames: StoredFrames = "source"
    """Which frames are stored with the events."""

    def __post_init__(self) -> None:
        check_choices(self)
        require_range("seed", self.seed, -(2**63), 2**63 - 1)


@dataclass(frozen=True)
class ClipResult:
    """What a finished job wrote.

    seconds: per stage, and in total under `total`. files: SHA-256 of every file that the upsampling method
    loaded, by name.
    """

    output: Path
    configuration: Path
    width: int
    height: int
    source_frames: int
    frames: int
    cuts: int
    duration_s: float
    events: int
    on_events: int
    labels: dict[str, int]
    seconds: dict[str, float]
    files: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Names and values to print."""
        return {
            "output": str(self.output),
            "configuration": str(self.configuration),
            "size": f"{self.width}x{self.height}",
            "source_frames": self.source_frames,
            "frames": self.frames,
            "intervals": max(self.frames - 1, 0),
            "scene_cuts": self.cuts,
            "duration_s": self.duration_s,
            "events": self.events,
            "on_share": self.on_events / self.events if self.events else None,
            "mean_rate_hz": self.events / self.duration_s if self.duration_s else None,
            "labels": self.labels,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            **({"files": dict(self.files)} if self.files else {}),
        }


def compose(
    *,
    preset: str | None = None,
    config_file: Path | None = None,
    overrides: tuple[str, ...] = (),
    job: Tree | None = None,
) -> ClipJob:
    """The job of a preset, a file, ``field=value`` overrides and explicit options; later ones win.

    job: explicit options as a tree of `ClipJob` fields. Draws are resolved for the job's seed and clip.
    Raises ConfigError that names the field.
    """
    tree = layered_tree(
        read_preset(preset or DEFAULT_PRESET),
        configuration.read_file(config_file) if config_file else {},
        configuration.parse_overrides(overrides),
        job or {},
    )
    return resolve_job(tree)


def layered_tree(*layers: Tree) -> Tree:
    """The layers over one another, later ones winning field by field; draws stay unresolved."""
    return functools.reduce(configuration.merge, layers)


def resolve_job(tree: Tree) -> ClipJob:
    """The job that a tree stands for, its draws made for its seed and clip. Raises ConfigError."""
    identity = configuration.build(ClipJob, {name: tree[name] for name in ("seed", "clip") if name in tree})
    return configuration.build(ClipJob, configuration.resolve_draws(tree, identity.seed, identity.clip))


def simulate_clip(
    source: FrameSource,
    output: Path,
    job: ClipJob,
    *,
    threads: int | None = None,
    overwrite: bool = False,
    compression: str | None = None,
    report: Report | None = None,
) -> ClipResult:
    """Simulate `source` and write `output` (format by suffix) with its configuration beside it.

    compression: of formats that have the option. report: called with (frames done, frames expected or
    None, a few words) after every frame.
    Raises InputError for an input or output that cannot be used, RunError when the disk is full.
    """
    require_absent(output, overwrite=overwrite)
    started = time.perf_counter()
    simulation = ClipSimulation(source, job, seed=job.seed, clip=job.clip, threads=threads)
    record = {**content_record(simulation), "transfer": source.transfer}
    options = {} if compression is None else {"compression": compression}
    times = _write(simulation, output, job, record, overwrite, report, options)
    clock = simulation.clock
    beside = write_configuration(job, output, simulation.isp_parameters, simulation.files)
    total = time.perf_counter() - started
    seconds = {**clock.seconds, "write": total - sum(clock.seconds.values()), "total": total}
    return ClipResult(
        output=output,
        configuration=beside,
        width=source.width,
        height=source.height,
        source_frames=clock.source_frames,
        frames=clock.frames,
        cuts=clock.cuts,
        duration_s=(times[1] - times[0]) / 1e9,
        events=clock.events,
        on_events=clock.on_events,
        labels=clock.labels,
        seconds=seconds,
        files=simulation.files,
    )


def _write(
    simulation: ClipSimulation,
    output: Path,
    job: ClipJob,
    record: Tree,
    overwrite: bool,
    report: Report | None,
    options: Tree,
) -> tuple[int, int]:
    """Stream the simulation into the file; returns the times of the first and the last frame."""
    source, target = simulation.source, format_for(output)
    expected = expected_frames(source, job)
    first = last = None
    with create_events(
        output,
        source.width,
        source.height,
        format=target.name,
        labels=target.labels,
        seed=job.seed,
        config=record,
        overwrite=overwrite,
        **options,
    ) as writer:
        for step in simulation:
            first, last = (step.frame.t_ns if first is None else first), step.frame.t_ns
            writer.append(step.events)
            if target.images and _is_stored(step.frame, job.frames):
                writer.append_image(to_8_bit(step.frame.image), step.frame.t_ns / 1000)
            if report:
                report(simulation.clock.frames, expected, f"{simulation.clock.events:,} events")
    assert first is not None
    assert last is not None
    return first, last


def _is_stored(frame: Frame, which: StoredFrames) -> bool:
    return which == "all" or (which == "source" and frame.source_index is not None)


def to_8_bit(image: NDArray[Any]) -> NDArray[np.uint8]:
    """The 8-bit code values of a frame; uint16 and float32 (full scale 1.0) are rounded to nearest."""
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return ((image.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return np.rint(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)


def expected_frames(source: FrameSource, job: SimulationConfig) -> int | None:
    """How many upsampled frames will come, or None where only the clip's motion or end can tell."""
    count = source.frame_count if source.frame_count is not None else getattr(source, "frames_expected", None)
    if count is None or job.upsample.adaptive:
        return None
    factor = 1 if job.upsample.method == "none" else job.upsample.factor
    return (count - 1) * factor + 1


def write_configuration(
    job: ClipJob,
    output: Path,
    drawn: IspParameters | None = None,
    files: Mapping[str, str] | None = None,
) -> Path:
    """Write the resolved configuration beside `output` as ``<stem>.config.yaml``; `compose` reads it.

    drawn: the camera of the clip, recorded in comments: the seed decides it again. files: SHA-256 of every
    file that was loaded, by name, likewise.
    """
    path = output.with_name(f"{output.stem}.config.yaml")
    text = yaml.safe_dump(configuration.to_tree(job), sort_keys=False)
    if drawn is not None and job.isp.variant != "none":
        camera = yaml.safe_dump({"isp_parameters": drawn.to_dict()}, sort_keys=False, default_flow_style=None)
        text += "".join(f"# {line}\n" for line in ("Drawn once for this clip:", *camera.splitlines()))
    if files:
        lines = (f"{name}: {checksum}" for name, checksum in sorted(files.items()))
        text += "".join(f"# {line}\n" for line in ("SHA-256 of the files that were loaded:", *lines))
    with atomic_output(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


@dataclass(frozen=True)
class ClipPlan:
    """What a job would do, from the description of its source and a measured sample of its first frames."""

    source: dict[str, Any]
    frames: int | None
    sampled_frames: int
    events_per_frame: float
    seconds_per_frame: float
    bytes_per_event: int = 13

    def summary(self) -> dict[str, Any]:
        """Names and values to print; estimates are None where the number of frames is not known."""
        events = None if self.frames is None else int(self.events_per_frame * (self.frames - 1))
        return {
            "source": self.source,
            "upsampled_frames": self.frames,
            "estimated_from_frames": self.sampled_frames,
            "estimated_events": events,
            "estimated_megabytes": None if events is None else round(events * self.bytes_per_event / 1e6, 1),
            "estimated_seconds": None
            if self.frames is None
            else round(self.frames * self.seconds_per_frame, 1),
        }


def plan_clip(source: FrameSource, job: ClipJob, *, sample_source_frames: int = 4) -> ClipPlan:
    """Simulate the first few source frames without writing, and say what the whole clip would take.

    The first source interval is left out of the timing: it pays for compilation and first use.
    """
    simulation = ClipSimulation(source, job, seed=job.seed, clip=job.clip)
    marks = []
    for step in _first_source_frames(simulation, sample_source_frames):
        if step.source_index is not None:
            marks.append((time.perf_counter(), simulation.clock.frames, simulation.clock.events))
    if len(marks) < 2:
        raise InputError(
            f"{source.name} gave {len(marks)} frame, expected at least 2: events need an interval"
        )
    (start, frames0, events0), (stop, frames1, events1) = marks[1 if len(marks) > 2 else 0], marks[-1]
    describe = getattr(source, "describe", dict)
    return ClipPlan(
        source=describe(),
        frames=expected_frames(source, job),
        sampled_frames=frames1,
        events_per_frame=(events1 - events0) / (frames1 - frames0),
        seconds_per_frame=(stop - start) / (frames1 - frames0),
    )


def _first_source_frames(simulation: ClipSimulation, count: int) -> Iterator[Frame]:
    for step in simulation:
        yield step.frame
        if step.frame.source_index is not None and step.frame.source_index >= count - 1:
            return
