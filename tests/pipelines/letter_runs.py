"""A verb of its own for tests: each text file becomes a folder of one file a letter, and a file of counts."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from evsim.errors import InputError
from evsim.files import atomic_output
from evsim.pipelines.runs.description import JobList
from evsim.pipelines.runs.executors import Executor
from evsim.pipelines.runs.fingerprint import content_fingerprint, stated_fingerprint
from evsim.pipelines.runs.job import Finished, Job, JobRecord, Resources


@dataclass(frozen=True)
class LetterJob:
    """One text; a text that begins with `refuse` or `die` does so."""

    name: str
    source: Path
    folder: Path
    upper: bool

    @property
    def inputs(self) -> tuple[Path, ...]:
        return (self.source,)

    @property
    def outputs(self) -> tuple[str, ...]:
        return LetterRun.output_names(self.name)

    beside: ClassVar[tuple[str, ...]] = ()
    blank_facts: ClassVar[Mapping[str, Any]] = {"letters": 0}

    def fingerprint(self) -> str:
        return stated_fingerprint({"upper": self.upper}, [(".", self.source)])

    def content(self) -> str:
        return content_fingerprint({"upper": self.upper}, [(".", self.source)])

    def resources(self) -> Resources:
        return Resources(input_bytes=self.source.stat().st_size)

    def carry_out(self) -> Finished:
        text = self.source.read_text()
        if text.startswith("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        counts = Counter(text.upper() if self.upper else text)
        folder, table = (self.folder / name for name in self.outputs)
        with atomic_output(folder, overwrite=True) as temporary:
            for letter, count in counts.items():
                (temporary / "letters").mkdir(parents=True, exist_ok=True)
                (temporary / "letters" / letter).write_text(letter * count)
        if text.startswith("refuse"):
            raise InputError(f"{self.source} would not")
        with atomic_output(table, overwrite=True) as temporary:
            temporary.write_text(json.dumps(counts, sort_keys=True))
        return Finished(facts={"letters": counts.total()}, seconds={"total": 0.125})


@dataclass(frozen=True, kw_only=True)
class LetterRun:
    """The texts of a folder."""

    verb: ClassVar[str] = "letters"
    unit: ClassVar[str] = "text"

    root: Path
    upper: bool = False

    def to_tree(self) -> dict[str, Any]:
        return {"root": str(self.root), "upper": self.upper}

    @classmethod
    def from_tree(cls, tree: dict[str, Any], path: Path) -> LetterRun:
        return cls(root=Path(tree["root"]), upper=tree["upper"])

    @staticmethod
    def output_names(job: str) -> tuple[str, ...]:
        return f"{job}.letters", f"{job}.json"

    def content(self) -> dict[str, Any]:
        return {"upper": self.upper}

    def jobs(self, folder: Path) -> JobList:
        texts = sorted(self.root.rglob("*.txt"))
        names = [text.relative_to(self.root).with_suffix("").as_posix() for text in texts]
        return JobList(names, lambda k: LetterJob(names[k], texts[k], folder, self.upper), ("one note",))

    def estimate(self, jobs: Sequence[Job], executor: Executor) -> dict[str, Any]:
        return {"unreadable": {}, "estimated_letters": sum(job.resources().input_bytes for job in jobs)}

    def totals(self, done: Iterable[JobRecord]) -> dict[str, Any]:
        return {"letters": sum(record.facts["letters"] for record in done)}

    def words(self, record: JobRecord) -> str:
        return f"{record.facts['letters']} letters"

    def with_upper(self) -> LetterRun:
        return dataclasses.replace(self, upper=True)
