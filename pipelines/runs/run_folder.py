"""The run folder: run.json, the lock that keeps two runs apart, and what an earlier run left behind.

Locks are flock(2) locks of open files: they end with the process that holds them, however it ends.
A whole run holds ``.lock`` exclusively. Shards hold it together, each with ``.lock-<i>-of-<n>`` for itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from evsim.configuration import Tree
from evsim.errors import FormatError, InputError, RunError
from evsim.files import atomic_output
from evsim.pipelines.runs.job import now, remove_output
from evsim.pipelines.runs.manifest import manifest_files

FORMAT, VERSION = "evsim.run", 1


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From ``2/8``. Raises InputError."""
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"shard {text!r}, expected i/n with 1 <= i <= n, such as 2/8")
        return cls(int(match[1]), int(match[2]))

    @property
    def suffix(self) -> str:
        """What file names of this shard carry."""
        return f"-{self.index}-of-{self.count}"

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class RunFolder:
    """Names inside the folder of a run, of one shard of it or of the whole."""

    path: Path
    shard: Shard | None = None

    @property
    def description(self) -> Path:
        """run.json."""
        return self.path / "run.json"

    @property
    def manifest(self) -> Path:
        """The manifest that this run or shard appends to."""
        return self.path / f"manifest{self.shard.suffix if self.shard else ''}.jsonl"

    def read(self) -> Tree | None:
        """run.json, or None where no run was begun here. Raises FormatError."""
        return read_run_json(self.description) if self.description.exists() else None

    def write(self, tree: Tree) -> None:
        """Replace run.json."""
        with atomic_output(self.description, overwrite=True) as temporary:
            temporary.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")

    def require_usable(self) -> None:
        """InputError if the folder holds anything but a run: nothing of the user's is mixed with outputs."""
        if not self.path.exists() or self.description.exists():
            return
        if not self.path.is_dir():
            raise InputError(f"{self.path} is no folder; choose another output")
        foreign = [entry.name for entry in self.path.iterdir() if not entry.name.startswith(".")]
        if foreign:
            raise InputError(
                f"{self.path} holds {foreign[0]} and no run.json: it is no run folder; choose another output"
            )

    def clear(self, output_names: Callable[[str], Iterable[str]]) -> None:
        """Remove run.json, manifests and every output that they name. What else is there stays.

        output_names: what a job of this name writes, inside the folder. Raises FormatError, before anything
        is removed, for a name that leads out of the folder.
        """
        jobs = (self.read() or {}).get("clips", [])
        outputs = [name for job in jobs for name in output_names(job)]
        for name in outputs:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise FormatError(self.description, f"names {name!r}, which lies outside of {self.path}")
        for name in outputs:
            remove_output(self.path / name)
        _remove_empty_folders({parent for name in outputs for parent in Path(name).parents}, self.path)
        for manifest in manifest_files(self.path):
            manifest.unlink()
        self.description.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the run or shard. Raises RunError that says who holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            if self.shard is None:
                stack.enter_context(_lock(self.path / ".lock", exclusive=True))
            else:
                stack.enter_context(_lock(self.path / ".lock", exclusive=False))
                self._require_equal_shards(self.shard)
                stack.enter_context(_lock(self.path / f".lock{self.shard.suffix}", exclusive=True))
            yield

    @contextlib.contextmanager
    def settling(self) -> Iterator[None]:
        """Keep shards that start at the same time from writing run.json over one another; waits."""
        with _lock(self.path / ".lock-settling", exclusive=True, wait=True):
            yield

    def _require_equal_shards(self, shard: Shard) -> None:
        for other in self.path.glob(".lock-*-of-*"):
            if not other.name.endswith(f"-of-{shard.count}"):
                # Raises while a shard of another split runs; one that has ended is no matter.
                with _lock(other, exclusive=True):
                    pass


def read_run_json(path: Path) -> Tree:
    """A run.json. Raises FormatError for anything else."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(path, f"cannot be read as run.json: {error}") from error
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise FormatError(path, f"is not the run.json of a run: expected format {FORMAT!r}")
    if tree.get("version") != VERSION:
        raise FormatError(path, f"has version {tree.get('version')}, expected {VERSION}; use a newer evsim")
    return tree


def host() -> str:
    """The name of this machine."""
    return socket.gethostname() or "localhost"


@contextlib.contextmanager
def _lock(path: Path, *, exclusive: bool, wait: bool = False) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{path.parent} is in use by {_holder(descriptor)}; wait for it or stop it ({path.name})"
            ) from None
        except OSError as error:
            raise RunError(f"cannot lock {path}: {error.strerror}; choose a local disk") from error
        _sign(descriptor)
        yield
    finally:
        os.close(descriptor)


def _sign(descriptor: int) -> None:
    # A name on a full disk is no reason not to run.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(
            descriptor, json.dumps({"host": host(), "pid": os.getpid(), "since": now()}).encode() + b"\n", 0
        )


def _holder(descriptor: int) -> str:
    try:
        signed: Any = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {signed['pid']} on {signed['host']} since {signed['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"


def _remove_empty_folders(names: set[Path], top: Path) -> None:
    for name in sorted(names - {Path()}, key=lambda name: -len(name.parts)):
        folder = top / name
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
