"""`evsim demo`: the whole chain on a bundled scene."""

from __future__ import annotations

from pathlib import Path

import click

from evsim.cli.conventions import Verb, output_option, overwrite_option, print_result


@click.command(cls=Verb)
@output_option("Folder to write.  [default: evsim-demo]", required=False)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides every random draw.")
@overwrite_option
def demo(output: Path | None, seed: int, overwrite: bool) -> None:
    """The whole chain on a bundled scene; ends with report.html.

    Example: evsim demo
    """
    from evsim.pipelines.demo import run_demo

    def say(message: str) -> None:
        click.echo(f"evsim: {message}", err=True)

    result = run_demo(output or Path("evsim-demo"), seed=seed, overwrite=overwrite, say=say)
    print_result(result, title="Demo finished")
