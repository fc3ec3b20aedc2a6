"""`evsim pack`: event files to training data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from evsim.cli.conventions import (
    Progress,
    Verb,
    input_argument,
    output_option,
    overwrite_option,
    print_result,
)
from evsim.cli.fitting import dataset_option, open_recording
from evsim.cli.recordings import reading_options


@click.group()
def pack() -> None:
    """Pack event files into training data."""


@pack.command("gopro", cls=Verb)
@input_argument
@output_option("Folder to write.")
@click.option(
    "--frames",
    type=click.Choice(["last", "count", "sum"]),
    default="last",
    show_default=True,
    help="What a pixel holds: the last event's polarity, the number of events, or ON minus OFF.",
)
@click.option("--partial", is_flag=True, help="Take the finished clips of an unfinished run.")
@overwrite_option
def pack_gopro(source: Path, output: Path, frames: Any, partial: bool, overwrite: bool) -> None:
    """A run to Sim2Real's training tree: one event frame per interval, zeros where empty.

    Example: evsim pack gopro run -o training
    """
    from evsim.pipelines.packing.sim2real_tree import pack_gopro as write_tree

    with Progress("pack", "clips") as progress:
        summary = write_tree(
            source, output, frames=frames, partial=partial, overwrite=overwrite, report=progress
        )
    for note in summary.notes:
        click.echo(f"evsim: {note}", err=True)
    print_result(
        {
            "output": str(output),
            "clips": summary.clips,
            "intervals": summary.intervals,
            "empty_intervals": summary.empty,
            "images": summary.images,
        },
        title=f"{source} -> {output}",
    )


@pack.command(cls=Verb)
@input_argument
@output_option("Folder to write.")
@click.option("--memmap", is_flag=True, help="Memory-mapped folders and the two list files, instead of HDF5.")
@click.option(
    "--val-fraction",
    type=click.FloatRange(0, 1),
    default=None,
    help="Share of sequences that validate, drawn with --seed.  [default: every 10th]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides the draw of --val-fraction.")
@overwrite_option
def rled(
    source: Path, output: Path, memmap: bool, val_fraction: float | None, seed: int, overwrite: bool
) -> None:
    """RLED or simulated HDF5 (one file, or a tree of them) to RLED HDF5 or memmap.

    Example: evsim pack rled events/ -o packed --memmap
    """
    from evsim.pipelines.packing.rled import pack_rled

    summary = pack_rled(
        source, output, memmap=memmap, overwrite=overwrite, val_fraction=val_fraction, seed=seed
    )
    for note in summary.notes:
        click.echo(f"evsim: {note}", err=True)
    print_result(
        {
            "output": str(output),
            "sequences": len(summary.sequences),
            "events": summary.events,
            "images": summary.images,
            "train": len(summary.train),
            "validation": len(summary.validation),
        },
        title=f"{source} -> {output}",
    )


@pack.command(cls=Verb)
@input_argument
@output_option("Folder to write.")
@dataset_option
@reading_options
@overwrite_option
def evinr(source: Path, output: Path, dataset: str | None, overwrite: bool, **reading: Any) -> None:
    """A recording to EvINR's events.npy with images and the options of its fit.

    Example: evsim pack evinr boxes_6dof/events.txt -o packed --dataset ecd
    """
    from evsim.pipelines.packing.evinr import pack_evinr

    with open_recording(source, {"dataset": dataset, **reading}) as recording:
        print_result(
            pack_evinr(recording, output, dataset, overwrite=overwrite), title=f"{source} -> {output}"
        )
