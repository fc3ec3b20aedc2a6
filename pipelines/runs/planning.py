"""What a run would take: counts and bytes from the clips' descriptions, time from a measured sample."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evsim.errors import EvsimError
from evsim.pipelines.runs.description import RunDescription
from evsim.pipelines.runs.executors import Executor, Serial
from evsim.pipelines.runs.jobs import Job, JobSize, Sample, measure_size, sample_job, stored_event_bytes
from evsim.pipelines.runs.run import RunOptions, list_work

SAMPLED_CLIPS = 3


def plan_run(
    description: RunDescription,
    path: Path,
    options: RunOptions | None = None,
    *,
    executor: Executor | None = None,
    sampled_clips: int = SAMPLED_CLIPS,
) -> dict[str, Any]:
    """Names and values of what `execute_run` would do; writes nothing.

    The first frames of a few clips, spread over the run, are simulated by the executor itself: the estimates
    are theirs for each frame and pixel. Estimates are None where a clip does not tell how long it is.
    """
    chosen_executor = executor or Serial()
    listed = list_work(description, path, options or RunOptions())
    sizes, unreadable = _measure(listed.todo)
    chosen = _spread(listed.todo, sampled_clips)
    with contextlib.closing(chosen_executor.outcomes(sample_job, chosen)) as outcomes:
        samples = [outcome.result for outcome in outcomes if outcome.result and not outcome.result.error]
    return {
        "output": str(path),
        "clips": len(listed.todo) + len(listed.skipped),
        "to_do": len(listed.todo),
        "skipped": len(listed.skipped),
        "redone": listed.reasons,
        "unreadable": unreadable,
        **_estimate(sizes, samples, chosen_executor.workers),
        "free_megabytes": round(_free_bytes(path) / 1e6, 1),
        "notes": list(listed.notes),
    }


def _measure(jobs: Sequence[Job]) -> tuple[list[JobSize], dict[str, str]]:
    sizes, unreadable = [], {}
    for job in jobs:
        try:
            sizes.append(measure_size(job))
        except (EvsimError, OSError) as error:
            unreadable[job.clip] = " ".join(str(error).split())
    return sizes, unreadable


def _spread(jobs: Sequence[Job], count: int) -> list[Job]:
    """At most `count` jobs, evenly spread."""
    step = max(1, len(jobs) / count)
    return [jobs[int(k * step)] for k in range(min(count, len(jobs)))]


def _estimate(sizes: Sequence[JobSize], samples: Sequence[Sample], workers: int) -> dict[str, Any]:
    known = all(size.frames is not None for size in sizes)
    source_known = all(size.source_frames is not None for size in sizes)
    plan: dict[str, Any] = {
        "source_frames": sum(size.source_frames or 0 for size in sizes) if source_known else None,
        "upsampled_frames": sum(size.frames or 0 for size in sizes) if known else None,
        "workers": workers,
        "estimated_from_clips": [sample.clip for sample in samples],
        "estimated_events": None,
        "estimated_megabytes": None,
        "estimated_seconds": None,
    }
    measured = sum(sample.pixels for sample in samples)
    if not known or not measured:
        return plan
    frame_pixels = sum(size.pixels * (size.frames or 0) for size in sizes)
    rate = sum(sample.events_per_frame for sample in samples) / measured
    events = [rate * size.pixels * (size.frames or 0) for size in sizes]
    seconds = frame_pixels * sum(sample.seconds_per_frame for sample in samples) / measured
    stored = sum(map(stored_event_bytes, events)) + sum(size.image_bytes for size in sizes)
    return {
        **plan,
        "estimated_events": round(sum(events)),
        "estimated_megabytes": round(stored / 1e6, 1),
        "estimated_seconds": float(f"{seconds / max(1, min(workers, len(sizes))):.3g}"),
    }


def _free_bytes(path: Path) -> int:
    existing = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free
