"""What is announced: by other packages, and by evsim itself where it is not installed."""

from __future__ import annotations

from pathlib import Path

from evsim import plugins

SETUP = """
[metadata]
name = evsim

[options.entry_points]
console_scripts =
    evsim = evsim.cli.main:main
evsim.interpolators =
    networks = evsim.models.somewhere:NETWORKS
    other=evsim.elsewhere:thing
"""


def test_a_checkout_announces_what_its_setup_file_declares(tmp_path: Path) -> None:
    path = tmp_path / "setup.cfg"
    path.write_text(SETUP)
    found = plugins.points_in_setup_file(path, "evsim.interpolators")
    assert [(point.name, point.value, point.group) for point in found] == [
        ("networks", "evsim.models.somewhere:NETWORKS", "evsim.interpolators"),
        ("other", "evsim.elsewhere:thing", "evsim.interpolators"),
    ]
    assert plugins.points_in_setup_file(path, "evsim.formats") == []


def test_the_setup_file_of_a_checkout_wins_over_what_is_installed() -> None:
    # Metadata of an editable installation may be older than the sources, or not there at all.
    declared = plugins.points_in_setup_file(
        Path(plugins.__file__).parent.parent / "setup.cfg", "console_scripts"
    )
    assert [point.value for point in declared] == ["evsim.cli.main:main"]
    assert plugins.announced("console_scripts")["evsim"].value == "evsim.cli.main:main"
