"""The opcodes of pickle protocols 0 to 5, interpreted without calling or importing what a file names.

Plain values and numpy arrays of numbers come out. A name is kept as a `Name`; calling one gives what the
table of known names builds from the arguments, or an `Inert` object that remembers them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from evsim.pickles import arrays
from evsim.pickles.source import Source
from evsim.pickles.values import (
    CONTAINER_SIZE,
    ENTRY_SIZE,
    NUMBER_SIZE,
    TEXT_SIZE,
    Budget,
    Inert,
    KeyCheck,
    Name,
    PickleError,
    check_structure,
    printable,
)

PROTOCOL = 5
INTEGER_BYTES = 255
INTEGER_DIGITS = 600
FLOAT_LENGTH = 400
NAME_LENGTH = 1000
MOST_MARKS = 2000
SPOILT = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What plain code raises for values of the wrong kind, beside PickleError, which is a ValueError."""

Key = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class KnownNames:
    """What stands for the names that a reader understands, by (module, name).

    functions: pure functions of plain values that were already checked to be no more than that; they raise
    ValueError or TypeError for wrong ones. constants: values. others: whether a call of any other name gives
    an `Inert` object; else it is refused.
    """

    functions: Mapping[Key, Callable[..., Any]] = field(default_factory=dict)
    constants: Mapping[Key, Any] = field(default_factory=dict)
    others: bool = True


NO_NAMES = KnownNames()


def read_pickle(
    file: BinaryIO,
    *,
    names: KnownNames = NO_NAMES,
    find_storage: Callable[[Any], Any] | None = None,
) -> Any:
    """The next pickled value of a file that can seek, which is left at the byte after it.

    names: known beside plain values and numpy's. find_storage: what a persistent id stands for. Raises
    PickleError with the byte offset for everything that is wrong.
    """
    return _Interpreter(file, names, find_storage).run()


