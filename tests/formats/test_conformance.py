"""Every format against the one contract; a new format adds a class here."""

from __future__ import annotations

from format_conformance import FormatConformance

from evsim.formats import FORMATS


class TestNative(FormatConformance):
    name = "native"


class TestRledMemmap(FormatConformance):
    name = "rled_memmap"
    largest_side = 32768


class TestNpz(FormatConformance):
    name = "npz"


class TestNpy(FormatConformance):
    name = "npy"
    needs_size = True


class TestText(FormatConformance):
    name = "text"


def test_every_format_is_tested() -> None:
    assert sorted(tested.name for tested in FormatConformance.__subclasses__()) == sorted(FORMATS)


def test_every_suffix_has_one_writer() -> None:
    suffixes = [suffix for format in FORMATS.values() if format.create for suffix in format.suffixes]
    assert len(suffixes) == len(set(suffixes))
