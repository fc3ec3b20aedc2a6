"""`evsim convert` and `evsim info`: event files of any format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from evsim.cli.conventions import (
    Size,
    Verb,
    apply_options,
    compression_option,
    input_argument,
    overwrite_option,
    print_result,
    wants_json,
)

reading_options = apply_options(
    [
        click.option("--size", type=Size(), default=None, help="Sensor size, where the file does not say."),
        click.option(
            "--unit",
            type=click.Choice(["s", "ms", "us", "ns"]),
            default=None,
            help="Time unit, where the file does not say.",
        ),
        click.option(
            "--format", "source_format", default=None, help="Format of the input, instead of sniffing."
        ),
    ]
)


@click.command(cls=Verb)
@input_argument
@click.argument("destination", type=click.Path(path_type=Path), metavar="OUTPUT")
@reading_options
@click.option("--to", "target_format", default=None, help="Format of the output, instead of by suffix.")
@click.option("--round", "round_coordinates", is_flag=True, help="Round sub-pixel coordinates to pixels.")
@compression_option
@overwrite_option
def convert(
    source: Path,
    destination: Path,
    size: tuple[int, int] | None,
    unit: str | None,
    source_format: str | None,
    target_format: str | None,
    round_coordinates: bool,
    compression: str | None,
    overwrite: bool,
) -> None:
    """Convert an event file; says what was changed on the way.

    Example: evsim convert events.h5 events.txt
    """
    from evsim.formats import convert as convert_events

    changes = convert_events(
        source,
        destination,
        format=target_format,
        source_format=source_format,
        size=size,
        unit=unit,
        round_coordinates=round_coordinates,
        overwrite=overwrite,
        **({} if compression is None else {"compression": compression}),
    )
    print_result(
        {"output": str(destination), "changes": changes or ["none"]}, title=f"{source} -> {destination}"
    )


@click.command(cls=Verb)
@input_argument
@reading_options
@click.option(
    "--attributes", is_flag=True, help="Also print what the file says of itself, such as its configuration."
)
@click.option(
    "--check", "deeply", is_flag=True, help="Check an event file wholly instead; every defect with its place."
)
@click.pass_context
def info(
    context: click.Context,
    source: Path,
    size: tuple[int, int] | None,
    unit: str | None,
    source_format: str | None,
    attributes: bool,
    deeply: bool,
) -> None:
    """What an event file, a video or a folder of frames holds.

    With --check the exit code is 2 if anything is wrong.

    Example: evsim info events.h5
    """
    if deeply:
        from evsim.formats import check

        defects = check(source, size=size, unit=unit, format=source_format)
        lines = [f"{defect.place}: {defect.message}" for defect in defects]
        print_result({"sound": not defects, "defects": lines or ["none"]}, title=str(source))
        context.exit(2 if defects else 0)
    described = _describe(source, size, unit, source_format)
    hidden = () if attributes or wants_json() else ("attributes",)
    print_result({name: value for name, value in described.items() if name not in hidden}, title=str(source))


def _describe(
    source: Path, size: tuple[int, int] | None, unit: str | None, source_format: str | None
) -> dict[str, Any]:
    from evsim.errors import InputError
    from evsim.formats import describe, open_events, sniff

    if source_format is None and not sniff(source):
        from evsim.media import open_source

        try:
            return open_source(source).describe()
        except InputError as error:
            raise InputError(f"{_why_no_events(source)}; and as frames: {error}") from error
    with open_events(source, size=size, unit=unit, format=source_format) as recording:
        return describe(recording)


def _why_no_events(source: Path) -> str:
    from evsim.errors import EvsimError
    from evsim.formats import open_events

    try:
        open_events(source).close()
    except EvsimError as error:
        # What could be read instead is a long list: it is not what is wrong with this file.
        return str(error).partition("; evsim reads")[0]
    return f"{source} is no known event format"
