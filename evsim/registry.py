"""A table of named things in which a repeated or unknown name is an error that helps."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
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

    package, attribute: each module of this package is a thing of its name, which is the module's attribute;
    it is imported when the thing is asked for. group: entry points through which other packages add to it
    (`evsim.plugins`), looked up when a name is not one of ours, and when all are listed. thing: what all
    must be instances of, which is asked of those from outside.
    """

    def __init__(
        self,
        kind: str,
        group: str | None = None,
        *,
        package: str | None = None,
        attribute: str = "",
        thing: type[T] | None = None,
    ) -> None:
        self.kind = kind
        self.group = group
        self._package, self._attribute, self._thing = package, attribute, thing
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
        if name in self._modules():
            own: T = getattr(importlib.import_module(f"{self._package}.{name}"), self._attribute)
            return own
        points = self._outside()
        if name not in points:
            choices = sorted(self)
            raise InputError(
                f"unknown {self.kind} {name!r}{nearest(name, choices)}; known: {', '.join(choices)}"
            )
        found: T = plugins.load(points[name])
        if self._thing is not None and not isinstance(found, self._thing):
            raise InputError(
                f"{self.group}: {name!r} is a {type(found).__name__}, expected a {self._thing.__name__}; "
                "mend or uninstall it"
            )
        return found

    def own(self) -> list[T]:
        """All of ours; other packages are not asked."""
        return [self[name] for name in self._own()]

    def from_outside(self) -> list[T]:
        """All that other packages add."""
        return [self[name] for name in self._outside()]

    def __contains__(self, name: object) -> bool:
        return name in self._own() or name in self._outside()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._own(), *self._outside())))

    def __len__(self) -> int:
        return len({*self._own(), *self._outside()})

    def _own(self) -> tuple[str, ...]:
        return (*self._entries, *self._modules())

    def _modules(self) -> tuple[str, ...]:
        if self._package is None:
            return ()
        path = importlib.import_module(self._package).__path__
        return tuple(sorted(module.name for module in pkgutil.iter_modules(path)))

    def _outside(self) -> dict[str, EntryPoint]:
        """What other packages announce. Raises InputError where a name is one of ours."""
        found = {} if self.group is None else plugins.announced(self.group)
        own = set(self._own()) if found else set()
        taken = next((name for name in found if name in own), None)
        if taken is not None:
            raise InputError(
                f"{self.kind} {taken!r} is evsim's own and {found[taken].value} announces one of that name; "
                "uninstall that package, or let it choose another name"
            )
        return found
