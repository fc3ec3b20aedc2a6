"""Files and folders that appear under their final name complete, or not at all.

Everything is written under a temporary name in the same folder, flushed, and given its name in one step.
Where the system cannot exchange the names of two folders, the old one steps aside first; a run that is killed
in between is undone by the next run that writes in that folder. evsim.temporaries tells what nobody writes
any more from what is being written.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from evsim.errors import InputError, RunError
from evsim.temporaries import (
    name_aside,
    remove,
    remove_abandoned,
    remove_leftovers,
    temporary_name,
    writing_in,
)

__all__ = [
    "EarlyFlush",
    "atomic_output",
    "file_sha256",
    "remove_abandoned",
    "remove_leftovers",
    "require_absent",
]

_NO_SPACE = {
    errno.ENOSPC: "no space left on device",
    errno.EDQUOT: "disk quota exceeded",
    errno.EFBIG: "file too large",
}


def require_absent(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """`path` as a Path; InputError if something is there and `overwrite` is not set."""
    found = Path(path)
    if found.exists() and not overwrite:
        raise InputError(f"{found} exists; choose another output or pass --overwrite")
    return found


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def atomic_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename what was made there (file or folder) to `path` on success.

    On any exception the temporary is removed and `path` is untouched. Missing parent folders are made.
    Raises InputError if `path` exists without `overwrite`, RunError when the disk is full.
    """
    final = Path(path)
    if final.parent.is_dir():
        remove_abandoned(final.parent)  # first: it may bring back what a killed run moved out of the way
    require_absent(final, overwrite=overwrite)
    temporary = None
    try:
        _make_folder(final.parent)
        with writing_in(final.parent) as locked:
            temporary = temporary_name(final, locked=locked)
            yield temporary
            _flush(temporary)
            _replace(temporary, final)
    except BaseException as error:
        if temporary is not None:
            remove(temporary)
        reason = _no_space_reason(error)
        if reason:
            raise RunError(f"{final}: {reason}; nothing was kept: free some space and run again") from error
        raise


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        file = next(path for path in (folder, *folder.parents) if path.exists())
        raise InputError(f"{file} is a file, expected a folder; choose another output") from error


class EarlyFlush:
    """Sends a large output to the disk while it still grows, so that the flush at its end has little left.

    path: the file, or the folder whose own files grow; it is flushed by a thread whenever `every` more bytes
    were told of. `finish` waits, and raises the OSError that the disk answered with.
    """

    def __init__(self, path: Path, *, every: int = 64 << 20) -> None:
        self._path, self._every = path, every
        self._grown = 0
        self._pool: ThreadPoolExecutor | None = None
        self._flushing: Future[None] | None = None

    def grew(self, count: int) -> None:
        """Say that `count` more bytes were written."""
        self._grown += count
        if self._grown < self._every or (self._flushing is not None and not self._flushing.done()):
            return
        self._grown = 0
        if self._flushing is not None:
            self._flushing.result()
        self._pool = self._pool or ThreadPoolExecutor(1, "flush early")
        self._flushing = self._pool.submit(self._flush_files)

    def finish(self) -> None:
        """Wait for the thread; a refusal that it met would not be told again to whoever flushes next."""
        if self._pool is None:
            return
        self._pool.shutdown()
        self._pool = None
        if self._flushing is not None:
            self._flushing.result()

    def give_up(self) -> None:
        """Wait for the thread, whatever the disk said."""
        with contextlib.suppress(OSError):
            self.finish()

    def _flush_files(self) -> None:
        for file in list(self._path.iterdir()) if self._path.is_dir() else [self._path]:
            if file.is_file():
                _flush_one(file)


def _flush(path: Path) -> None:
    if not path.is_dir():
        _flush_one(path)
        return
    # At once: the journal then takes the files of a folder together, not one after the other.
    with ThreadPoolExecutor(8, "flush") as pool:
        list(pool.map(_flush_one, [path, *path.rglob("*")]))


def _flush_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(temporary: Path, final: Path) -> None:
    if not (final.is_dir() or (final.exists() and temporary.is_dir())):
        temporary.replace(final)
        return
    # Only a file can be renamed over what exists.
    if _exchange(temporary, final):
        remove(temporary)
        return
    aside = name_aside(temporary)
    try:
        final.rename(aside)
        temporary.rename(final)
    except BaseException:
        if not os.path.lexists(final):
            aside.rename(final)
        raise
    remove(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform.startswith("linux") else None
    if renameat2 is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of the Linux headers
    names = [ctypes.c_char_p(os.fsencode(path)) for path in (one, other)]
    return bool(renameat2(here, names[0], here, names[1], exchange) == 0)


def _no_space_reason(error: BaseException) -> str:
    """Why the disk refused, or empty: libraries hide the errno in the text of other exceptions."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _NO_SPACE:
            return _NO_SPACE[cause.errno]
        for number, words in _NO_SPACE.items():
            if f"errno = {number}," in str(cause) or os.strerror(number).lower() in str(cause).lower():
                return words
        cause = cause.__cause__ or cause.__context__
    return ""
