"""`evsim view`: pictures, videos and plots of an event file, and the signals of one pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from evsim.cli.conventions import (
    Number,
    Pixel,
    Verb,
    bit_depth_option,
    clip_options,
    configuration_options,
    factor_option,
    input_argument,
    job_tree,
    low_light_option,
    no_substep_option,
    output_option,
    overwrite_option,
    print_result,
    seed_option,
    threads_option,
)

OF_RECORDINGS = ("panels", "window", "rate", "slow")
OF_EVENT_FILES = ("unit", "source_format")
OF_SIMULATION = (
    *("crop", "slow_motion", "transfer"),
    *("factor", "low_light_factor", "bit_depth", "no_substep"),
    *("preset", "config_file", "overrides", "seed"),
)
PLAYBACK_FPS = 30.0


@click.command(cls=Verb)
@input_argument
@output_option("Picture (.png) or video (.webm, .mp4, .avi); of --rate and --pixel also .svg, .pdf.")
@click.option(
    "--unit",
    type=click.Choice(["s", "ms", "us", "ns"]),
    default=None,
    help="Time unit, where the file does not say.",
)
@click.option("--format", "source_format", default=None, help="Format of the input, instead of sniffing.")
@click.option(
    "--panels", type=click.IntRange(1, 64), default=8, show_default=True, help="Panels of the picture."
)
@click.option(
    "--window", type=Number(), default=None, metavar="MS", help="Milliseconds of events per panel or frame."
)
@click.option("--rate", is_flag=True, help="Plot the event rate over time instead.")
@click.option("--slow", type=Number(), default=1.0, show_default=True, help="Play this many times slower.")
@click.option(
    "--pixel",
    type=Pixel(),
    default=None,
    help="Plot this pixel's light, log, filtered signal, reference and events instead.",
)
@clip_options
@configuration_options
@factor_option
@low_light_option
@bit_depth_option
@no_substep_option
@seed_option
@threads_option
@overwrite_option
@click.pass_context
def view(context: click.Context, source: Path, output: Path, **options: Any) -> None:
    """Render an event file as a contact sheet or a video; plot its rate, or one pixel of a simulation.

    With --pixel INPUT is a file that evsim simulated, which says all that is needed, or a video, folder or
    stack with the options of `evsim simulate video`. Otherwise --fps is the playback rate, 30 by default, and
    --size that of the sensor where the file does not say.

    Example: evsim view events.h5 -o events.png
    """
    if options["pixel"] is not None:
        _refuse(context, OF_RECORDINGS, "goes with pictures and videos of events, not with --pixel")
        print_result(_view_pixel(context, source, output, options), title=f"{source} -> {output}")
        return
    _refuse(context, (*OF_SIMULATION, "start", "stop", "threads"), "goes with --pixel")
    from evsim.formats import open_events
    from evsim.pipelines.view import view_recording

    with open_events(
        source, size=options["size"], unit=options["unit"], format=options["source_format"]
    ) as recording:
        result = view_recording(
            recording,
            output,
            panels=options["panels"],
            window_us=None if options["window"] is None else round(options["window"] * 1000),
            fps=options["fps"] or PLAYBACK_FPS,
            slow=options["slow"],
            rate=options["rate"],
            overwrite=options["overwrite"],
        )
    print_result(result, title=f"{source} -> {output}")


def _view_pixel(
    context: click.Context, source: Path, output: Path, options: dict[str, Any]
) -> dict[str, Any]:
    from evsim.formats import open_events, sniff
    from evsim.pipelines.pixel import PixelClip, recorded_clip, view_pixel

    pixel, threads, overwrite = options["pixel"], options["threads"], options["overwrite"]
    if options["source_format"] is not None or sniff(source):
        _refuse(
            context,
            (*OF_SIMULATION, "fps"),
            "goes with a video or folder; an event file says itself how it was simulated",
        )
        with open_events(
            source, size=options["size"], unit=options["unit"], format=options["source_format"]
        ) as recording:
            clip = recorded_clip(recording, pixel)
        times = {"start_s": options["start"], "stop_s": options["stop"]}
        return view_pixel(clip, output, pixel, **times, threads=threads, overwrite=overwrite)
    from evsim.media import open_source
    from evsim.pipelines.simulate import compose

    _refuse(context, OF_EVENT_FILES, "goes with event files")
    job = compose(
        preset=options["preset"],
        config_file=options["config_file"],
        overrides=options["overrides"],
        job=job_tree(options),
    )
    clip = PixelClip(open_source(source, selection=job.selection, transfer=job.transfer), job)
    return view_pixel(clip, output, pixel, threads=threads, overwrite=overwrite)


def _refuse(context: click.Context, names: tuple[str, ...], why: str) -> None:
    """A usage error for an option that would be ignored."""
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if parameter.name in names and given:
            raise click.UsageError(f"{parameter.opts[0]} {why}", context)
