"""`evsim upsample` and `evsim unprocess`: single stages of the chain, frames in and frames out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evsim.cli.conventions import (
    Progress,
    Verb,
    bit_depth_option,
    clip_options,
    configuration_options,
    dry_run_option,
    factor_option,
    field_options,
    input_argument,
    job_tree,
    low_light_option,
    output_option,
    overwrite_option,
    print_result,
    seed_option,
)

if TYPE_CHECKING:
    from evsim.pipelines.simulate import ClipJob

FRAMES_HELP = "Frames: a folder of PNG with timestamps.txt, a video (.mp4, .avi, .webm) or a stack (.npy)."


@click.command(cls=Verb)
@input_argument
@output_option(FRAMES_HELP)
@factor_option
@click.option("--no-cut-detection", is_flag=True, help="Interpolate across scene cuts too.")
@field_options
@clip_options
@overwrite_option
@dry_run_option
def upsample(source: Path, output: Path, no_cut_detection: bool, **options: Any) -> None:
    """More frames per second by optical flow; source frames stay bit-exact.

    Example: evsim upsample clip.mp4 -o clip_x8 --factor 8
    """
    from evsim.pipelines.stages import upsample_to_file

    job = _compose(options, {"upsample": {"detect_cuts": False}} if no_cut_detection else {})
    _run("upsample", upsample_to_file, source, output, job, options)


@click.command(cls=Verb)
@input_argument
@output_option(FRAMES_HELP)
@configuration_options
@bit_depth_option
@low_light_option
@seed_option
@clip_options
@overwrite_option
@dry_run_option
def unprocess(source: Path, output: Path, **options: Any) -> None:
    """Inverse ISP: ordinary frames to the linear RAW light that a sensor would have seen.

    Example: evsim unprocess clip.mp4 -o raw --low-light-factor 4
    """
    from evsim.pipelines.stages import unprocess_to_file

    _run("unprocess", unprocess_to_file, source, output, _compose(options, {}), options)


def _compose(options: dict[str, Any], more: dict[str, Any]) -> ClipJob:
    from evsim.configuration import merge
    from evsim.pipelines.simulate import compose

    return compose(
        preset=options.get("preset"),
        config_file=options["config_file"],
        overrides=options["overrides"],
        job=merge(job_tree(options), more),
    )


def _run(
    verb: str,
    stage: Callable[..., dict[str, Any]],
    source: Path,
    output: Path,
    job: ClipJob,
    options: dict[str, Any],
) -> None:
    from evsim.media import open_source

    clip = open_source(source, selection=job.selection, transfer=job.transfer)
    with Progress(verb, "frames") as progress:
        result = stage(
            clip, output, job, overwrite=options["overwrite"], dry_run=options["dry_run"], report=progress
        )
    print_result(result, title=f"{clip.name} -> {output}")
