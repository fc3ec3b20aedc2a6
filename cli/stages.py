"""`evsim upsample` and `evsim unprocess`: single stages of the chain, frames in and frames out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from evsim.cli.conventions import (
    Progress,
    Verb,
    clip_options,
    configuration_options,
    dry_run_option,
    input_argument,
    output_option,
    overwrite_option,
    print_result,
    seed_option,
    selection_tree,
)

FRAMES_HELP = "Frames: a folder of PNG with timestamps.txt, a video (.mp4, .avi, .webm) or a stack (.npy)."


@click.command(cls=Verb)
@input_argument
@output_option(FRAMES_HELP)
@click.option(
    "--factor", default="8", show_default=True, metavar="N|auto", help="Frames per source interval."
)
@click.option("--no-cut-detection", is_flag=True, help="Interpolate across scene cuts too.")
@clip_options
@overwrite_option
@dry_run_option
def upsample(source: Path, output: Path, factor: str, no_cut_detection: bool, **options: Any) -> None:
    """More frames per second by optical flow; source frames stay bit-exact.

    Example: evsim upsample clip.mp4 -o clip_x8 --factor 8
    """
    from evsim.media import open_source
    from evsim.pipelines.stages import upsample_to_file

    if factor != "auto" and (not factor.isdecimal() or int(factor) < 1):
        raise click.BadParameter(
            f"{factor!r} is neither a whole number above 0 nor auto", param_hint="--factor"
        )
    tree = {"adaptive": True} if factor == "auto" else {"factor": int(factor)}
    clip = open_source(source, selection=_selection(options), transfer=options["transfer"])
    with Progress("upsample", "frames") as progress:
        result = upsample_to_file(
            clip,
            output,
            {**tree, "detect_cuts": not no_cut_detection},
            overwrite=options["overwrite"],
            dry_run=options["dry_run"],
            report=progress,
        )
    print_result(result, title=f"{clip.name} -> {output}")


@click.command(cls=Verb)
@input_argument
@output_option(FRAMES_HELP)
@configuration_options
@click.option(
    "--bit-depth", type=click.Choice(["8", "16", "float"]), default=None, help="Of the light written."
)
@click.option("--low-light-factor", type=float, default=None, help="How many times darker than the clip.")
@seed_option
@clip_options
@overwrite_option
@dry_run_option
def unprocess(source: Path, output: Path, **options: Any) -> None:
    """Inverse ISP: ordinary frames to the linear RAW light that a sensor would have seen.

    Example: evsim unprocess clip.mp4 -o raw --low-light-factor 4
    """
    from evsim.media import open_source
    from evsim.pipelines.simulate import compose
    from evsim.pipelines.stages import unprocess_to_file

    isp: dict[str, Any] = {}
    if options["bit_depth"] is not None:
        isp["bit_depth"] = 0 if options["bit_depth"] == "float" else int(options["bit_depth"])
    if options["low_light_factor"] is not None:
        isp["low_light_factor"] = options["low_light_factor"]
    given: dict[str, Any] = {"seed": options["seed"]} if options["seed"] is not None else {}
    job = compose(
        preset=options["preset"],
        config_file=options["config_file"],
        overrides=options["overrides"],
        job={**given, "isp": isp, "selection": selection_tree(options)},
    )
    clip = open_source(source, selection=job.selection, transfer=options["transfer"])
    with Progress("unprocess", "frames") as progress:
        result = unprocess_to_file(
            clip, output, job, overwrite=options["overwrite"], dry_run=options["dry_run"], report=progress
        )
    print_result(result, title=f"{clip.name} -> {output}")


def _selection(options: dict[str, Any]) -> Any:
    from evsim.configuration import build
    from evsim.media import Selection

    return build(Selection, selection_tree(options), "selection")
