"""A run: the jobs of a recipe carried out, recorded, resumed, and reported."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evsim.configuration import Tree
from evsim.errors import InputError
from evsim.files import file_sha256, remove_leftovers
from evsim.pipelines.runs.description import RunDescription, differences
from evsim.pipelines.runs.executors import Executor, Serial
from evsim.pipelines.runs.fingerprint import input_bytes
from evsim.pipelines.runs.invocations import recorded_invocation, versions
from evsim.pipelines.runs.jobs import Job, died_record, run_job
from evsim.pipelines.runs.manifest import JobRecord, ManifestWriter, latest_records
from evsim.pipelines.runs.recipes import find_clips
from evsim.pipelines.runs.run_folder import FORMAT, VERSION, RunFolder, Shard
from evsim.progress import Report, Say

Work = Callable[[Job], JobRecord]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out; nothing here changes an output.

    resume: continue what is there. overwrite: replace it. verify: compare contents, not sizes and times.
    shard: carry out only this part. retries: more attempts for a job that fails.
    threads: of the sensor pass in each job, None for all cores.
    """

    resume: bool = False
    overwrite: bool = False
    verify: bool = False
    shard: Shard | None = None
    retries: int = 1
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended. records: of the jobs carried out now; redone: why finished jobs were done again.

    not_started: jobs left because the disk filled up (`stopped` says so).
    """

    folder: Path
    clips: int
    skipped: int
    records: tuple[JobRecord, ...]
    redone: dict[str, str] = field(default_factory=dict)
    not_started: int = 0
    stopped: str = ""
    seconds: float = 0.0

    @property
    def failures(self) -> dict[str, str]:
        """The error of every clip that failed."""
        return {record.clip: record.error for record in self.records if record.status == "failed"}

    @property
    def complete(self) -> bool:
        """True if every clip has its output."""
        return not self.failures and not self.not_started

    def summary(self) -> dict[str, Any]:
        """Names and values to print."""
        done = [record for record in self.records if record.status == "done"]
        return {
            "output": str(self.folder),
            "clips": self.clips,
            "done": len(done),
            "skipped": self.skipped,
            "failed": len(self.failures),
            "not_started": self.not_started,
            "source_frames": sum(record.source_frames for record in done),
            "frames": sum(record.frames for record in done),
            "events": sum(record.events for record in done),
            "megabytes": round(sum(record.bytes for record in done) / 1e6, 1),
            "seconds": round(self.seconds, 1),
            "redone": self.redone,
            "failures": self.failures,
        }


@dataclass(frozen=True)
class WorkList:
    """What is to be done and why. reasons: for jobs that were finished before; skipped: as they are."""

    todo: list[Job]
    skipped: list[Job]
    reasons: dict[str, str]
    notes: tuple[str, ...] = ()


def execute_run(
    description: RunDescription,
    path: Path,
    options: RunOptions | None = None,
    *,
    executor: Executor | None = None,
    work: Work = run_job,
    report: Report | None = None,
    say: Say | None = None,
) -> RunResult:
    """Carry out the jobs of a run (or shard) into the folder `path` and record each as it ends.

    executor: None for one after the other in this process. report: called with (jobs done, jobs to do, a few
    words). say: told one sentence at a time. A job that fails is tried again at the end, then recorded; the
    others go on. On an exception, Ctrl-C included, workers end and no half file stays; `resume` continues.

    Raises InputError for clips, options or a folder that cannot be used, RunError when the folder is in use
    or the manifest cannot be written.
    """
    chosen, started = options or RunOptions(), time.perf_counter()
    chosen_executor = executor or Serial()
    tell = say or (lambda sentence: None)
    folder = RunFolder(path, chosen.shard)
    folder.require_usable()
    jobs, names, notes = _jobs(description, folder, chosen)
    for note in notes:
        tell(note)
    with folder.locked():
        with folder.settling():
            for sentence in _settle(folder, description, names, chosen):
                tell(sentence)
        with recorded_invocation(folder, chosen_executor), _no_leftovers(jobs):
            listed = choose_work(jobs, folder, verify=chosen.verify)
            for clip, reason in listed.reasons.items():
                tell(f"{clip} is done again: {reason}")
            ordered = _longest_first(listed.todo) if chosen_executor.workers > 1 else listed.todo
            with ManifestWriter(folder.manifest) as manifest:
                records = _carry_out(ordered, chosen_executor, work, manifest, chosen.retries, report)
    stop = next((record for record in records if record.stops_run), None)
    return RunResult(
        folder=path,
        clips=len(jobs),
        skipped=len(listed.skipped),
        records=tuple(records),
        redone=listed.reasons,
        not_started=len(listed.todo) - len(records),
        stopped=stop.error if stop else "",
        seconds=time.perf_counter() - started,
    )


def list_work(description: RunDescription, path: Path, options: RunOptions) -> WorkList:
    """What `execute_run` would do, without touching anything. Raises as it does."""
    folder = RunFolder(path, options.shard)
    folder.require_usable()
    jobs, _, notes = _jobs(description, folder, options)
    earlier = folder.read()
    if earlier is None or options.overwrite:
        return WorkList(jobs, [], {}, notes)
    _require_continuable(folder, earlier, description, options)
    listed = choose_work(jobs, folder, verify=options.verify)
    return dataclasses.replace(listed, notes=notes)


def choose_work(jobs: Sequence[Job], folder: RunFolder, *, verify: bool) -> WorkList:
    """Split jobs into those to do and those whose output stands. Raises FormatError for a bad manifest."""
    records = latest_records(folder.path) if folder.path.is_dir() else {}
    todo: list[Job] = []
    skipped: list[Job] = []
    reasons: dict[str, str] = {}
    for job in jobs:
        record = records.get(job.clip)
        if record is None or record.status == "failed":
            todo.append(job)
            continue
        reason = _why_again(job, record, verify)
        if reason:
            reasons[job.clip] = reason
        (todo if reason else skipped).append(job)
    return WorkList(todo, skipped, reasons)


def resume_command(path: Path, options: RunOptions, workers: int) -> str:
    """The line that continues a run."""
    words = ["evsim", "simulate", "--config", str(RunFolder(path).description), "--resume"]
    words += ["--shard", str(options.shard)] if options.shard else []
    words += ["--workers", str(workers)] if workers > 1 else []
    return shlex.join(words)


def _jobs(
    description: RunDescription, folder: RunFolder, options: RunOptions
) -> tuple[list[Job], list[str], tuple[str, ...]]:
    """The jobs of this shard, the names of all clips, and the recipe's notes."""
    found = find_clips(description.recipe, description.root, description.fps)
    mine = found.clips
    if options.shard is not None:
        mine = mine[options.shard.index - 1 :: options.shard.count]
    jobs = [description.job(clip, folder, options.threads) for clip in mine]
    return jobs, [clip.name for clip in found.clips], found.notes


