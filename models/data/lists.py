"""Lists of files in a text file, and lists in which nothing may be named twice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from evsim.errors import InputError


class ListedName(NamedTuple):
    """A name in a list, and in which line it is, counted from 1."""

    line: int
    name: str


def read_list(path: Path) -> list[ListedName]:
    """The names in a text file, one a line; empty lines, spaces around, CRLF and a byte order mark count not.

    Raises InputError for a file that is not text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list of names, one a line: {error}") from None
    lines = enumerate(text.splitlines(), start=1)
    return [ListedName(number, line.strip()) for number, line in lines if line.strip()]


def require_distinct(paths: Iterable[Path], what: str) -> None:
    """InputError that names the first of `paths` that comes a second time. what: one of them, in a word."""
    seen: set[Path] = set()
    for path in paths:
        if path in seen:
            raise InputError(f"{path} is named more than once; name each {what} once")
        seen.add(path)
