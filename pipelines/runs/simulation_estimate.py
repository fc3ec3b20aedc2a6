"""What a run of simulations would take: counts from the clips' descriptions, time from a measured sample."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evsim.errors import EvsimError
from evsim.formats.native_writer import CHUNK
from evsim.media import open_source
from evsim.pipelines.runs.executors import Executor
from evsim.pipelines.runs.simulation_job import SimulationJob
from evsim.pipelines.simulate import StoredFrames, expected_frames, plan_clip

MEASURED_CLIPS = 3
STORED_BYTES_PER_EVENT, INDEX_ENTRY_BYTES = 14, 8


@dataclass(frozen=True)
class ClipSize:
    """How much a clip has to do, from the description of its source. frames: None where not known."""

    pixels: int
    source_frames: int | None
    frames: int | None
    image_bytes: int


@dataclass(frozen=True)
class ClipEstimate:
    """What the first frames of a clip took; `error` where it cannot be read."""

    clip: str
    pixels: int = 0
    events_per_frame: float = 0.0
    seconds_per_frame: float = 0.0
    error: str = ""


def estimate_simulation(jobs: Sequence[SimulationJob], executor: Executor) -> dict[str, Any]:
    """Names and values of what these jobs would take, and which clips are `unreadable`.

    The first frames of a few clips, spread over the run, are simulated by the executor itself: the estimates
    are theirs for each frame and pixel. Estimates are None where a clip does not tell how long it is. The
    start of workers is not counted.
    """
    sizes, unreadable = _measure(jobs)
    with contextlib.closing(executor.outcomes(estimate_clip, _spread(jobs, MEASURED_CLIPS))) as outcomes:
        found = [outcome.result for outcome in outcomes if outcome.result and not outcome.result.error]
    return {"unreadable": unreadable, **_totals(sizes, found, executor.workers)}


def estimate_clip(job: SimulationJob) -> ClipEstimate:
    """Simulate the first frames of a job without writing."""
    try:
        source = open_source(job.source, selection=job.config.selection, transfer=job.config.transfer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plan = plan_clip(source, job.config)
    except (EvsimError, OSError) as error:
        return ClipEstimate(job.name, error=" ".join(str(error).split()))
    return ClipEstimate(job.name, source.width * source.height, plan.events_per_frame, plan.seconds_per_frame)


def stored_event_bytes(events: float) -> int:
    """What events take in the file, with its index: columns grow by whole chunks."""
    chunks = math.ceil(events / CHUNK)
    return chunks * CHUNK * STORED_BYTES_PER_EVENT + CHUNK * INDEX_ENTRY_BYTES


def measure_size(job: SimulationJob) -> ClipSize:
    """Open the source of a job and say how much there is. Raises InputError."""
    source = open_source(job.source, selection=job.config.selection, transfer=job.config.transfer)
    pixels = source.width * source.height
    count = source.frame_count if source.frame_count is not None else source.frames_expected
    frames = expected_frames(source, job.config)
    stored = _stored_frames(job.config.frames, count, frames)
    return ClipSize(pixels, count, frames, (stored or 0) * pixels * source.channels)


def _stored_frames(which: StoredFrames, source_frames: int | None, frames: int | None) -> int | None:
    return {"none": 0, "source": source_frames, "all": frames}[which]


def _measure(jobs: Sequence[SimulationJob]) -> tuple[list[ClipSize], dict[str, str]]:
    sizes, unreadable = [], {}
    for job in jobs:
        try:
            sizes.append(measure_size(job))
        except (EvsimError, OSError) as error:
            unreadable[job.name] = " ".join(str(error).split())
    return sizes, unreadable


def _spread(jobs: Sequence[SimulationJob], count: int) -> list[SimulationJob]:
    """At most `count` jobs, evenly spread."""
    step = max(1, len(jobs) / count)
    return [jobs[int(k * step)] for k in range(min(count, len(jobs)))]


def _totals(sizes: Sequence[ClipSize], measured: Sequence[ClipEstimate], workers: int) -> dict[str, Any]:
    known = all(size.frames is not None for size in sizes)
    source_known = all(size.source_frames is not None for size in sizes)
    plan: dict[str, Any] = {
        "source_frames": sum(size.source_frames or 0 for size in sizes) if source_known else None,
        "upsampled_frames": sum(size.frames or 0 for size in sizes) if known else None,
        "workers": workers,
        "estimated_from_clips": [estimate.clip for estimate in measured],
        "estimated_events": None,
        "estimated_megabytes": None,
        "estimated_seconds": None,
    }
    pixels = sum(estimate.pixels for estimate in measured)
    if not known or not pixels:
        return plan
    frame_pixels = sum(size.pixels * (size.frames or 0) for size in sizes)
    rate = sum(estimate.events_per_frame for estimate in measured) / pixels
    events = [rate * size.pixels * (size.frames or 0) for size in sizes]
    seconds = frame_pixels * sum(estimate.seconds_per_frame for estimate in measured) / pixels
    stored = sum(map(stored_event_bytes, events)) + sum(size.image_bytes for size in sizes)
    return {
        **plan,
        "estimated_events": round(sum(events)),
        "estimated_megabytes": round(stored / 1e6, 1),
        "estimated_seconds": float(f"{seconds / max(1, min(workers, len(sizes))):.3g}"),
    }
