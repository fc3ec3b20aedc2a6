"""The entry point: the command tree, and how every outcome becomes one line and an exit code.

0 done, 1 a bug of ours (traceback kept), 2 wrong usage or input, 3 some jobs failed, 130 interrupted,
143 terminated.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, TextIO

import click

from evsim import __version__
from evsim.cli.conventions import Settings
from evsim.cli.demo import demo
from evsim.cli.evaluate import evaluate
from evsim.cli.pack import pack
from evsim.cli.reconstruct import reconstruct
from evsim.cli.recordings import convert, info
from evsim.cli.simulate import simulate
from evsim.cli.stages import unprocess, upsample
from evsim.cli.train import train
from evsim.cli.view import view
from evsim.cli.weights import weights
from evsim.errors import EvsimError

BUG, WRONG_USE, INTERRUPTED, TERMINATED = 1, 2, 130, 143


class Terminated(BaseException):
    """SIGTERM arrived; raised so that every open output is cleaned up on the way out."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="evsim")
def cli() -> None:
    """Ordinary video to trained event-camera networks.

    Results go to stdout, everything else to stderr. `evsim VERB --help` explains a verb.
    """


for command in (
    demo,
    simulate,
    upsample,
    unprocess,
    pack,
    convert,
    info,
    view,
    train,
    reconstruct,
    evaluate,
    weights,
):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit with the code that its outcome has."""
    settings = Settings()
    signal.signal(signal.SIGTERM, raising(Terminated, settings))
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, raising(KeyboardInterrupt, settings))
    sys.unraisablehook = silent_about_stops(settings)
    with warnings.catch_warnings():
        warnings.showwarning = _print_warning
        sys.exit(_run(settings))


def _run(settings: Settings) -> int:
    try:
        code = cli.main(prog_name="evsim", standalone_mode=False, obj=settings)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return WRONG_USE
    except click.ClickException as error:
        return _explain(error)
    except EvsimError as error:
        return _fail(str(error), settings)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted; what was not complete was removed", INTERRUPTED)
    except Terminated:
        return _say("terminated; what was not complete was removed", TERMINATED)
    except BrokenPipeError:
        # The reader of our output went away; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(str(error), settings) if error.filename is not None else _bug()
    except Exception:
        return _bug()


def raising(stop: type[BaseException], settings: Settings) -> Callable[[int, FrameType | None], NoReturn]:
    """A signal handler that raises `stop` and leaves a note of it, lest it be swallowed where it arrives."""

    def handle(number: int, frame: FrameType | None) -> NoReturn:
        settings.stop = stop
        raise stop

    return handle


def silent_about_stops(settings: Settings) -> Callable[[sys.UnraisableHookArgs], None]:
    """What reports exceptions that cannot go on: not those of a signal, which are raised again."""

    def report(lost: sys.UnraisableHookArgs) -> None:
        if settings.stop is None or not isinstance(lost.exc_value, settings.stop):
            sys.__unraisablehook__(lost)

    return report


def _fail(message: str, settings: Settings) -> int:
    if settings.debug:
        traceback.print_exc(file=sys.stderr)
    return _say(f"error: {' '.join(message.split())}", WRONG_USE)


def _explain(error: click.ClickException) -> int:
    """Say what is wrong with the command line, and where its options are listed."""
    context = getattr(error, "ctx", None)
    where = f"; see {context.command_path} --help" if context else ""
    return _say(f"error: {' '.join(error.format_message().split()).rstrip('.')}{where}", WRONG_USE)


def _bug() -> int:
    traceback.print_exc(file=sys.stderr)
    return _say("this is a bug in evsim; please report it with the traceback above", BUG)


def _say(message: str, code: int) -> int:
    click.echo(f"evsim: {message}", err=True)
    return code


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    click.echo(f"evsim: warning: {' '.join(str(message).split())}", err=True)


if __name__ == "__main__":
    main()
