"""A run: jobs carried out, recorded, resumed and reported, whichever verb they are of."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evsim.configuration import Tree
from evsim.errors import InputError
from evsim.files import remove_leftovers
from evsim.pipelines.runs.description import (
    RunDescription,
    description_class,
    description_tree,
    differences,
)
from evsim.pipelines.runs.executors import Executor, Serial
from evsim.pipelines.runs.invocations import recorded_invocation, versions
from evsim.pipelines.runs.job import (
    Job,
    JobRecord,
    failed_record,
    output_bytes,
    output_checksum,
    run_job,
)
from evsim.pipelines.runs.manifest import ManifestWriter, latest_records
from evsim.pipelines.runs.run_folder import FORMAT, VERSION, RunFolder, Shard
from evsim.progress import Report, Say

Work = Callable[[Job], JobRecord]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out; nothing here changes an output.

    resume: continue what is there. overwrite: replace it. verify: compare contents, not sizes and times.
    shard: carry out only this part. retries: more attempts for a job that fails.
    """

    resume: bool = False
    overwrite: bool = False
    verify: bool = False
    shard: Shard | None = None
    retries: int = 1


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended. records: of the jobs carried out now; redone: why finished jobs were done again.

    jobs: how many there are. unit: what one works on. totals: sums over those carried out now, of the verb.
    not_started: jobs left because the disk filled up (`stopped` says so).
    """

    folder: Path
    unit: str
    jobs: int
    skipped: int
    records: tuple[JobRecord, ...]
    totals: Tree = field(default_factory=dict)
    redone: dict[str, str] = field(default_factory=dict)
    not_started: int = 0
    stopped: str = ""
    seconds: float = 0.0

    @property
    def failures(self) -> dict[str, str]:
        """The error of every job that failed."""
        return {record.name: record.error for record in self.records if record.status == "failed"}

    @property
    def complete(self) -> bool:
        """True if every job has its outputs."""
        return not self.failures and not self.not_started

    def summary(self) -> dict[str, Any]:
        """Names and values to print."""
        done = [record for record in self.records if record.status == "done"]
        return {
            "output": str(self.folder),
            f"{self.unit}s": self.jobs,
            "done": len(done),
            "skipped": self.skipped,
            "failed": len(self.failures),
            "not_started": self.not_started,
            **self.totals,
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
    jobs, names, notes = _jobs(description, folder)
    for note in notes:
        tell(note)
    with folder.locked():
        with folder.settling():
            for sentence in _settle(folder, description, names, chosen):
                tell(sentence)
        with recorded_invocation(folder, chosen_executor), _no_leftovers(jobs):
            listed = choose_work(jobs, folder, verify=chosen.verify)
            for name, reason in listed.reasons.items():
                tell(f"{name} is done again: {reason}")
            ordered = _longest_first(listed.todo) if chosen_executor.workers > 1 else listed.todo
            with ManifestWriter(folder.manifest) as manifest:
                records = _carry_out(
                    ordered, chosen_executor, work, manifest, chosen.retries, report, description.words
                )
    stop = next((record for record in records if record.stops_run), None)
    return RunResult(
        folder=path,
        unit=description.unit,
        jobs=len(jobs),
        skipped=len(listed.skipped),
        records=tuple(records),
        totals=description.totals(record for record in records if record.status == "done"),
        redone=listed.reasons,
        not_started=len(listed.todo) - len(records),
        stopped=stop.error if stop else "",
        seconds=time.perf_counter() - started,
    )


def list_work(description: RunDescription, path: Path, options: RunOptions) -> WorkList:
    """What `execute_run` would do, without touching anything. Raises as it does."""
    folder = RunFolder(path, options.shard)
    folder.require_usable()
    jobs, _, notes = _jobs(description, folder)
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
        record = records.get(job.name)
        if record is None or record.status == "failed":
            todo.append(job)
            continue
        reason = _why_again(job, record, verify)
        if reason:
            reasons[job.name] = reason
        (todo if reason else skipped).append(job)
    return WorkList(todo, skipped, reasons)


def resume_command(verb: str, path: Path, options: RunOptions, workers: int) -> str:
    """The line that continues a run of a verb."""
    words = ["evsim", verb, "--config", str(RunFolder(path).description), "--resume"]
    words += ["--shard", str(options.shard)] if options.shard else []
    words += ["--workers", str(workers)] if workers > 1 else []
    return shlex.join(words)


def _jobs(description: RunDescription, folder: RunFolder) -> tuple[list[Job], list[str], tuple[str, ...]]:
    """The jobs of this shard, the names of all jobs, and sentences on what was left out."""
    listed = description.jobs(folder.path)
    names = list(listed.names)
    _require_distinct(names, description)
    mine = range(len(names))
    if folder.shard is not None:
        mine = mine[folder.shard.index - 1 :: folder.shard.count]
    return [listed.job(index) for index in mine], names, listed.notes


def _require_distinct(names: list[str], description: RunDescription) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InputError(
            f"{description.root} gives the {description.unit} {repeated[0]} more than once; expected "
            f"distinct names ({len(repeated)} are not)"
        )


def _settle(
    folder: RunFolder, description: RunDescription, names: list[str], options: RunOptions
) -> list[str]:
    """Begin, continue or replace the run of a folder; returns sentences on what is different since."""
    earlier = folder.read()
    if earlier is not None and options.overwrite:
        if options.shard is not None:
            raise InputError("--overwrite with --shard would remove what other shards did; remove the folder")
        folder.clear(description_class(earlier, folder.description).output_names)
        earlier = None
    if earlier is not None:
        _require_continuable(folder, earlier, description, options)
    history = earlier.get("invocations", []) if earlier else []
    folder.write(
        {
            "format": FORMAT,
            "version": VERSION,
            **description_tree(description),
            "clips": names,
            "invocations": history,
        }
    )
    return _news(earlier, description, names) if earlier else []


def _news(earlier: Tree, description: RunDescription, names: list[str]) -> list[str]:
    present = set(names)
    said = [
        f"{name} is no longer under {description.root}; what it gave before was left in place"
        for name in earlier.get("clips", [])
        if name not in present
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
    kind = description_class(earlier, folder.description)
    if kind.verb != description.verb:
        raise InputError(
            f"{folder.path} holds a run of evsim {kind.verb}, not of evsim {description.verb}; choose "
            "another folder, or --overwrite"
        )
    before = kind.from_tree(earlier, folder.description)
    changed = differences(before.content(), description.content())
    if changed:
        raise InputError(
            f"{folder.path} was made with another configuration ({'; '.join(changed)}); give the same "
            f"options (evsim {description.verb} --config {folder.description} --resume), choose another "
            "folder, or --overwrite"
        )


def _why_again(job: Job, record: JobRecord, verify: bool) -> str:
    """Why a finished job must be done again, or empty."""
    if tuple(output.name for output in record.outputs) != job.outputs:
        return "its outputs have other names"
    for output in record.outputs:
        path = job.folder / output.name
        try:
            changed = output_bytes(path) != output.bytes
        except OSError:
            return "its output is missing"
        if changed or (verify and output_checksum(path) != output.checksum):
            return "its output is not what was written"
    try:
        same = job.content() == record.content if verify else job.fingerprint() == record.fingerprint
    except InputError as error:
        return str(error)
    return "" if same else "its input has changed"


def _longest_first(jobs: Sequence[Job]) -> list[Job]:
    # Else the longest job may begin last and keep one worker busy alone.
    return sorted(jobs, key=lambda job: -job.resources().input_bytes)


def _carry_out(
    jobs: Sequence[Job],
    executor: Executor,
    work: Work,
    manifest: ManifestWriter,
    retries: int,
    report: Report | None,
    words: Callable[[JobRecord], str],
) -> list[JobRecord]:
    records: list[JobRecord] = []
    failed = 0
    pending: Sequence[Job] = jobs
    # Closed at once: the workers must end before the lock is let go, not when somebody collects them.
    for attempt in range(1, retries + 2):
        again: list[Job] = []
        with contextlib.closing(executor.outcomes(work, pending)) as outcomes:
            for outcome in outcomes:
                ended = outcome.result or failed_record(outcome.job, outcome.died)
                record = dataclasses.replace(ended, attempts=attempt)
                if record.status == "failed" and not record.stops_run and attempt <= retries:
                    again.append(outcome.job)
                    continue
                manifest.append(record)
                records.append(record)
                failed += record.status == "failed"
                if report:
                    last = "failed" if record.status == "failed" else words(record)
                    many = f", {failed} failed" if failed else ""
                    report(len(records), len(jobs), f"{record.name}: {last}{many}")
                if record.stops_run:
                    return records
        pending = again
    return records


@contextlib.contextmanager
def _no_leftovers(jobs: Sequence[Job]) -> Iterator[None]:
    """Remove temporaries of these jobs before and after: the lock says that nobody is writing them."""
    _remove_temporaries(jobs)
    try:
        yield
    finally:
        _remove_temporaries(jobs)


def _remove_temporaries(jobs: Sequence[Job]) -> None:
    remove_leftovers(*(job.folder / name for job in jobs for name in (*job.outputs, *job.beside)))
