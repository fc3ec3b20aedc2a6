"""One pixel's signals through the chain: the work behind `evsim view --pixel`.

A file that evsim simulated holds its source frames, its configuration and its seed, so the chain runs again
from the file alone; from a clip it runs as `evsim simulate` would run it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim import configuration
from evsim.chain import ClipSimulation
from evsim.errors import InputError
from evsim.events import SHOT_NOISE, Events
from evsim.files import atomic_output
from evsim.formats import Recording
from evsim.media import ArraySource, FrameSource
from evsim.pipelines.simulate import ClipJob
from evsim.sensor import Simulator
from evsim.view.pixel import PixelTrace, pixel_plot

PLOTS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class PixelClip:
    """A clip and how it is simulated. recorded: the events of the pixel that a file of it holds, or None."""

    source: FrameSource
    job: ClipJob
    recorded: Events | None = None


def recorded_clip(recording: Recording, pixel: tuple[int, int]) -> PixelClip:
    """The clip that a simulated event file was made from, out of the file itself.

    Raises InputError for a file that does not hold its configuration or its source frames.
    """
    described = recording.attributes.get("config")
    if isinstance(described, str):
        described = json.loads(described)
    if not isinstance(described, dict) or "sensor" not in described:
        raise InputError(
            f"{recording.path} does not say how it was simulated; give the video or folder it was made from, "
            "with --preset or --config"
        )
    fields = {name: value for name, value in described.items() if name not in ("isp_parameters", "transfer")}
    job = configuration.build(ClipJob, fields)
    images = list(recording.images()) if job.frames == "source" else []
    if len(images) < 2:
        raise InputError(
            f"{recording.path} holds no source frames (frames: {job.frames}); give the video or folder it "
            f"was made from, with --config {recording.path.stem}.config.yaml"
        )
    times = np.array([round(image.t_us * 1000) for image in images], np.int64)
    source = ArraySource(
        [image.image for image in images], times, described.get("transfer") or "srgb", str(recording.path)
    )
    return PixelClip(source, job, _at(recording.events(), pixel))


def trace_pixel(simulation: ClipSimulation, pixel: tuple[int, int]) -> PixelTrace:
    """Simulate a clip and keep what pixel (x, y) goes through. Raises InputError for one outside."""
    x, y = pixel
    width, height = simulation.source.width, simulation.source.height
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(
            f"pixel {x},{y} lies outside the sensor of {width}x{height}, expected 0,0 to "
            f"{width - 1},{height - 1}"
        )
    samples: list[tuple[float, ...]] = []

    def keep(simulator: Simulator, frame: NDArray[Any], t_ns: int) -> None:
        found = simulator.probe_pixel(x, y, frame)
        samples.append((t_ns / 1000, *(found[name] for name in SIGNALS)))

    simulation.watch = keep
    events = Events.concatenate(_at(step.events, pixel) for step in simulation)
    columns = np.array(samples, np.float64).T
    sensor = simulation.config.sensor
    return PixelTrace(
        x=x,
        y=y,
        t_us=columns[0],
        **dict(zip(SIGNALS, columns[1:])),
        events=events,
        leaks=sensor.uses("leak_rate_hz"),
        one_scale=sensor.compares_log_intensity,
    )


SIGNALS = ("light", "log_intensity", "filtered", "reference", "threshold_on", "threshold_off")


def view_pixel(
    clip: PixelClip,
    output: Path,
    pixel: tuple[int, int],
    *,
    start_s: float | None = None,
    stop_s: float | None = None,
    threads: int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Plot one pixel of a clip (.png, .svg, .pdf); returns names and values to print.

    start_s, stop_s: of the plot, seconds on the clip's clock; the whole clip is simulated all the same.
    `agrees_with_file` says whether the events of a file are those that the chain gives now.
    """
    if output.suffix.lower() not in PLOTS:
        raise InputError(f"{output} has suffix {output.suffix!r}, expected one of {', '.join(PLOTS)}")
    job = clip.job
    simulation = ClipSimulation(clip.source, job, seed=job.seed, clip=job.clip, threads=threads)
    trace = trace_pixel(simulation, pixel)
    agrees = None if clip.recorded is None else _same(trace.events, clip.recorded)
    shown = _within(trace, start_s, stop_s)
    name = Path(clip.source.name).name
    shown = replace(shown, title=f"{name}: pixel ({trace.x}, {trace.y}), model {job.sensor.model}")
    with atomic_output(output, overwrite=overwrite) as temporary:
        pixel_plot(shown).savefig(temporary, dpi=130)
    label = shown.events.label
    noise = 0 if label is None else int((label == SHOT_NOISE).sum())
    result = {
        "output": str(output),
        "kind": "pixel",
        "pixel": f"{trace.x},{trace.y}",
        "passes": len(shown.t_us) - 1,
        "events": len(shown.events),
        "on": int(shown.events.p.sum()),
        "noise": noise,
    }
    return result if agrees is None else {**result, "agrees_with_file": agrees}


def _at(events: Events, pixel: tuple[int, int]) -> Events:
    return events[(events.x == pixel[0]) & (events.y == pixel[1])]


def _same(first: Events, second: Events) -> bool:
    return np.array_equal(first.t, second.t) and np.array_equal(first.p, second.p)


def _within(trace: PixelTrace, start_s: float | None, stop_s: float | None) -> PixelTrace:
    start = -np.inf if start_s is None else start_s * 1e6
    stop = np.inf if stop_s is None else stop_s * 1e6
    kept = (trace.t_us >= start) & (trace.t_us <= stop)
    if kept.sum() < 2:
        raise InputError(
            f"nothing to plot from {start_s} to {stop_s} s, expected times within {trace.t_us[0] / 1e6:g}.."
            f"{trace.t_us[-1] / 1e6:g} s"
        )
    times = trace.t_us[kept]
    events = trace.events[(trace.events.t > times[0]) & (trace.events.t <= times[-1])]
    signals = {name: getattr(trace, name)[kept] for name in SIGNALS}
    return replace(trace, t_us=times, events=events, **signals)
