"""What stands for the names and objects of a pickle, and the bounds of what may be built from one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

SIZE_FACTOR = 8
SIZE_ROOM = 256 << 20
"""What a pickle may unpack to: so many times its own bytes, and so many bytes more."""

CONTAINER_SIZE = 300
ENTRY_SIZE = 100
TEXT_SIZE = 64
NUMBER_SIZE = 32
"""Bytes that a container, an entry of one, a text and a number are counted with, on top of their content."""

DEEPEST = 200
TREE_FACTOR = 10
TREE_ROOM = 1_000_000
"""What sharing may hide: values of the tree that a structure unfolds to, for each one that it holds."""

KEY_BITS = 64
KEY_TUPLES = 10_000
KEY_TUPLE_LENGTH = 16
KEY_TUPLE_DEPTH = 3

LONGEST_SHOWN = 100


class PickleError(ValueError):
    """A pickle that is damaged, or that asks for more than plain values.

    what: without its place. place: the byte offset of the opcode, or empty where it is not known.
    """

    def __init__(self, what: str, place: str = "") -> None:
        self.what, self.place = what, place
        super().__init__(f"{place}: {what}" if place else what)

    def inside(self, part: str) -> PickleError:
        """The same error, its place in a part of a larger file."""
        return PickleError(self.what, f"{part}, {self.place}" if self.place else part)


def printable(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Text of a file for a message: one line of visible ASCII, cut after `longest` characters."""
    cut = text[:longest]
    visible = cut if cut.isascii() and cut.isprintable() else ascii(cut)[1:-1]
    return visible + ("..." if len(text) > longest else "")


class Name:
    """A class or function that a pickle names; it was not looked up.

    module, name: as the pickle has them.
    """

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    @property
    def origin(self) -> str:
        """The module and the name with a dot between, fit for a message."""
        return printable(f"{self.module}.{self.name}")

    def __repr__(self) -> str:
        return f"<not loaded: {self.origin}>"


class Inert:
    """Stands for an object of a class that was not loaded.

    origin: "module.Name" that the pickle asked for. arguments: what it was made with. state: what the pickle
    gave it. items: what was appended or set on it, as values or (key, value) pairs.
    """

    __slots__ = ("arguments", "items", "origin", "state")

    def __init__(self, origin: str, arguments: tuple[Any, ...] = ()) -> None:
        self.origin = origin
        self.arguments = arguments
        self.state: Any = None
        self.items: list[Any] = []

    def __repr__(self) -> str:
        return f"<not loaded: {self.origin}>"


class Budget:
    """Bytes that may still be built from a pickle of `size` bytes; PickleError when they are spent."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = SIZE_FACTOR * size + SIZE_ROOM

    def spend(self, count: int) -> None:
        """Take `count` bytes away."""
        self.left -= count
        if self.left < 0:
            raise PickleError("it would unpack to far more than its own size")


class KeyCheck:
    """Which values may be keys of a dictionary or members of a set.

    Hashing calls nothing of the file's, but long integers can be chosen to collide and tuples to nest, so
    that a short file would take hours or all of the stack.
    """

    __slots__ = ("_tuples",)

    def __init__(self) -> None:
        self._tuples = 0

    def require(self, value: Any, depth: int = 0) -> None:
        """PickleError for a value that is no key."""
        kind = type(value)
        if kind is str or kind is bytes or kind is float or kind is bool or value is None:
            return
        if kind is int:
            if value.bit_length() > KEY_BITS:
                raise PickleError(f"a key is an integer of {value.bit_length()} bits")
        elif kind is tuple:
            self._tuples += 1
            if depth >= KEY_TUPLE_DEPTH or len(value) > KEY_TUPLE_LENGTH or self._tuples > KEY_TUPLES:
                raise PickleError("keys are long, nested or very many tuples")
            for item in value:
                self.require(item, depth + 1)
        elif isinstance(value, (complex, list, dict, set, frozenset, bytearray)):
            raise PickleError(f"a key is a {kind.__name__}")


def check_structure(value: Any) -> None:
    """Refuse values that hold themselves, nest deeply, or grow without bound when their sharing is undone.

    Inert objects end the walk: nothing looks into them unasked.
    """
    walked: dict[int, tuple[int, int]] = {}
    pending = [_Walk(value)] if type(value) in _NESTING else []
    open_containers = {id(value)}
    distinct = 0
    while pending:
        walk = pending[-1]
        child = next(walk.children, None)
        if child is None:
            pending.pop()
            distinct += len(walk.container)
            open_containers.discard(id(walk.container))
            walked[id(walk.container)] = walk.depth, walk.count
            if pending:
                pending[-1].add(walk.depth, walk.count)
            elif walk.count > TREE_FACTOR * distinct + TREE_ROOM:
                raise PickleError("its values are shared so often that they would unpack without end")
        elif id(child) in walked:
            walk.add(*walked[id(child)])
        elif id(child) in open_containers:
            raise PickleError(f"a {type(child).__name__} holds itself")
        else:
            pending.append(_Walk(child))
            open_containers.add(id(child))
        if len(pending) + (pending[-1].depth if pending else 0) > DEEPEST:
            raise PickleError(f"its values are nested more than {DEEPEST} deep")


_NESTING = (list, tuple, dict)


class _Walk:
    """A container on the way through a structure: what it holds, its depth, its values counted as a tree."""

    __slots__ = ("children", "container", "count", "depth")

    def __init__(self, container: Any) -> None:
        self.container = container
        self.children = _nested(container)
        self.depth = 0
        self.count = len(container)

    def add(self, depth: int, count: int) -> None:
        self.depth = max(self.depth, depth + 1)
        self.count += count


def _nested(container: Any) -> Iterator[Any]:
    values = container.values() if isinstance(container, dict) else container
    return (value for value in values if type(value) in _NESTING and value)
