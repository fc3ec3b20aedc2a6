"""Strict loading of configuration: overrides, draws, types, and errors that name the field."""

from __future__ import annotations

import dataclasses
import importlib
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from evsim import configuration
from evsim.configuration import build, merge, parse_overrides, resolve_draws, to_tree
from evsim.errors import ConfigError, InputError
from evsim.randomness import RandomDraws, derive_key
from evsim.registry import Registry

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Filter:
    cutoff_hz: float = 300.0
    """Corner frequency in hertz."""
    order: Literal["first", "second"] = "first"
    """Filter order."""

    def __post_init__(self) -> None:
        configuration.require_range("cutoff_hz", self.cutoff_hz, 0.0)


@dataclass(frozen=True, kw_only=True)
class Example:
    steps: int = 4
    """How many steps."""
    enabled: bool = True
    """Whether it runs."""
    span: tuple[float, float] = (0.0, 1.0)
    """Two ends."""
    limit: float | None = None
    """No limit when absent."""
    filter: Filter = field(default_factory=Filter)
    """The filter."""


def test_overrides_reach_nested_fields_and_leave_the_rest() -> None:
    tree = merge(
        {"steps": 7, "filter": {"order": "second"}}, parse_overrides(["filter.cutoff_hz=50", "span=[1, 2]"])
    )
    assert build(Example, tree) == Example(
        steps=7, span=(1.0, 2.0), filter=Filter(cutoff_hz=50.0, order="second")
    )


@pytest.mark.parametrize("text", ["3e-4", "3E-4", "3.0e-4", "loguniform(3e-4, 3e-4)"])
def test_powers_of_ten_need_no_point(text: str) -> None:
    tree = resolve_draws(parse_overrides([f"limit={text}", f"filter.cutoff_hz={text}"]), 0, "")
    found = build(Example, tree)
    assert (found.limit, found.filter.cutoff_hz) == pytest.approx((3e-4, 3e-4))


def test_a_configuration_survives_being_written_and_read(tmp_path: Path) -> None:
    config = Example(limit=0.5, span=(2.0, 3.0), filter=Filter(order="second"))
    path = tmp_path / "config.yaml"
    path.write_text(str(to_tree(config)).replace("None", "null").replace("True", "true"))
    assert build(Example, configuration.read_file(path)) == config


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("filter.cutof_hz=3", r"unknown field 'filter.cutof_hz' \(did you mean 'cutoff_hz'\?\)"),
        ("steps=1.5", r"steps = 1.5 \(float\), expected int"),
        ("steps=true", r"steps = True \(bool\), expected int"),
        ("enabled=1", r"enabled = 1 \(int\), expected bool"),
        (
            "filter.order=frist",
            r"filter.order = 'frist' \(did you mean 'first'\?\), expected one of first, second",
        ),
        ("filter.cutoff_hz=-1", "filter.cutoff_hz = -1.0, expected at least 0"),
        ("filter.cutoff_hz=.nan", "filter.cutoff_hz = nan"),
        ("span=[1]", "span has 1 values, expected 2"),
        ("filter=3", "filter = 3, expected the fields of Filter"),
    ],
)
def test_a_wrong_value_is_named_with_its_full_path(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Example, parse_overrides([assignment]))


@pytest.mark.parametrize("assignment", ["steps", "=3", "a b=3", "steps=[1"])
def test_a_malformed_override_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        parse_overrides([assignment])


@pytest.mark.parametrize("text", ["{unclosed", "- 1\n- 2\n", "\xff"])
def test_a_malformed_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        configuration.read_file(path)


def test_draws_depend_on_seed_clip_and_field_only() -> None:
    tree = parse_overrides(["a=uniform(0.2, 0.3)", "b.c=uniform(0.2, 0.3)", "d=choice(1, two, 3)"])
    first = resolve_draws(tree, 1, "clip")
    assert first == resolve_draws(dict(reversed(tree.items())), 1, "clip")
    assert first["a"] != first["b"]["c"]
    assert resolve_draws(tree, 2, "clip")["a"] != first["a"] != resolve_draws(tree, 1, "other")["a"]
    assert first["d"] in (1, "two", 3)
    assert configuration.has_draws(tree)
    assert not configuration.has_draws(first)


@pytest.mark.parametrize(
    "text", ["uniform(1)", "uniform(a, b)", "loguniform(0, 1)", "choice()", "normal(1, true)"]
)
def test_a_draw_with_wrong_arguments_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="limit = "):
        resolve_draws({"limit": text}, 0, "")


def test_draws_have_the_moments_of_their_distribution() -> None:
    draws = RandomDraws(3, "", "moments")
    uniform = np.array([draws.uniform(2.0, 6.0) for _ in range(4000)])
    normal = np.array([draws.normal(1.0, 2.0) for _ in range(4000)])
    logarithm = np.log([draws.loguniform(1e-3, 1e1) for _ in range(4000)])
    choice = np.array([draws.choice([0, 1, 2]) for _ in range(3000)])
    # Four standard errors each.
    assert abs(uniform.mean() - 4.0) < 4 * (4 / np.sqrt(12)) / np.sqrt(4000)
    assert abs(normal.mean() - 1.0) < 4 * 2 / np.sqrt(4000)
    assert abs(normal.std() - 2.0) < 4 * 2 / np.sqrt(8000)
    assert abs(logarithm.mean() - np.log(0.1)) < 4 * (np.log(1e4) / np.sqrt(12)) / np.sqrt(4000)
    assert np.all(np.abs(np.bincount(choice) - 1000) < 4 * np.sqrt(3000 * 2 / 9))


