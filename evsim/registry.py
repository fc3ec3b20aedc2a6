"""A table of named things in which a repeated or unknown name is an error that helps."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from evsim import plugins
from evsim.errors import InputError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


def nearest(name: str, choices: list[str]) -> str:
    """The words ' (did you mean ...?)' for the closest choice, or nothing."""
    found = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""


class Registry(Generic[T], Mapping[str, T]):
    """Names to things of one kind; `kind` is the word that error messages use.

    group: entry points through which other packages add to it (`evsim.plugins`). They are looked up when a
    name is not one of ours, and when all are listed; a thing is loaded when it is asked for.
    """

    def __init__(self, kind: str, group: str | None = None) -> None:
        self.kind = kind
        self.group = group
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
        if name in self._entries:
            return self._entries[name]
        points = self._outside()
        if name not in points:
            choices = sorted(self)
            raise InputError(
                f"unknown {self.kind} {name!r}{nearest(name, choices)}; known: {', '.join(choices)}"
            )
        thing: T = plugins.load(points[name])
        return thing

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._outside()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._entries, *self._outside())))

    def __len__(self) -> int:
        return len({*self._entries, *self._outside()})

    def _outside(self) -> dict[str, EntryPoint]:
        """What other packages announce. Raises InputError where a name is one of ours."""
        found = {} if self.group is None else plugins.announced(self.group)
        taken = next((name for name in found if name in self._entries), None)
        if taken is not None:
            raise InputError(
                f"{self.kind} {taken!r} is evsim's own and {found[taken].value} announces one of that name; "
                "uninstall that package, or let it choose another name"
            )
        return found
