"""Temporary names beside an output: who writes under them, and which of them nobody writes any more.

A name says host, process, and where that number of the process counts (`_process_space`); who writes also
shares a lock of the folder. So the next run removes what was surely abandoned, and in doubt nothing. A forked
child shares the lock until it ends or its parent lets go of it; a program that is started does not.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(
    r"^\.(?P<final>.+)\.(?P<host>[^~.]+)~(?P<pid>\d+)(~(?P<space>[0-9a-f]{8})(?P<unlocked>u?))?~[0-9a-f]{8}"
    r"(?P<step>\.partial(\.[^.]*)?|\.replaced)$"
)
"""Names without a space are those of earlier versions, which held no lock."""
_PATIENCE_S = 2.0
"""To wait for a lock that others have only while they clean; somebody else's is not waited for longer."""


class Temporary(NamedTuple):
    """What lies under a temporary name: `path` is to become, or stepped aside from, the name `final`."""

    path: Path
    final: str
    host: str
    pid: int
    space: str | None
    unlocked: bool
    aside: bool

    @property
    def surely_dead(self) -> bool:
        """True if its process ran here and does no longer."""
        return self.host == _host() and self.space == _process_space() and not _runs(self.pid)

    @property
    def dead_if_unlocked(self) -> bool:
        """True if having the lock of its folder proves that nobody writes it."""
        if self.host != _host() or self.unlocked:
            return False
        return self.space is not None or not _runs(self.pid)


def temporary_name(final: Path, *, locked: bool) -> Path:
    """A new name beside `final`. locked: its writer shares the folder's lock (`writing_in`)."""
    space = _process_space() + ("" if locked else "u")
    # The suffix stays last: image and video writers choose their encoder by it.
    return final.with_name(
        f".{final.name}.{_host()}~{os.getpid()}~{space}~{secrets.token_hex(4)}.partial{final.suffix}"
    )


def name_aside(temporary: Path) -> Path:
    """The name for what waits while `temporary` takes its place."""
    return temporary.with_name(re.sub(r"\.partial(\.[^.]*)?$", ".replaced", temporary.name))


@contextlib.contextmanager
def writing_in(folder: Path) -> Iterator[bool]:
    """Share the lock of a folder while something is written in it; False where it cannot be locked."""
    with _lock(folder, fcntl.LOCK_SH, _PATIENCE_S) as locked:
        yield locked


def remove_abandoned(folder: Path) -> list[Path]:
    """Remove temporaries in `folder` that surely nobody writes any more; returns what was removed.

    That is what a process of this host left that no longer runs, and, where the number of the process may
    count elsewhere (another container, an earlier start of the machine), whose lock can be had. What stepped
    aside for something that did not come gets its name back.
    """
    found = _temporaries(folder)
    removed = _clear(each for each in found if each.surely_dead)
    if any(each.dead_if_unlocked and not each.surely_dead for each in found):
        with _lock(folder, fcntl.LOCK_EX, 0) as alone:
            # Listed anew: what was being written a moment ago may be complete.
            removed += _clear(each for each in _temporaries(folder) if alone and each.dead_if_unlocked)
    return removed


def remove_leftovers(*finals: Path) -> list[Path]:
    """Remove every temporary of `finals`, whichever host or process left it; returns what was removed.

    Only for a caller that holds a lock by which nobody else can be writing them. Lists each folder once.
    """
    names: dict[Path, set[str]] = {}
    for final in finals:
        names.setdefault(final.parent, set()).add(final.name)
    removed = []
    for folder, wanted in names.items():
        if folder.is_dir():
            removed += _clear(each for each in _temporaries(folder) if each.final in wanted)
    return removed


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _temporaries(folder: Path) -> list[Temporary]:
    # By name alone: a folder of many thousand outputs is listed for each of them.
    with os.scandir(folder) as entries:
        found = [(entry.name, _NAME.match(entry.name)) for entry in entries if entry.name[0] == "."]
    return [
        Temporary(
            folder / name,
            match["final"],
            match["host"],
            int(match["pid"]),
            match["space"],
            bool(match["unlocked"]),
            match["step"] == ".replaced",
        )
        for name, match in found
        if match
    ]


def _clear(entries: Iterable[Temporary]) -> list[Path]:
    """Remove temporaries; what stepped aside in vain first gets its name back."""
    removed = []
    for each in sorted(entries, key=lambda each: not each.aside):
        final = each.path.with_name(each.final)
        if each.aside and not os.path.lexists(final):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                each.path.rename(final)
        elif _place_is_open(each):
            # Somebody else made the name meanwhile: neither the old nor what was to replace it is in there.
            continue
        else:
            remove(each.path)
            removed.append(each.path)
    return removed


def _place_is_open(each: Temporary) -> bool:
    """True if something stepped aside, and what it stepped aside for did not take its place."""
    if not each.aside:
        return os.path.lexists(name_aside(each.path))
    stem = each.path.name.removesuffix(".replaced") + ".partial"
    return any(
        os.path.lexists(each.path.with_name(stem + suffix)) for suffix in ("", Path(each.final).suffix)
    )


@contextlib.contextmanager
def _lock(folder: Path, kind: int, patience_s: float) -> Iterator[bool]:
    descriptor, locked = None, False
    try:
        with contextlib.suppress(OSError):  # no right to open it, or a file system without locks
            # Python's descriptors are closed in started programs, which would hold the lock as they run.
            descriptor = os.open(folder, os.O_RDONLY)
            locked = _has_lock(descriptor, kind, patience_s)
        yield locked
    finally:
        if descriptor is not None:
            if locked:
                # Closing is not enough: a child forked meanwhile has the same open file, and so the lock.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _has_lock(descriptor: int, kind: int, patience_s: float) -> bool:
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.01)
        else:
            return True


def _host() -> str:
    # Without dots, so that a name ends where it does.
    return re.sub(r"[~.]", "-", socket.gethostname()) or "localhost"


def _process_space() -> str:
    """Eight hexadecimal digits for where a process's number counts: this start of the machine, container."""
    if not sys.platform.startswith("linux"):
        return "0" * 8
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        space = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return secrets.token_hex(4)  # like no other: the lock decides
    return hashlib.sha256(f"{start} {space}".encode()).hexdigest()[:8]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return False
    except PermissionError:
        return True
    return True