def test_a_seed_means_the_same_for_ever() -> None:
    # `printf '0\\0\\0sensor' | b2sum -l 64` prints these bytes; a change here changes every user's data set.
    assert derive_key(0, "", "sensor").to_bytes(8, "little").hex() == "1c4c263aae193b85"
    assert derive_key(0, "a", "b") != derive_key(0, "", "ab")
    assert RandomDraws(0, "", "isp").fraction() == 0.14067205508028746


def test_field_documentation_is_read_from_the_class() -> None:
    assert configuration.field_documentation(Filter) == {
        "cutoff_hz": "Corner frequency in hertz.",
        "order": "Filter order.",
    }


def test_a_registry_names_the_nearest_and_refuses_a_second_registration() -> None:
    registry: Registry[int] = Registry("format")
    registry.register("native")(1)
    with pytest.raises(
        InputError, match=r"unknown format 'natve' \(did you mean 'native'\?\); known: native"
    ):
        registry["natve"]
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("native")(2)


@dataclass(frozen=True, kw_only=True)
class Grown:
    first: int = 1
    second: str = configuration.later(default="plain")
    third: dict[str, int] = configuration.later(default_factory=dict)


def test_a_later_field_is_written_only_where_it_says_something() -> None:
    assert configuration.to_tree(Grown()) == {"first": 1}
    changed = Grown(second="other", third={"a": 2})
    tree = configuration.to_tree(changed)
    assert tree == {"first": 1, "second": "other", "third": {"a": 2}}
    assert configuration.build(Grown, tree) == changed


def configuration_classes() -> Iterator[type]:
    """Every frozen, keyword-only dataclass of the sources whose fields all have defaults."""
    for folder, prefix in (("evsim", "evsim"), ("models", "evsim.models"), ("pipelines", "evsim.pipelines")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.stem == "__main__":
                continue
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join([prefix, *(part for part in parts if part != "__init__")])
            for value in vars(importlib.import_module(name)).values():
                if isinstance(value, type) and value.__module__ == name and is_configuration(value):
                    yield value


def is_configuration(cls: Any) -> bool:
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return False
    absent = dataclasses.MISSING
    return all(
        each.kw_only and (each.default is not absent or each.default_factory is not absent)
        for each in dataclasses.fields(cls)
    )


def choices_in(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal or any(map(choices_in, typing.get_args(hint)))


def test_no_configuration_takes_a_misspelt_choice_however_it_is_made() -> None:
    tried = set()
    for cls in configuration_classes():
        hints = typing.get_type_hints(cls)
        for each in dataclasses.fields(cls):
            if not choices_in(hints[each.name]):
                continue
            tried.add(f"{cls.__name__}.{each.name}")
            wrong = {each.name: "nnoe"}
            with pytest.raises(InputError, match="nnoe"):
                cls(**wrong)
            with pytest.raises(InputError, match="nnoe"):
                dataclasses.replace(cls(), **wrong)
    assert tried >= {"UpsampleConfig.interpolated_dtype", "IspConfig.variant", "V2eConfig.clock"}
    assert len(tried) > 20


@dataclass(frozen=True, kw_only=True)
class Chooser:
    one: Literal["a", "b"] | None = None
    pair: tuple[Literal["x", "y"], ...] = ("x",)
    number: Literal[8, 16] = 8

    def __post_init__(self) -> None:
        configuration.check_choices(self)


@pytest.mark.parametrize(
    "wrong", [{"one": "c"}, {"pair": ("x", "z")}, {"pair": "x"}, {"number": 12}, {"number": True}], ids=str
)
def test_choices_among_other_types_and_in_tuples_are_checked(wrong: dict[str, Any]) -> None:
    assert Chooser(one="b", pair=("y", "x"), number=16).one == "b"
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Chooser(**wrong)


@pytest.mark.parametrize(
    "text",
    [
        "uniform(0.2, ])", "choice(a: b, [)", "uniform(a: b, [)", "choice(a: b)", "choice(2001-13-45)",
        "uniform(] , [)", "uniform(0, .inf)", "normal(.nan, 1)", "loguniform(1, 1e400)", "uniform(1 2)",
        "uniform(true, 2)", f"uniform(0, {'9' * 400})", f"uniform(0, {'9' * 5000})", f"choice({'[' * 1500})",
        "choice(!!python/name:os.system)",
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_a_draw_that_cannot_be_read_is_one_line_with_its_field(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^filter\.cutoff_hz = ") as raised:
        resolve_draws(parse_overrides([f"filter.cutoff_hz={text}"]), 0, "")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["2001-13-45", "[", "9" * 5000, "[" * 1500], ids=lambda text: text[:10])
def test_a_value_that_cannot_be_read_is_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_overrides([f"limit={text}"])
    assert "\n" not in str(raised.value)
    (tmp_path / "a.yaml").write_text(f"limit: {text}")
    with pytest.raises(ConfigError, match=r"a\.yaml"):
        configuration.read_file(tmp_path / "a.yaml")


def test_a_whole_number_too_large_for_a_float_is_named() -> None:
    with pytest.raises(ConfigError, match=r"filter\.cutoff_hz"):
        build(Example, {"filter": {"cutoff_hz": 10**400}})
