"""The manifest of a run: one JSON line for each finished job, appended durably.

A line is one write to a file opened for appending, flushed to the disk. A crash can tear the last line
only; it is dropped on reading and cut off before the next line is appended.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from evsim.errors import FormatError, RunError


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """What became of one job.

    fingerprint: configuration and size and time of the inputs; content: configuration and content of them.
    output: POSIX path inside the run folder; bytes, checksum (SHA-256): of the output.
    parameters: every number that was drawn for the clip. seconds: per stage. notes: warnings on the way.
    finished: UTC, ISO 8601. Counts are 0 for a failed job, whose `error` says why.
    """

    clip: str
    status: Literal["done", "failed"]
    output: str
    fingerprint: str = ""
    content: str = ""
    bytes: int = 0
    checksum: str = ""
    width: int = 0
    height: int = 0
    source_frames: int = 0
    frames: int = 0
    cuts: int = 0
    duration_s: float = 0.0
    events: int = 0
    on_events: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    attempts: int = 1
    error: str = ""
    traceback: str = ""
    stops_run: bool = False
    finished: str = ""


class ManifestWriter:
    """Appends records to one manifest file; only the holder of the run's lock may have one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        _cut_torn_line(self._descriptor)

    def append(self, record: JobRecord) -> None:
        """Write one line and wait until it is on the disk. Raises RunError when it cannot be."""
        line = (json.dumps(dataclasses.asdict(record)) + "\n").encode()
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                _cut_torn_line(self._descriptor)
                raise OSError(f"only {written} of {len(line)} bytes were written")
            os.fsync(self._descriptor)
        except OSError as error:
            raise RunError(
                f"cannot record {record.clip} in {self.path}: {error.strerror or error}; make room and resume"
            ) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_manifest(path: Path) -> Iterator[JobRecord]:
    """The records of one manifest file, oldest first. Raises FormatError with the number of a bad line."""
    lines = path.read_bytes().split(b"\n")
    # What follows the last newline is a line that a crash has torn.
    for number, line in enumerate(lines[:-1], start=1):
        try:
            fields = json.loads(line)
            known = {name: fields[name] for name in _FIELDS if name in fields}
            yield JobRecord(**{**known, "notes": tuple(known.get("notes", ()))})
        except (ValueError, TypeError) as error:
            raise FormatError(
                path, f"not a record of a job: {line[:60]!r}; remove the line", place=f"line {number}"
            ) from error


def latest_records(folder: Path) -> dict[str, JobRecord]:
    """The last record of every clip over all manifests of a run folder, in the order of their names."""
    records = [record for path in manifest_files(folder) for record in read_manifest(path)]
    return {record.clip: record for record in sorted(records, key=lambda record: record.finished)}


def manifest_files(folder: Path) -> list[Path]:
    """``manifest.jsonl`` and those of shards, whichever exist."""
    return sorted(folder.glob("manifest*.jsonl"))


_FIELDS = tuple(field.name for field in dataclasses.fields(JobRecord))


def _cut_torn_line(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    end = size
    while end:
        start = max(0, end - 65536)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end != size:
        os.ftruncate(descriptor, end)
