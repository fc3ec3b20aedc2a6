"""What a run is, whichever its verb: enough to repeat it, to list its jobs, and to tell two runs apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from evsim.configuration import Tree
from evsim.errors import FormatError, InputError
from evsim.pipelines.runs.executors import Executor
from evsim.pipelines.runs.job import Job, JobRecord
from evsim.pipelines.runs.run_folder import read_run_json
from evsim.registry import Registry


@dataclass(frozen=True)
class JobList:
    """The jobs of a run before any is made: names of all in order, and how the k-th is made.

    notes: sentences about what was left out.
    """

    names: Sequence[str]
    job: Callable[[int], Job]
    notes: tuple[str, ...] = ()


class RunDescription(Protocol):
    """What decides the outputs of a run, apart from the content of its inputs.

    verb: the name of its class in `VERBS`, and of the command. unit: what one job works on, in one word.
    root: where the inputs lie; it decides nothing else, so that they may be moved.
    """

    verb: ClassVar[str]
    unit: ClassVar[str]

    @property
    def root(self) -> Path:
        """See above."""
        ...

    def to_tree(self) -> Tree:
        """JSON-able, for run.json; `from_tree` reads it back. Without ``verb``, which the run adds."""
        ...

    @classmethod
    def from_tree(cls, tree: Tree, path: Path) -> RunDescription:
        """From the content of the run.json at `path`. Raises FormatError, ConfigError."""
        ...

    @staticmethod
    def output_names(job: str) -> tuple[str, ...]:
        """POSIX paths, inside the run folder, of all that the job of a name writes; nothing is opened."""
        ...

    def content(self) -> Tree:
        """What two runs must agree in for one to continue the other."""
        ...

    def jobs(self, folder: Path) -> JobList:
        """The jobs that write into the run folder. Raises InputError for inputs that cannot be used."""
        ...

    def estimate(self, jobs: Sequence[Job], executor: Executor) -> Tree:
        """Names and values for --dry-run: what these jobs would take; `unreadable` names bad inputs."""
        ...

    def totals(self, done: Iterable[JobRecord]) -> Tree:
        """Names and values to print: sums over the records of jobs that are done."""
        ...

    def words(self, record: JobRecord) -> str:
        """A few words on a job that is done, for progress."""
        ...


VERBS: Registry[Callable[[], type[RunDescription]]] = Registry("verb of a run")
"""Verbs whose runs can be read back: what loads the class of each."""


@VERBS.register("simulate")
def _simulate() -> type[RunDescription]:
    from evsim.pipelines.runs.simulation import SimulationRun

    return SimulationRun


def description_class(tree: Tree, path: Path) -> type[RunDescription]:
    """The class of the run that a run.json at `path` holds. Raises FormatError for an unknown verb."""
    # Runs of simulations were there before other verbs, and name none.
    verb = tree.get("verb", "simulate")
    try:
        return VERBS[verb]()
    except InputError as error:
        raise FormatError(path, f"{error}; use a newer evsim") from error


def recorded_run(path: Path) -> RunDescription:
    """The run that a run.json describes. Raises FormatError, ConfigError."""
    tree = read_run_json(path)
    return description_class(tree, path).from_tree(tree, path)


def description_tree(description: RunDescription) -> Tree:
    """What run.json holds of a description."""
    named = {} if description.verb == "simulate" else {"verb": description.verb}
    return {**named, **description.to_tree()}


def differences(before: Tree, now: Tree, path: str = "") -> list[str]:
    """``field: old -> new`` for every field in which two trees differ."""
    found: list[str] = []
    for name in dict.fromkeys((*before, *now)):
        place = f"{path}.{name}" if path else name
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, place)
        elif old != new:
            found.append(f"{place.removeprefix('configuration.')}: {_word(old)} -> {_word(new)}")
    return found


def _word(value: Any) -> str:
    return "none" if value is None else str(value)
