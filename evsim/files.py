"""Files and folders that appear under their final name complete, or not at all.

Everything is written under a temporary name in the same folder, flushed and renamed. The temporary name
carries host and process, so that the next run can tell an abandoned one from one being written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from evsim.errors import InputError, RunError

_TEMPORARY = re.compile(r"^\..+\.(?P<host>[^~]+)~(?P<pid>\d+)~[0-9a-f]{8}\.partial(\.[^.]*)?$")
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
    final = require_absent(path, overwrite=overwrite)
    temporary = None
    try:
        _make_folder(final.parent)
        remove_abandoned(final.parent)
        temporary = _temporary_name(final)
        yield temporary
        _flush(temporary)
        _replace(temporary, final)
    except BaseException as error:
        if temporary is not None:
            _remove(temporary)
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


def remove_abandoned(folder: Path) -> list[Path]:
    """Remove temporaries in `folder` whose process on this host no longer runs; returns what was removed."""
    removed = []
    for entry in folder.iterdir():
        match = _TEMPORARY.match(entry.name)
        if match and match["host"] == _host() and not _runs(int(match["pid"])):
            _remove(entry)
            removed.append(entry)
    return removed


def remove_leftovers(final: Path) -> list[Path]:
    """Remove every temporary of `final`, whichever host or process left it; returns what was removed.

    Only for a caller that holds a lock by which nobody else can be writing `final`.
    """
    if not final.parent.is_dir():
        return []
    prefix = f".{final.name}."
    found = [entry for entry in final.parent.iterdir() if entry.name.startswith(prefix)]
    removed = [entry for entry in found if _TEMPORARY.match(entry.name)]
    for entry in removed:
        _remove(entry)
    return removed


def _temporary_name(final: Path) -> Path:
    # The suffix stays last: image and video writers choose their encoder by it.
    return final.with_name(
        f".{final.name}.{_host()}~{os.getpid()}~{secrets.token_hex(4)}.partial{final.suffix}"
    )


def _host() -> str:
    return socket.gethostname().replace("~", "-") or "localhost"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


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
    if final.is_dir() or (final.exists() and temporary.is_dir()):
        # Only a file can be renamed over what exists: step the old one aside under a temporary name first.
        aside = _temporary_name(final)
        final.rename(aside)
        temporary.rename(final)
        _remove(aside)
    else:
        temporary.replace(final)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
