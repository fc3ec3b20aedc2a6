"""Typed, frozen configuration: a strict loader for mappings, files and ``a.b=value`` overrides.

A configuration class is a frozen, keyword-only dataclass whose fields have defaults and a one-line
docstring each; its `__post_init__` calls `check_choices`: a misspelt choice is an error however it is made.
A field that came after files of its class were written is declared by `later`.
Before it is built, values may be *draws* written as text, ``uniform(0.2, 0.3)``,
``normal(m, s)``, ``loguniform(a, b)`` or ``choice(a, b, c)``; `resolve_draws` turns them into numbers.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import json
import os
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from evsim.errors import ConfigError
from evsim.randomness import RandomDraws
from evsim.registry import nearest

C = TypeVar("C")
Tree = dict[str, Any]

_POWER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+$")
_LARGEST_FLOAT = int(sys.float_info.max)
_DRAW = re.compile(r"^(uniform|normal|loguniform|choice)\((.*)\)$")
_YAML_ERRORS = (yaml.YAMLError, ValueError, OverflowError, RecursionError)
"""What loading raises: also for impossible dates, numbers of thousands of digits and very deep nesting."""
_LATER = "evsim: left out while it has its default"


def later(*, default: Any = dataclasses.MISSING, default_factory: Any = dataclasses.MISSING) -> Any:
    """A field that files written before do not have: `to_tree` leaves it out while it has its default.

    So what was written before it came, and the fingerprints of finished work, stay what they are.
    """
    if default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=default_factory, metadata={_LATER: True})
    return dataclasses.field(default=default, metadata={_LATER: True})


def read_file(path: str | os.PathLike[str]) -> Tree:
    """The mapping in a YAML or JSON file. Raises ConfigError when it is missing, malformed or no mapping."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read configuration {path}: {error}") from error
    try:
        loaded = yaml.safe_load(text)
    except _YAML_ERRORS as error:
        raise ConfigError(f"{path} is neither YAML nor JSON: {_in_one_line(error)}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} holds a {type(loaded).__name__}, expected a mapping of fields")
    return loaded


def parse_overrides(assignments: Sequence[str]) -> Tree:
    """The nested mapping that ``["a.b=1", "c=uniform(0,1)"]`` stands for; values are YAML."""
    tree: Tree = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(
                f"cannot read {assignment!r}, expected field=value such as sensor.cutoff_hz=200"
            )
        try:
            value = text.strip() if _DRAW.match(text.strip()) else yaml.safe_load(text)
        except _YAML_ERRORS as error:
            raise ConfigError(f"cannot read the value in {assignment!r}: {_in_one_line(error)}") from error
        *parents, last = name.split(".")
        branch: Tree = {last: value}
        for parent in reversed(parents):
            branch = {parent: branch}
        tree = merge(tree, branch)
    return tree


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """A new mapping with the fields of `over` laid over `base`, branch by branch."""
    merged = dict(base)
    for name, value in over.items():
        below = merged.get(name)
        merged[name] = (
            merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
        )
    return merged


def resolve_draws(tree: Mapping[str, Any], seed: int, clip: str, path: str = "") -> Tree:
    """`tree` with every draw replaced by its value for (seed, clip); each field has a stream of its own.

    Raises ConfigError for a draw with the wrong arguments.
    """
    resolved: Tree = {}
    for name, value in tree.items():
        place = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            resolved[name] = resolve_draws(value, seed, clip, place)
        elif isinstance(value, str) and _DRAW.match(value.strip()):
            resolved[name] = _draw(value.strip(), place, RandomDraws(seed, clip, f"configuration:{place}"))
        else:
            resolved[name] = value
    return resolved


def has_draws(tree: Mapping[str, Any]) -> bool:
    """True if a value anywhere in `tree` is a draw."""
    return any(
        has_draws(value)
        if isinstance(value, Mapping)
        else isinstance(value, str) and bool(_DRAW.match(value.strip()))
        for value in tree.values()
    )


def build(cls: type[C], tree: Mapping[str, Any], path: str = "") -> C:
    """An instance of the configuration class from a mapping without draws.

    Missing fields keep their defaults; int is taken for float, bool never for int. Raises ConfigError that
    names the full path of an unknown field with its nearest neighbour, and of a value of the wrong type.
    A class that stands for several has a class method `class_for`: mapping and path -> the one to be built.
    A class whose written layout is not that of its fields has a pair of methods: the class method
    `from_written` (mapping and path -> fields), and `to_written` (plain fields -> mapping) for `to_tree`.
    """
    cls = getattr(cls, "class_for", lambda tree, path: cls)(tree, path)
    tree = getattr(cls, "from_written", lambda tree, path: tree)(tree, path)
    hints = _type_hints(cls)  # type: ignore[arg-type]
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values = {}
    for name, value in tree.items():
        place = f"{path}.{name}" if path else str(name)
        if name not in names:
            raise ConfigError(
                f"unknown field {place!r}{nearest(str(name), names)}; fields here: {', '.join(sorted(names))}"
            )
        values[name] = _convert(hints[name], value, place)
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{path + '.' if path else ''}{error}") from None


def to_tree(config: Any) -> Tree:
    """The plain, JSON-able mapping of a configuration; `build` reads it back."""
    return json.loads(json.dumps(_plain(config)))


