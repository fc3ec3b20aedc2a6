"""The manifest of a run: one JSON line for each finished job, appended durably.

A line is one write to a file opened for appending, flushed to the disk. A crash can tear the last line
only; it is dropped on reading and cut off before the next line is appended.

A line is flat: the header of `JobRecord`, in the middle of it the facts of the verb under names of their
own. `clip` is the job's name; `output`, `bytes` and `checksum` are of its first output, further ones are
listed under `further_outputs`. What is none of the header's names is a fact.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from evsim.configuration import Tree
from evsim.errors import FormatError, RunError
from evsim.pipelines.runs.job import JobRecord, Output

FURTHER = "further_outputs"
FIRST = ("clip", "status", "output", "fingerprint", "content", "bytes", "checksum")
LAST = ("seconds", "notes", "attempts", "error", "traceback", "stops_run", "finished")
HEADER = frozenset({*FIRST, FURTHER, *LAST})


def record_to_tree(record: JobRecord) -> Tree:
    """The content of a record's line. Raises ValueError where a fact has the name of a header's field."""
    taken = HEADER & set(record.facts)
    if taken:
        raise ValueError(f"facts of {record.name} are called {sorted(taken)}, which are names of the header")
    first, *further = record.outputs
    tree: Tree = {
        "clip": record.name,
        "status": record.status,
        "output": first.name,
        "fingerprint": record.fingerprint,
        "content": record.content,
        "bytes": first.bytes,
        "checksum": first.checksum,
    }
    if further:
        tree[FURTHER] = [dataclasses.asdict(output) for output in further]
    return {**tree, **record.facts, **{name: getattr(record, name) for name in LAST}}


def record_from_tree(tree: Tree) -> JobRecord:
    """The record of a line. Raises KeyError, TypeError for what is none."""
    first = Output(name=tree["output"], bytes=tree.get("bytes", 0), checksum=tree.get("checksum", ""))
    known = {name: tree[name] for name in ("fingerprint", "content", *LAST) if name in tree}
    return JobRecord(
        name=tree["clip"],
        status=tree["status"],
        outputs=(first, *(Output(**output) for output in tree.get(FURTHER, ()))),
        facts={name: value for name, value in tree.items() if name not in HEADER},
        **{**known, "notes": tuple(known.get("notes", ()))},
    )


class ManifestWriter:
    """Appends records to one manifest file; only the holder of the run's lock may have one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        _cut_torn_line(self._descriptor)

    def append(self, record: JobRecord) -> None:
        """Write one line and wait until it is on the disk. Raises RunError when it cannot be."""
        line = (json.dumps(record_to_tree(record)) + "\n").encode()
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                _cut_torn_line(self._descriptor)
                raise OSError(f"only {written} of {len(line)} bytes were written")
            os.fsync(self._descriptor)
        except OSError as error:
            raise RunError(
                f"cannot record {record.name} in {self.path}: {error.strerror or error}; make room and resume"
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
            yield record_from_tree(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            raise FormatError(
                path, f"not a record of a job: {line[:60]!r}; remove the line", place=f"line {number}"
            ) from error


def latest_records(folder: Path) -> dict[str, JobRecord]:
    """The last record of every job over all manifests of a run folder, in the order of their names."""
    records = [record for path in manifest_files(folder) for record in read_manifest(path)]
    return {record.name: record for record in sorted(records, key=lambda record: record.finished)}


def manifest_files(folder: Path) -> list[Path]:
    """``manifest.jsonl`` and those of shards, whichever exist."""
    return sorted(folder.glob("manifest*.jsonl"))


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
