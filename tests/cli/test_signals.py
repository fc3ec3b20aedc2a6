"""A signal ends a verb even where its exception was swallowed on the way."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys

import click
import pytest

from evsim.cli.conventions import Progress, Settings
from evsim.cli.main import Terminated, raising, silent_about_stops


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


def test_a_stop_lost_in_a_callback_is_not_reported_as_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings()
    monkeypatch.setattr(sys, "unraisablehook", silent_about_stops(settings))

    @ctypes.CFUNCTYPE(None)
    def call_back() -> None:
        raise KeyboardInterrupt

    call_back()
    assert "KeyboardInterrupt" in capsys.readouterr().err
    settings.stop = KeyboardInterrupt
    call_back()
    assert not capsys.readouterr().err