def check_choices(config: Any) -> None:
    """ConfigError for a field whose type is a fixed set of choices and whose value is none of them.

    Sets of choices among other types and in tuples are checked as well.
    """
    for name, hint in _choices(type(config)).items():  # type: ignore[arg-type]
        _convert(hint, getattr(config, name), name)


@functools.cache
def _choices(cls: Any) -> dict[str, Any]:
    """The types of the fields that have choices."""
    return {name: hint for name, hint in _type_hints(cls).items() if _has_choices(hint)}


def _has_choices(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal or any(map(_has_choices, typing.get_args(hint)))


def convert(kind: Any, value: Any, place: str) -> Any:
    """`value` as a field of this type takes it. Raises ConfigError that names the place."""
    return _convert(kind, value, place)


@functools.cache
def _type_hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {
            field.name: _plain(item)
            for field in dataclasses.fields(value)
            if not _is_left_out(field, item := getattr(value, field.name))
        }
        return getattr(value, "to_written", lambda fields: fields)(fields)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _is_left_out(field: dataclasses.Field[Any], value: Any) -> bool:
    if not field.metadata.get(_LATER):
        return False
    made = field.default_factory
    return bool(value == (field.default if made is dataclasses.MISSING else made()))


def field_documentation(cls: type) -> dict[str, str]:
    """The one-line docstring under each field of a configuration class."""
    body = ast.parse(inspect.cleandoc(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    documented = {}
    for field, text in zip(body.body, body.body[1:]):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            documented[field.target.id] = " ".join(str(text.value.value).split())
    return documented


def require_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """ConfigError unless low <= value <= high (NaN fails)."""
    if not low <= value <= high:
        bounds = f"at least {low}" if high == float("inf") else f"{low} to {high}"
        raise ConfigError(f"{name} = {value}, expected {bounds}")


def _draw(text: str, place: str, draws: RandomDraws) -> Any:
    match = _DRAW.match(text)
    assert match is not None
    kind = match[1]
    try:
        loaded = _between_parentheses(match[2])
    except _YAML_ERRORS as error:
        raise ConfigError(f"{place} = {text!r} cannot be read: {_in_one_line(error)}") from error
    if not isinstance(loaded, list):
        raise ConfigError(f"{place} = {text!r} cannot be read, expected values between the parentheses")
    if any(isinstance(value, Mapping) for value in loaded):
        raise ConfigError(f"{place} = {text!r}, expected values and no fields in the parentheses")
    arguments = [_as_number(value) for value in loaded]
    if kind == "choice":
        if not arguments:
            raise ConfigError(f"{place} = {text!r} has nothing to choose from")
        return draws.choice(arguments)
    if len(arguments) != 2 or not all(map(_is_finite_number, arguments)):
        raise ConfigError(f"{place} = {text!r}, expected two numbers in the parentheses, both finite")
    low, high = arguments
    if kind == "loguniform" and min(low, high) <= 0:
        raise ConfigError(f"{place} = {text!r}, expected positive bounds")
    return getattr(draws, kind)(low, high)


def _is_finite_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST_FLOAT


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@functools.cache
def _between_parentheses(text: str) -> Any:
    """What the text of a draw holds, read once: thousands of clips draw by the same text."""
    return yaml.safe_load(f"[{text}]")


def _as_number(value: Any) -> Any:
    """1e-4, which is text in YAML (it wants 1.0e-4), as the number that everyone means by it."""
    return float(value) if isinstance(value, str) and _POWER.match(value.strip()) else value


def _convert(hint: Any, value: Any, place: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{place} = {value!r}, expected the fields of {hint.__name__}")  # type: ignore[union-attr]
        return build(hint, value, place)  # type: ignore[arg-type]
    if origin is Literal:
        if value not in arguments or isinstance(value, bool) != isinstance(arguments[0], bool):
            hint_text = nearest(str(value), [str(option) for option in arguments])
            raise ConfigError(
                f"{place} = {value!r}{hint_text}, expected one of {', '.join(map(str, arguments))}"
            )
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, place)
    if origin is tuple:
        return _convert_tuple(arguments, value, place)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{place} = {value!r}, expected a mapping of fields")
        return dict(value)
    if hint is float:
        value = _as_number(value)
        if isinstance(value, int) and not isinstance(value, bool):
            if abs(value) > _LARGEST_FLOAT:
                raise ConfigError(f"{place} is beyond {_LARGEST_FLOAT:.3g}, expected float")
            return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{place} = {value!r} ({type(value).__name__}), expected {hint.__name__}")
    return value


def _convert_union(arguments: tuple[Any, ...], value: Any, place: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    failures = []
    for option in arguments:
        if option is not type(None):
            try:
                return _convert(option, value, place)
            except ConfigError as error:
                failures.append(str(error))
    raise ConfigError(" or ".join(failures))


def _convert_tuple(arguments: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{place} = {value!r}, expected a list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        kinds: tuple[Any, ...] = (arguments[0],) * len(value)
    else:
        kinds = arguments
    if len(kinds) != len(value):
        raise ConfigError(f"{place} has {len(value)} values, expected {len(kinds)}")
    return tuple(_convert(kind, item, f"{place}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value)))