def encode_text(text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes that protocols before 3 write as text."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise PickleError("text is turned into bytes by another codec than latin1")
    return text.encode("latin1")


class _Interpreter:
    """The state of one run: a stack, the open marks in it, and the memo."""

    def __init__(self, file: BinaryIO, names: KnownNames, find_storage: Callable[[Any], Any] | None) -> None:
        self.source = Source(file)
        self.budget = Budget(self.source.size)
        self.keys = KeyCheck()
        self.names = names
        self.find_storage = find_storage
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        at = self.source.position
        try:
            while True:
                at = self.source.position
                code = self.source.take(1)
                if code == STOP:
                    value = self.pop()
                    check_structure(value)
                    return value
                operation = OPERATIONS.get(code)
                if operation is None:
                    raise PickleError(REFUSED.get(code) or f"{code!r} is no opcode")
                operation(self)
        except PickleError as error:
            raise PickleError(error.what, f"byte {at}") from error
        except SPOILT as error:
            words = printable(" ".join(str(error).split()))
            what = f"values of the wrong kind ({type(error).__name__}: {words})"
            raise PickleError(what, f"byte {at}") from error

    # Stack and memo

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise PickleError("a value is missing")
        return self.stack.pop()

    def top(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise PickleError("a value is missing")
        return self.stack[-1]

    def push_text(self, content: bytes, encoding: str = "utf-8") -> None:
        self.budget.spend(TEXT_SIZE + len(content))
        text = content.decode(encoding)
        if encoding != "utf-8":
            text.encode("utf-8")  # Lone surrogates fail here; UTF-8 has none.
        self.stack.append(text)

    def push_old_text(self, content: bytes) -> None:
        """A str of Python 2, which was text or bytes."""
        self.budget.spend(TEXT_SIZE + len(content))
        try:
            self.stack.append(content.decode("utf-8"))
        except UnicodeDecodeError:
            self.stack.append(content)

    def push_bytes(self, count: int) -> None:
        self.budget.spend(TEXT_SIZE)
        self.stack.append(self.source.take(count))

    def push_bytearray(self, count: int) -> None:
        self.budget.spend(CONTAINER_SIZE + count)
        self.stack.append(bytearray(self.source.take(count)))

    def push_integer(self, count: int) -> None:
        if count > INTEGER_BYTES:
            raise PickleError(f"an integer of {count} bytes")
        self.budget.spend(NUMBER_SIZE + count)
        self.stack.append(int.from_bytes(self.source.take(count), "little", signed=True))

    def push_number(self, layout: str) -> None:
        self.budget.spend(NUMBER_SIZE)
        self.stack.append(struct.unpack(layout, self.source.take(struct.calcsize(layout)))[0])

    def push_integer_text(self) -> None:
        line = self.source.line(INTEGER_DIGITS)
        self.budget.spend(TEXT_SIZE)
        if line in (b"00", b"01"):
            self.stack.append(line == b"01")
        elif re.fullmatch(rb"[+-]?\d+L?", line):
            self.stack.append(int(line.removesuffix(b"L")))
        else:
            raise PickleError("no whole number where one is announced")

    def push_float_text(self) -> None:
        self.budget.spend(TEXT_SIZE)
        self.stack.append(float(self.source.line(FLOAT_LENGTH)))

    def push_quoted(self) -> None:
        line = self.source.line().strip()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"":
            raise PickleError("text without its quotes")
        self.push_old_text(re.sub(ESCAPE, _unescape, line[1:-1]))

    def mark(self) -> None:
        if len(self.marks) >= MOST_MARKS:
            raise PickleError(f"more than {MOST_MARKS} values are open at once")
        self.marks.append(len(self.stack))

    def items(self) -> list[Any]:
        """What lies above the last mark, taken off the stack."""
        if not self.marks:
            raise PickleError("a mark is missing")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def drop(self) -> None:
        if self.marks and len(self.stack) == self.marks[-1]:
            self.marks.pop()
        else:
            self.pop()

    def put(self, place: int) -> None:
        value = self.top()
        self.budget.spend(ENTRY_SIZE)
        self.memo[place] = value
        if isinstance(value, arrays.ArrayDescription):
            value.places.append(place)

    def get(self, place: int) -> None:
        if place not in self.memo:
            raise PickleError(f"entry {place} of the memo is not there")
        self.stack.append(self.memo[place])

    def place_text(self) -> int:
        line = self.source.line(20)
        if not line.isdigit():
            raise PickleError("no place of the memo where one is announced")
        return int(line)

    # Containers

    def push_list(self, items: list[Any]) -> None:
        self.budget.spend(CONTAINER_SIZE + 16 * len(items))
        self.stack.append(items)

    def push_tuple(self, items: list[Any]) -> None:
        self.budget.spend(CONTAINER_SIZE + 8 * len(items) if items else 0)
        self.stack.append(tuple(items))

    def push_last(self, count: int) -> None:
        self.push_tuple([self.pop() for _ in range(count)][::-1])

    def push_dict(self, items: list[Any]) -> None:
        self.budget.spend(CONTAINER_SIZE)
        made: dict[Any, Any] = {}
        self.set_items(made, items)
        self.stack.append(made)

    def push_pairs(self, pairs: Any = ()) -> None:
        """A dictionary of pairs, as an OrderedDict of Python 2 is made."""
        if type(pairs) not in (list, tuple) or not all(
            type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs
        ):
            raise PickleError("an ordered dictionary is made of something else than pairs")
        self.push_dict([value for pair in pairs for value in pair])

    def push_set(self, items: Any = ()) -> None:
        self.stack.append(set(self.members(items)))

    def push_frozenset(self, items: Any = ()) -> None:
        self.stack.append(frozenset(self.members(items)))

    def members(self, items: Any) -> list[Any] | tuple[Any, ...]:
        """The items of a set, after checking that they may be."""
        if type(items) is not list and type(items) is not tuple:
            raise PickleError(f"a set is made of a {type(items).__name__}")
        self.budget.spend(CONTAINER_SIZE + ENTRY_SIZE * len(items))
        for item in items:
            self.keys.require(item)
        return items

    def append(self, items: list[Any]) -> None:
        target = self.top()
        self.budget.spend(16 * len(items))
        if type(target) is list:
            target.extend(items)
        elif isinstance(target, Inert):
            target.items.extend(items)
        else:
            raise PickleError(f"values are appended to a {type(target).__name__}")

    def add(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, Inert):
            self.append(items)
        elif type(target) is set:
            target.update(self.members(items))
        else:
            raise PickleError(f"values are added to a {type(target).__name__}")

    def set_items(self, target: Any, items: list[Any]) -> None:
        """Set key, value, key, value, ... on a dictionary."""
        keys, values = items[::2], items[1::2]
        if len(keys) != len(values):
            raise PickleError("a key comes without its value")
        self.budget.spend(ENTRY_SIZE * len(keys))
        if isinstance(target, Inert):
            target.items.extend(zip(keys, values))
            return
        if type(target) is not dict:
            raise PickleError(f"keys are set on a {type(target).__name__}")
        for key in keys:
            self.keys.require(key)
        target.update(zip(keys, values))

    def set_pair(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_entries([key, value])

    def set_entries(self, items: list[Any]) -> None:
        self.set_items(self.top(), items)

    # Names and what is made of them

    def push_name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str or len(module) + len(name) > NAME_LENGTH:
            raise PickleError("a name is no short text")
        self.budget.spend(CONTAINER_SIZE + len(module) + len(name))
        constant = self.names.constants.get((module, name))
        self.stack.append(Name(module, name) if constant is None else constant)

    def name_lines(self) -> None:
        module, name = self.source.line(NAME_LENGTH), self.source.line(NAME_LENGTH)
        self.push_name(module.decode("utf-8"), name.decode("utf-8"))

    def stack_name(self) -> None:
        name, module = self.pop(), self.pop()
        self.push_name(module, name)

    def call(self, named: Any, arguments: Any, keywords: Any = None) -> None:
        if not isinstance(named, Name):
            raise PickleError(f"it calls a {type(named).__name__}, expected the name of something")
        if type(arguments) is not tuple or not (keywords is None or type(keywords) is dict):
            raise PickleError("a call without a tuple of arguments")
        key = named.module, named.name
        function = self.names.functions.get(key) or PLAIN_FUNCTIONS.get(key)
        collection = COLLECTIONS.get(key)
        self.budget.spend(CONTAINER_SIZE + 8 * len(arguments))
        if function is None and collection is None:
            if not self.names.others:
                raise PickleError(f"it asks to run {named.origin}, which no plain values need")
            self.stack.append(Inert(named.origin, (*arguments, keywords) if keywords else arguments))
            return
        if keywords:
            raise PickleError(f"{named.origin} is given arguments by name")
        for argument in arguments:  # They may be walked through and copied.
            if isinstance(argument, (str, bytes, bytearray)):
                self.budget.spend(len(argument))
            elif isinstance(argument, (list, tuple, dict, set, frozenset)):
                self.budget.spend(ENTRY_SIZE * len(argument))
        if collection is not None:
            collection(self, *arguments)
        elif function is not None:
            self.stack.append(function(*arguments))

    def reduce(self) -> None:
        arguments, named = self.pop(), self.pop()
        self.call(named, arguments)

    def make_with_keywords(self) -> None:
        keywords, arguments, named = self.pop(), self.pop(), self.pop()
        self.call(named, arguments, keywords)

    def make_from_lines(self) -> None:
        self.name_lines()
        named = self.stack.pop()
        self.call(named, tuple(self.items()))

    def make_from_items(self) -> None:
        items = self.items()
        if not items:
            raise PickleError("an object without its class")
        self.call(items[0], tuple(items[1:]))

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if type(target) is dict:
            return  # Attributes of an OrderedDict: nothing here needs them.
        if not isinstance(target, Inert):
            raise PickleError(f"it sets attributes of a {type(target).__name__}")
        target.state = state
        if isinstance(target, arrays.ArrayDescription):
            self.replace_by_array(target)

    def replace_by_array(self, described: arrays.ArrayDescription) -> None:
        """Put the array in place of its description, on the stack and in the memo."""
        array = described.array()
        if array is None:
            return
        self.budget.spend(CONTAINER_SIZE + array.nbytes)
        self.stack[-1] = array
        for place in described.places:
            if self.memo[place] is described:
                self.memo[place] = array
        described.places.clear()

    def persistent(self, identifier: Any) -> None:
        if self.find_storage is None:
            raise PickleError("a persistent id outside a tensor file")
        self.budget.spend(CONTAINER_SIZE)
        self.stack.append(self.find_storage(identifier))

    # What frames them

    def protocol(self) -> None:
        version = self.source.number(1)
        if version > PROTOCOL:
            raise PickleError(f"protocol {version}, expected {PROTOCOL} or less")

    def frame(self) -> None:
        length = self.source.number(8)
        if length > self.source.left:
            raise PickleError(f"a frame of {length} bytes where {self.source.left} are left")


ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.|$)", re.DOTALL)
ESCAPED = {b"\\": b"\\", b"'": b"'", b'"': b'"', b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def _unescape(found: re.Match[bytes]) -> bytes:
    code = found[1]
    if len(code) == 3:
        return bytes([int(code[1:], 16)])
    if code not in ESCAPED:
        raise PickleError("an unknown escape in text")
    return ESCAPED[code]


def _bytearray(content: Any = b"", encoding: Any = None) -> bytearray:
    if encoding is not None:
        content = encode_text(content, encoding)
    if type(content) is not bytes:
        raise PickleError("a bytearray is made of something else than bytes")
    return bytearray(content)


def _bytes(content: Any = b"") -> bytes:
    if type(content) is not bytes:
        raise PickleError("bytes are made of something else")
    return content


def _complex(real: Any, imaginary: Any) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise PickleError("a complex number is made of something else than two numbers")
    return complex(real, imaginary)


PLAIN_FUNCTIONS: Mapping[Key, Callable[..., Any]] = {
    ("_codecs", "encode"): encode_text,
    **{
        (module, name): made
        for module in ("builtins", "__builtin__")
        for name, made in (("bytearray", _bytearray), ("bytes", _bytes), ("complex", _complex))
    },
    ("numpy", "dtype"): arrays.DtypeDescription,
    **{
        (f"numpy.{core}.{module}", name): made
        for core in ("core", "_core")
        for module, name, made in (
            ("multiarray", "_reconstruct", arrays.rebuild_array),
            ("multiarray", "scalar", arrays.read_scalar),
            ("numeric", "_frombuffer", arrays.array_of_buffer),
        )
    },
}
"""What every reader knows: how Python and numpy pickle plain values."""

COLLECTIONS: Mapping[Key, Callable[..., None]] = {
    ("collections", "OrderedDict"): _Interpreter.push_pairs,
    ("builtins", "set"): _Interpreter.push_set,
    ("__builtin__", "set"): _Interpreter.push_set,
    ("builtins", "frozenset"): _Interpreter.push_frozenset,
    ("__builtin__", "frozenset"): _Interpreter.push_frozenset,
}
"""What is made of many values, whose keys the interpreter checks."""

STOP = b"."
REFUSED = {
    **dict.fromkeys((b"\x82", b"\x83", b"\x84"), "it refers to a registry of extensions, which no file can"),
    **dict.fromkeys((b"\x97", b"\x98"), "it refers to a buffer that is not in the file"),
}
OPERATIONS: Mapping[bytes, Callable[[_Interpreter], None]] = {
    b"\x80": _Interpreter.protocol,
    b"\x95": _Interpreter.frame,
    b"(": _Interpreter.mark,
    b"0": _Interpreter.drop,
    b"1": lambda run: run.items().clear(),
    b"2": lambda run: run.stack.append(run.top()),
    # Memo
    b"g": lambda run: run.get(run.place_text()),
    b"h": lambda run: run.get(run.source.number(1)),
    b"j": lambda run: run.get(run.source.number(4)),
    b"p": lambda run: run.put(run.place_text()),
    b"q": lambda run: run.put(run.source.number(1)),
    b"r": lambda run: run.put(run.source.number(4)),
    b"\x94": lambda run: run.put(len(run.memo)),
    # Single values
    b"N": lambda run: run.stack.append(None),
    b"\x88": lambda run: run.stack.append(True),
    b"\x89": lambda run: run.stack.append(False),
    b"I": _Interpreter.push_integer_text,
    b"L": _Interpreter.push_integer_text,
    b"J": lambda run: run.push_number("<i"),
    b"K": lambda run: run.stack.append(run.source.number(1)),
    b"M": lambda run: run.push_number("<H"),
    b"\x8a": lambda run: run.push_integer(run.source.number(1)),
    b"\x8b": lambda run: run.push_integer(run.source.number(4)),
    b"F": _Interpreter.push_float_text,
    b"G": lambda run: run.push_number(">d"),
    # Text and bytes
    b"S": _Interpreter.push_quoted,
    b"T": lambda run: run.push_old_text(run.source.take(run.source.number(4))),
    b"U": lambda run: run.push_old_text(run.source.take(run.source.number(1))),
    b"V": lambda run: run.push_text(run.source.line(), "raw-unicode-escape"),
    b"X": lambda run: run.push_text(run.source.take(run.source.number(4))),
    b"\x8c": lambda run: run.push_text(run.source.take(run.source.number(1))),
    b"\x8d": lambda run: run.push_text(run.source.take(run.source.number(8))),
    b"B": lambda run: run.push_bytes(run.source.number(4)),
    b"C": lambda run: run.push_bytes(run.source.number(1)),
    b"\x8e": lambda run: run.push_bytes(run.source.number(8)),
    b"\x96": lambda run: run.push_bytearray(run.source.number(8)),
    # Containers
    b"]": lambda run: run.push_list([]),
    b"l": lambda run: run.push_list(run.items()),
    b"a": lambda run: run.append([run.pop()]),
    b"e": lambda run: run.append(run.items()),
    b")": lambda run: run.push_tuple([]),
    b"t": lambda run: run.push_tuple(run.items()),
    b"\x85": lambda run: run.push_last(1),
    b"\x86": lambda run: run.push_last(2),
    b"\x87": lambda run: run.push_last(3),
    b"}": lambda run: run.push_dict([]),
    b"d": lambda run: run.push_dict(run.items()),
    b"s": _Interpreter.set_pair,
    b"u": lambda run: run.set_entries(run.items()),
    b"\x8f": lambda run: run.push_set(),
    b"\x90": lambda run: run.add(run.items()),
    b"\x91": lambda run: run.push_frozenset(run.items()),
    # Names and objects
    b"c": _Interpreter.name_lines,
    b"\x93": _Interpreter.stack_name,
    b"R": _Interpreter.reduce,
    b"\x81": _Interpreter.reduce,
    b"\x92": _Interpreter.make_with_keywords,
    b"i": _Interpreter.make_from_lines,
    b"o": _Interpreter.make_from_items,
    b"b": _Interpreter.build,
    b"P": lambda run: run.persistent(run.source.line(NAME_LENGTH).decode("ascii")),
    b"Q": lambda run: run.persistent(run.pop()),
}
