"""Numbers on the command line: what is not finite or beyond all measure is wrong usage, in every verb."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from evsim.cli.conventions import Number
from evsim.cli.main import cli
from evsim.events import Events
from evsim.formats import NativeWriter


def options(group: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Option]]:
    """Every option of every verb with the verb's words."""
    context = click.Context(group)
    for name in group.list_commands(context) if isinstance(group, click.Group) else ():
        command = group.get_command(context, name)
        assert command is not None
        yield from options(command, (*words, name))
    yield from ((" ".join(words), each) for each in group.params if isinstance(each, click.Option))


def test_every_number_with_a_fraction_is_checked_to_be_finite() -> None:
    found = [(verb, option.name, option.type) for verb, option in options(cli)]
    assert any(isinstance(kind, Number) for _, _, kind in found)
    # A FloatRange has both its ends, between which everything is finite.
    plain = [(verb, name) for verb, name, kind in found if type(kind) is click.types.FloatParamType]
    assert plain == []


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "1e300", "9" * 400])
def test_a_number_beyond_all_measure_is_wrong_usage(
    evsim: Callable[..., Any], tmp_path: Path, value: str
) -> None:
    zeros = np.zeros(9, np.uint16)
    with NativeWriter(tmp_path / "a.h5", 8, 6) as writer:
        writer.append(Events(np.arange(9), zeros, zeros, np.ones(9, np.uint8), 8, 6))
    done = evsim("view", tmp_path / "a.h5", "-o", tmp_path / "a.png", f"--window={value}")
    assert done.code == 2
    assert "--window" in done.err
    assert not (tmp_path / "a.png").exists()
    for wrong in ("-1", "0"):
        done = evsim("view", tmp_path / "a.h5", "-o", tmp_path / "a.png", f"--window={wrong}")
        assert (done.code, done.err.count("\n")) == (2, 1)
