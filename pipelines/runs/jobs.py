"""The job of a run: one clip and its configuration to one event file and one record."""

from __future__ import annotations

import dataclasses
import errno
import math
import shutil
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evsim import configuration
from evsim.configuration import Tree
from evsim.errors import EvsimError, RunError
from evsim.files import file_sha256
from evsim.formats.native_writer import CHUNK
from evsim.isp import draw_parameters
from evsim.media import open_source
from evsim.pipelines.runs.fingerprint import content_fingerprint, stated_fingerprint
from evsim.pipelines.runs.manifest import JobRecord
from evsim.pipelines.simulate import (
    ClipJob,
    ClipResult,
    StoredFrames,
    expected_frames,
    plan_clip,
    simulate_clip,
)

STORED_BYTES_PER_EVENT, INDEX_ENTRY_BYTES = 14, 8
LEAST_FREE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Job:
    """One clip of a run.

    source: the clip. output: the event file; output_name: its POSIX path inside the run folder.
    config: what decides the content. drawn: the fields of `config` that were drawn, by their full names.
    threads: of the sensor pass, None for all cores.
    """

    clip: str
    source: Path
    output: Path
    output_name: str
    config: ClipJob
    drawn: Tree = dataclasses.field(default_factory=dict)
    threads: int | None = None

    @property
    def beside(self) -> Path:
        """The configuration file that is written beside the output."""
        return self.output.with_name(f"{self.output.stem}.config.yaml")

    def fingerprint(self) -> str:
        """Of configuration, and size and modification time of the inputs. Raises InputError."""
        return stated_fingerprint(configuration.to_tree(self.config), self.source)

    def content(self) -> str:
        """Of configuration, and content of the inputs. Raises InputError."""
        return content_fingerprint(configuration.to_tree(self.config), self.source)


def run_job(job: Job) -> JobRecord:
    """Simulate the clip of a job; a failure comes back as a record too, and leaves no output."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            record = _simulate(job)
        return dataclasses.replace(record, notes=tuple(_sentences(caught)))
    except Exception as error:
        job.output.unlink(missing_ok=True)
        job.beside.unlink(missing_ok=True)
        ours = isinstance(error, (EvsimError, OSError))
        return JobRecord(
            clip=job.clip,
            status="failed",
            output=job.output_name,
            error=" ".join(str(error).split()) if ours else f"{type(error).__name__}: {error}",
            traceback="" if ours else traceback.format_exc(),
            stops_run=disk_is_full(error, job.output.parent),
            finished=now(),
        )


def _simulate(job: Job) -> JobRecord:
    fingerprint = job.fingerprint()
    source = open_source(job.source, selection=job.config.selection, transfer=job.config.transfer)
    result = simulate_clip(source, job.output, job.config, threads=job.threads, overwrite=True)
    content = job.content()
    if job.fingerprint() != fingerprint:
        raise RunError(f"{job.source} changed while it was read; run again when it is complete")
    return _record(job, result, fingerprint, content)


def _record(job: Job, result: ClipResult, fingerprint: str, content: str) -> JobRecord:
    drawn = draw_parameters(job.config.isp, job.config.seed, job.config.clip)
    return JobRecord(
        clip=job.clip,
        status="done",
        output=job.output_name,
        fingerprint=fingerprint,
        content=content,
        bytes=result.output.stat().st_size,
        checksum=file_sha256(result.output),
        width=result.width,
        height=result.height,
        source_frames=result.source_frames,
        frames=result.frames,
        cuts=result.cuts,
        duration_s=result.duration_s,
        events=result.events,
        on_events=result.on_events,
        labels=result.labels,
        parameters={"isp": dataclasses.asdict(drawn), "drawn": job.drawn},
        seconds={name: round(value, 4) for name, value in result.seconds.items()},
        finished=now(),
    )


def died_record(job: Job, cause: str) -> JobRecord:
    """The record of a job whose worker died."""
    return JobRecord(clip=job.clip, status="failed", output=job.output_name, error=cause, finished=now())


@dataclass(frozen=True)
class Sample:
    """A measured estimate of one job, from its first frames; `error` where the clip cannot be read."""

    clip: str
    pixels: int = 0
    events_per_frame: float = 0.0
    seconds_per_frame: float = 0.0
    error: str = ""


def sample_job(job: Job) -> Sample:
    """Simulate the first frames of a job without writing."""
    try:
        source = open_source(job.source, selection=job.config.selection, transfer=job.config.transfer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plan = plan_clip(source, job.config)
    except (EvsimError, OSError) as error:
        return Sample(job.clip, error=" ".join(str(error).split()))
    return Sample(job.clip, source.width * source.height, plan.events_per_frame, plan.seconds_per_frame)


def stored_event_bytes(events: float) -> int:
    """What events take in the file, with its index: columns grow by whole chunks."""
    chunks = math.ceil(events / CHUNK)
    return chunks * CHUNK * STORED_BYTES_PER_EVENT + CHUNK * INDEX_ENTRY_BYTES


@dataclass(frozen=True)
class JobSize:
    """How much a job has to do, from the description of its source. frames: None where not known."""

    pixels: int
    source_frames: int | None
    frames: int | None
    image_bytes: int


def measure_size(job: Job) -> JobSize:
    """Open the source of a job and say how much there is. Raises InputError."""
    source = open_source(job.source, selection=job.config.selection, transfer=job.config.transfer)
    pixels = source.width * source.height
    count = source.frame_count if source.frame_count is not None else source.frames_expected
    frames = expected_frames(source, job.config)
    stored = _stored_frames(job.config.frames, count, frames)
    return JobSize(pixels, count, frames, (stored or 0) * pixels * source.channels)


def _stored_frames(which: StoredFrames, source_frames: int | None, frames: int | None) -> int | None:
    return {"none": 0, "source": source_frames, "all": frames}[which]


def drawn_fields(tree: Tree, resolved: Tree, path: str = "") -> Tree:
    """Full name and value of every field that is a draw in `tree`; `resolved`: the tree with values."""
    found: Tree = {}
    for name, value in tree.items():
        place = f"{path}.{name}" if path else name
        if isinstance(value, dict):
            found |= drawn_fields(value, resolved.get(name, {}), place)
        elif configuration.has_draws({name: value}):
            found[place] = resolved[name]
    return found


def disk_is_full(error: BaseException, folder: Path) -> bool:
    """True if an error came from a full disk or quota: every further job would fail in the same way."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
    existing = next((place for place in (folder, *folder.parents) if place.exists()), None)
    return existing is not None and shutil.disk_usage(existing).free < LEAST_FREE_BYTES


def now() -> str:
    """The time, UTC, ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _sentences(caught: list[Any]) -> list[str]:
    return list(dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught))