def _settle(
    folder: RunFolder, description: RunDescription, clips: list[str], options: RunOptions
) -> list[str]:
    """Begin, continue or replace the run of a folder; returns sentences on what is different since."""
    earlier = folder.read()
    if earlier is not None and options.overwrite:
        if options.shard is not None:
            raise InputError("--overwrite with --shard would remove what other shards did; remove the folder")
        folder.clear()
        earlier = None
    if earlier is not None:
        _require_continuable(folder, earlier, description, options)
    history = earlier.get("invocations", []) if earlier else []
    folder.write(
        {
            "format": FORMAT,
            "version": VERSION,
            **description.to_tree(),
            "clips": clips,
            "invocations": history,
        }
    )
    return _news(earlier, description, clips) if earlier else []


def _news(earlier: Tree, description: RunDescription, clips: list[str]) -> list[str]:
    present = set(clips)
    said = [
        f"{clip} is no longer under {description.root}; what it gave before was left in place"
        for clip in earlier.get("clips", [])
        if clip not in present
    ]
    history = earlier.get("invocations", [])
    changed = differences(history[-1]["versions"], versions()) if history else []
    if changed:
        said.append(f"continued with other versions ({'; '.join(changed)}); new outputs may differ in bytes")
    return said


def _require_continuable(
    folder: RunFolder, earlier: Tree, description: RunDescription, options: RunOptions
) -> None:
    joins = options.shard is not None and not folder.manifest.exists()
    if not options.resume and not joins:
        raise InputError(f"{folder.path} holds a run; --resume finishes it, --overwrite replaces it")
    before = RunDescription.from_tree(earlier, folder.description)
    changed = differences(before.content(), description.content())
    if changed:
        raise InputError(
            f"{folder.path} was made with another configuration ({'; '.join(changed)}); give the same "
            f"options (evsim simulate --config {folder.description} --resume), choose another folder, or "
            "--overwrite"
        )


def _why_again(job: Job, record: JobRecord, verify: bool) -> str:
    """Why a finished job must be done again, or empty."""
    try:
        size = job.output.stat().st_size
    except OSError:
        return "its output is missing"
    if size != record.bytes or (verify and file_sha256(job.output) != record.checksum):
        return "its output is not what was written"
    try:
        same = job.content() == record.content if verify else job.fingerprint() == record.fingerprint
    except InputError as error:
        return str(error)
    return "" if same else "its input has changed"


def _longest_first(jobs: Sequence[Job]) -> list[Job]:
    # Else the longest clip may begin last and keep one worker busy alone.
    return sorted(jobs, key=lambda job: -input_bytes(job.source))


def _carry_out(
    jobs: Sequence[Job],
    executor: Executor,
    work: Work,
    manifest: ManifestWriter,
    retries: int,
    report: Report | None,
) -> list[JobRecord]:
    records: list[JobRecord] = []
    pending: Sequence[Job] = jobs
    # Closed at once: the workers must end before the lock is let go, not when somebody collects them.
    for attempt in range(1, retries + 2):
        again: list[Job] = []
        with contextlib.closing(executor.outcomes(work, pending)) as outcomes:
            for outcome in outcomes:
                ended = outcome.result or died_record(outcome.job, outcome.died)
                record = dataclasses.replace(ended, attempts=attempt)
                if record.status == "failed" and not record.stops_run and attempt <= retries:
                    again.append(outcome.job)
                    continue
                manifest.append(record)
                records.append(record)
                if report:
                    report(len(records), len(jobs), _words(record, records))
                if record.stops_run:
                    return records
        pending = again
    return records


def _words(record: JobRecord, records: Sequence[JobRecord]) -> str:
    failed = sum(other.status == "failed" for other in records)
    last = "failed" if record.status == "failed" else f"{record.events:,} events"
    return f"{record.clip}: {last}{f', {failed} failed' if failed else ''}"


@contextlib.contextmanager
def _no_leftovers(jobs: Sequence[Job]) -> Iterator[None]:
    """Remove temporaries of these jobs before and after: the lock says that nobody is writing them."""
    _remove_temporaries(jobs)
    try:
        yield
    finally:
        _remove_temporaries(jobs)


def _remove_temporaries(jobs: Sequence[Job]) -> None:
    for job in jobs:
        remove_leftovers(job.output)
        remove_leftovers(job.beside)
