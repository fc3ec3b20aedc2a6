"""Names of things, ours and those that other packages announce."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from evsim.errors import InputError
from evsim.registry import Registry

GROUP = "evsim.toys"


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Registry[object]:
    """A registry with one thing of ours, one from outside, and one whose package is broken."""
    points = [
        metadata.EntryPoint("path", "pathlib:Path", GROUP),
        metadata.EntryPoint("broken", "nowhere.at_all:THING", GROUP),
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: [p for p in points if p.group == group])
    registry: Registry[object] = Registry("toy", group=GROUP)
    registry.register("own")("ours")
    return registry


def test_things_of_other_packages_stand_beside_ours(toys: Registry[object]) -> None:

    assert toys["own"] == "ours"
    assert toys["path"] is Path
    assert sorted(toys) == ["broken", "own", "path"]
    assert len(toys) == 3
    assert "path" in toys
    assert "nothing" not in toys


def test_an_unknown_name_lists_both_kinds(toys: Registry[object]) -> None:
    with pytest.raises(InputError, match=r"unknown toy .pat. \(did you mean .path.\?\); known: broken, own"):
        _ = toys["pat"]


def test_a_package_that_cannot_be_loaded_is_named_and_harms_no_other(toys: Registry[object]) -> None:
    with pytest.raises(InputError, match=r"'broken' of an unnamed package \(nowhere.at_all:THING\)"):
        _ = toys["broken"]
    assert toys["own"] == "ours"


def test_one_name_for_two_things_is_refused(toys: Registry[object], monkeypatch: pytest.MonkeyPatch) -> None:
    point = metadata.EntryPoint("own", "os:sep", GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point])
    with pytest.raises(InputError, match="'own' is evsim's own and os:sep announces"):
        sorted(toys)
    twice = [metadata.EntryPoint("a", "os:sep", GROUP), metadata.EntryPoint("a", "os:linesep", GROUP)]
    monkeypatch.setattr(metadata, "entry_points", lambda group: twice)
    with pytest.raises(InputError, match=r"'a' is announced by .*os:linesep.* and .*os:sep"):
        _ = toys["a"]


def test_modules_of_a_package_are_found_and_imported_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "toy_shelf"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "red.py").write_text("THING = 'the red one'\n")
    (folder / "broken.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry[str]("toy", package="toy_shelf", attribute="THING")
    assert list(registry) == ["broken", "red"]
    assert registry["red"] == "the red one"
    with pytest.raises(RuntimeError, match="imported"):
        _ = registry["broken"]


def test_a_thing_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    point = metadata.EntryPoint("path", "os:sep", GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point])
    with pytest.raises(InputError, match=r"'path' is a str, expected a Path; mend or uninstall it"):
        _ = Registry("toy", GROUP, thing=Path)["path"]
