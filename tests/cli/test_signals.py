"""A signal ends a verb even where its exception was swallowed on the way."""

from __future__ import annotations

import contextlib
import signal

import click
import pytest

from evsim.cli.conventions import Progress, Settings
from evsim.cli.main import Terminated, raising


@pytest.mark.parametrize(
    ("number", "stop"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_stop_that_a_library_swallowed_comes_with_the_next_report(
    number: signal.Signals, stop: type[BaseException]
) -> None:
    settings = Settings()
    before = signal.signal(number, raising(stop, settings))
    try:
        with click.Context(click.Command("verb"), obj=settings), Progress("work", "pieces") as progress:
            progress(1, 9)
            with contextlib.suppress(BaseException):
                signal.raise_signal(number)
            with pytest.raises(stop):
                progress(2, 9)
    finally:
        signal.signal(number, before)
