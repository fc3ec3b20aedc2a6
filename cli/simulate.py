"""`evsim simulate`: video, a moved still image, or the clips of a data set to events."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from evsim.cli.conventions import (
    Number,
    Progress,
    Size,
    Verb,
    apply_options,
    bit_depth_option,
    clip_options,
    compression_option,
    configuration_options,
    dry_run_option,
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
from evsim.cli.runs import RecipeGroup, repeat, run_options

if TYPE_CHECKING:
    from evsim.media import FrameSource
    from evsim.pipelines.simulate import ClipJob

OUTPUT_HELP = (
    "Event file; the suffix selects the format: .h5, .npz, .npy, .txt, none for an RLED memmap folder."
)

frames_option = click.option(
    "--frames",
    type=click.Choice(["source", "all", "none"]),
    default=None,
    help="Frames stored with the events.  [default: source]",
)
signal_options = apply_options([factor_option, low_light_option, bit_depth_option, no_substep_option])


def _list_presets(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value:
        return
    from evsim.chain import preset_names

    for name in preset_names():
        click.echo(name)
    context.exit()


@click.group(cls=RecipeGroup, invoke_without_command=True)
@click.option("--list-presets", is_flag=True, is_eager=True, expose_value=False, callback=_list_presets)
@click.option(
    "--config", "run_json", type=click.Path(path_type=Path), default=None, help="run.json of a run to repeat."
)
@output_option("Run folder, with --config.  [default: where run.json is]", required=False)
@run_options
@click.pass_context
def simulate(context: click.Context, run_json: Path | None, output: Path | None, **options: Any) -> int:
    """Simulate the events of a low-light event camera.

    Without a command, --config run.json repeats or finishes a run of many clips.
    """
    if context.invoked_subcommand is not None:
        given = [parameter.opts[0] for parameter in context.command.params if _was_given(context, parameter)]
        if given:
            raise click.UsageError(f"{given[0]} belongs behind {context.invoked_subcommand}", context)
        return 0
    if run_json is None:
        raise click.UsageError("expected a command, or --config run.json to repeat a run", context)
    return repeat(run_json, output, options)


def _was_given(context: click.Context, parameter: click.Parameter) -> bool:
    # --json and --debug are not exposed: they work in either place.
    source = context.get_parameter_source(parameter.name or "")
    return parameter.expose_value and source is ParameterSource.COMMANDLINE


@simulate.command(cls=Verb)
@input_argument
@output_option(OUTPUT_HELP)
@configuration_options
@signal_options
@clip_options
@frames_option
@compression_option
@seed_option
@threads_option
@overwrite_option
@dry_run_option
def video(source: Path, output: Path, **options: Any) -> None:
    """Events of a video file, an image folder or a stack of arrays.

    Example: evsim simulate video clip.mp4 -o clip.h5 --preset sim2real
    """
    from evsim.media import open_source

    job = _compose(options, job_tree(options))
    _run(open_source(source, selection=job.selection, transfer=job.transfer), output, job, options)


@simulate.command(cls=Verb)
@input_argument
@output_option(OUTPUT_HELP)
@click.option(
    "--motion",
    type=click.Choice(["circle", "pan", "zigzag", "zoom-rotate", "shake"]),
    default="circle",
    show_default=True,
    help="Camera path.",
)
@click.option("--amplitude", type=Number(), default=20.0, show_default=True, help="Largest shift in pixels.")
@click.option("--duration", type=Number(), default=1.0, show_default=True, help="Seconds.")
@click.option("--fps", type=Number(), default=30.0, show_default=True, help="Rendered frames per second.")
@click.option("--size", type=Size(), default=(346, 260), show_default="346x260", help="Sensor size.")
@configuration_options
@signal_options
@frames_option
@compression_option
@seed_option
@threads_option
@overwrite_option
@dry_run_option
def image(source: Path, output: Path, motion: Any, amplitude: float, duration: float, **options: Any) -> None:
    """Events of a still image under a known camera motion.

    Example: evsim simulate image photo.jpg -o photo.h5 --motion zigzag --duration 2
    """
    from evsim.media import CameraMotion, StillImageSource

    job = _compose(options, job_tree(options))
    still = StillImageSource(
        source,
        CameraMotion(path=motion, amplitude_px=amplitude),
        duration_s=duration,
        fps=options["fps"],
        size=options["size"],
    )
    _run(still, output, job, options)


def _compose(options: dict[str, Any], job: dict[str, Any]) -> ClipJob:
    from evsim.pipelines.simulate import compose

    return compose(
        preset=options["preset"], config_file=options["config_file"], overrides=options["overrides"], job=job
    )


def _run(source: FrameSource, output: Path, job: ClipJob, options: dict[str, Any]) -> None:
    from evsim.files import require_absent
    from evsim.pipelines.simulate import plan_clip, simulate_clip

    require_absent(output, overwrite=options["overwrite"])
    if options["dry_run"]:
        print_result(
            {"output": str(output), **plan_clip(source, job).summary()}, title="Plan (nothing written)"
        )
        return
    with Progress("simulate", "frames") as progress:
        result = simulate_clip(
            source,
            output,
            job,
            threads=options["threads"],
            overwrite=options["overwrite"],
            compression=options["compression"],
            report=progress,
        )
    print_result(result.summary(), title=f"{source.name} -> {output}")
