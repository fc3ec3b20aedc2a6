"""A table of named things in which a repeated or unknown name is an error that helps."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from evsim.errors import InputError

T = TypeVar("T")


def nearest(name: str, choices: list[str]) -> str:
    """The words ' (did you mean ...?)' for the closest choice, or nothing."""
    found = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""


class Registry(Generic[T], Mapping[str, T]):
    """Names to things of one kind; `kind` is the word that error messages use."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files its object under `name`; ValueError if the name is taken."""

        def add(thing: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = thing
            return thing

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            choices = sorted(self._entries)
            raise InputError(
                f"unknown {self.kind} {name!r}{nearest(name, choices)}; known: {', '.join(choices)}"
            )
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
