"""One piece of a run: what a verb says of a job, how any job is carried out, and what is recorded of it."""

from __future__ import annotations

import errno
import hashlib
import shutil
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from evsim.errors import EvsimError, RunError
from evsim.files import file_sha256

LEAST_FREE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a job takes, for whoever decides which one begins when and where.

    input_bytes: how much it reads, a guess at how long it takes. memory_bytes: most that it holds, 0 where
    nobody knows. devices: how many of each, such as ``{"GPU": 1}``.
    """

    input_bytes: int = 0
    memory_bytes: int = 0
    devices: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Output:
    """A file or folder that a job wrote.

    name: POSIX path inside the run folder. bytes: of the file, or of all files in the folder.
    checksum: SHA-256 of the file; of a folder, of the names and checksums of its files.
    """

    name: str
    bytes: int = 0
    checksum: str = ""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a job says when it is done. facts: what its verb records. seconds: per stage."""

    facts: Mapping[str, Any]
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """What became of one job: a header that every verb has, and the facts of its verb.

    outputs: with sizes and checksums when the job is done. fingerprint: of what decides them, and size and
    time of the inputs; content: of what decides them, and content of the inputs. seconds: per stage.
    notes: warnings on the way. finished: UTC, ISO 8601. `error` says why a job failed; `stops_run` is set
    where every further job would fail in the same way.
    """

    name: str
    status: Literal["done", "failed"]
    outputs: tuple[Output, ...]
    fingerprint: str = ""
    content: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    attempts: int = 1
    error: str = ""
    traceback: str = ""
    stops_run: bool = False
    finished: str = ""

    @property
    def output(self) -> Output:
        """The first output, which the job is there for."""
        return self.outputs[0]

    @property
    def bytes(self) -> int:
        """Size of all outputs together."""
        return sum(output.bytes for output in self.outputs)


class Job(Protocol):
    """What a run needs of a job. A job is pure: inputs and configuration decide its outputs.

    Executors pickle it. Every output appears complete or not at all (`evsim.files.atomic_output`).
    """

    @property
    def name(self) -> str:
        """Distinct in the run, a POSIX path without suffix: the word for the job in messages and records."""
        ...

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files and folders that it reads."""
        ...

    @property
    def folder(self) -> Path:
        """The run folder."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """POSIX paths, inside the run folder, of the files and folders that it writes; at least one."""
        ...

    @property
    def beside(self) -> tuple[str, ...]:
        """The same of small files that explain the outputs; neither recorded nor compared."""
        ...

    @property
    def blank_facts(self) -> Mapping[str, Any]:
        """The facts of a job that failed."""
        ...

    def fingerprint(self) -> str:
        """Digest of what decides the outputs, and of size and time of the inputs. Raises InputError."""
        ...

    def content(self) -> str:
        """Digest of what decides the outputs, and of the content of the inputs. Raises InputError."""
        ...

    def resources(self) -> Resources:
        """What it takes; asked before it begins, for every job of a run."""
        ...

    def carry_out(self) -> Finished:
        """Write the outputs, replacing what is there. Called by `run_job`, in any process."""
        ...


def run_job(job: Job) -> JobRecord:
    """Carry out a job; a failure comes back as a record too, and leaves no output."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fingerprint = job.fingerprint()
            done = job.carry_out()
            content = job.content()
            if job.fingerprint() != fingerprint:
                places = ", ".join(map(str, job.inputs))
                raise RunError(f"{places} changed while it was read; run again when it is complete")
        return JobRecord(
            name=job.name,
            status="done",
            outputs=tuple(written_output(job.folder, name) for name in job.outputs),
            fingerprint=fingerprint,
            content=content,
            facts=done.facts,
            seconds={name: round(value, 4) for name, value in done.seconds.items()},
            notes=tuple(_sentences(caught)),
            finished=now(),
        )
    except Exception as error:
        for name in (*job.outputs, *job.beside):
            remove_output(job.folder / name)
        ours = isinstance(error, (EvsimError, OSError))
        return failed_record(
            job,
            " ".join(str(error).split()) if ours else f"{type(error).__name__}: {error}",
            traceback="" if ours else traceback.format_exc(),
            stops_run=disk_is_full(error, (job.folder / job.outputs[0]).parent),
        )


def failed_record(job: Job, error: str, *, traceback: str = "", stops_run: bool = False) -> JobRecord:
    """The record of a job that failed, or whose worker died."""
    return JobRecord(
        name=job.name,
        status="failed",
        outputs=tuple(Output(name=name) for name in job.outputs),
        facts=job.blank_facts,
        error=error,
        traceback=traceback,
        stops_run=stops_run,
        finished=now(),
    )


def written_output(folder: Path, name: str) -> Output:
    """Size and checksum of what lies under a name inside a run folder. Raises OSError."""
    path = folder / name
    return Output(name=name, bytes=output_bytes(path), checksum=output_checksum(path))


def output_bytes(path: Path) -> int:
    """Size of a file, or of all files in a folder. Raises OSError."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in _files_in(path))


def output_checksum(path: Path) -> str:
    """SHA-256 of a file; of a folder, of the relative names and checksums of all files in it."""
    if not path.is_dir():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in _files_in(path):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def remove_output(path: Path) -> None:
    """Remove an output, file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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


def _files_in(folder: Path) -> list[Path]:
    return sorted(
        (path for path in folder.rglob("*") if path.is_file()),
        key=lambda path: path.relative_to(folder).as_posix(),
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _sentences(caught: list[Any]) -> list[str]:
    return list(dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught))
