"""When, where and with which versions a run was carried out: the `invocations` of run.json."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata

from evsim import __version__
from evsim.configuration import Tree
from evsim.pipelines.runs.executors import Executor
from evsim.pipelines.runs.job import now
from evsim.pipelines.runs.run_folder import RunFolder, host

CONTENT_PACKAGES = ("numpy", "numba", "opencv-python-headless", "h5py")


@contextlib.contextmanager
def recorded_invocation(folder: RunFolder, executor: Executor) -> Iterator[None]:
    """Enter this invocation in run.json, and at the end when it ended and how."""
    entry: Tree = {
        "started": now(),
        "ended": None,
        "outcome": "unfinished",
        "executor": {"name": executor.name, "workers": executor.workers},
        "shard": str(folder.shard) if folder.shard else None,
        "machine": machine(),
        "versions": versions(),
    }
    identity = {name: entry[name] for name in ("started", "shard")} | {"pid": os.getpid()}
    entry["pid"] = identity["pid"]
    _enter(folder, entry, identity)
    try:
        yield
    except BaseException as error:
        _enter(folder, {**entry, "ended": now(), "outcome": type(error).__name__}, identity)
        raise
    _enter(folder, {**entry, "ended": now(), "outcome": "finished"}, identity)


def _enter(folder: RunFolder, entry: Tree, identity: Tree) -> None:
    with folder.settling():
        tree = folder.read() or {}
        others = [
            other
            for other in tree.get("invocations", [])
            if any(other.get(name) != value for name, value in identity.items())
        ]
        folder.write({**tree, "invocations": [*others, entry]})


def machine() -> Tree:
    """Where a run was carried out."""
    return {
        "host": host(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
    }


def versions() -> Tree:
    """Versions of evsim, Python and of the packages that take part in what is written."""
    found = {"evsim": __version__, "python": sys.version.split()[0]}
    for package in CONTENT_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
