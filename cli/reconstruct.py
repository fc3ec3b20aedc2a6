"""`evsim reconstruct`: events to images by a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from evsim.cli.conventions import (
    NetworkVerb,
    Number,
    Progress,
    dry_run_option,
    input_argument,
    output_option,
    overwrite_option,
    print_result,
)
from evsim.cli.fitting import (
    dataset_option,
    dataset_tree,
    fit_options,
    fit_tree,
    open_recording,
    stretch_options,
)
from evsim.cli.recordings import reading_options


@click.command(cls=NetworkVerb)
@input_argument
@output_option("Images: a folder of PNG with timestamps.txt, a video (.mp4, .avi, .webm) or a stack (.npy).")
@click.option(
    "--network",
    default=None,
    metavar="NAME",
    help="Network or method that turns events into images; which there are, and the default, see below.",
)
@click.option("--weights", default=None, metavar="FILE|NAME", help="Weight file: see `evsim weights list`.")
@click.option("--between", type=click.Choice(["frames"]), default=None, help="An image per stored frame.")
@click.option("--window-ms", type=Number(), default=None, help="An image per so many ms.  [default: 40]")
@click.option("--events-per-window", type=click.IntRange(1), default=None, help="An image per so many.")
@click.option("--frames", type=click.IntRange(1), default=None, metavar="N", help="N images in all.")
@click.option("--times", default=None, metavar="FILE", help="Images at the seconds in a text or NPY file.")
@stretch_options
@fit_options
@click.option(
    "--normalize",
    type=click.Choice(["none", "standard", "robust", "exprobust"]),
    default=None,
    help="Stretch each image: extremes, percentiles 1 to 99, or those of its exponential.  [default: none]",
)
@click.option(
    "--fps", type=Number(), default=None, help="Frame rate of a video.  [default: as windows follow]"
)
@click.option("--device", default=None, help="cpu, cuda, cuda:N or mps.  [default: the first GPU, else cpu]")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    default=None,
    help="YAML or JSON of fields, such as an earlier run wrote.",
)
@click.option("--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Override a field.")
@dataset_option
@reading_options
@overwrite_option
@dry_run_option
def reconstruct(source: Path, output: Path, **options: Any) -> None:
    """Video from events, whatever their file format.

    Windows follow the stored frames where the file has some; otherwise they last 40 ms.

    Example: evsim reconstruct events.h5 -o video.mp4 --weights model.pth
    """
    fields = _given_fields(options)
    from evsim import configuration
    from evsim.models.device import choose_device
    from evsim.models.prediction.parts import WeightFiles, make_predictor
    from evsim.pipelines.reconstruct import plan, reconstruct_to_file, resolve

    tree = configuration.read_file(options["config_file"]) if options["config_file"] else {}
    for layer in (configuration.parse_overrides(options["overrides"]), fields):
        tree = configuration.merge(tree, layer)
    tree = configuration.merge(dataset_tree(options["dataset"], tree.get("network")), tree)
    config, fit = resolve(tree)
    device = choose_device(options["device"])
    files = WeightFiles(device)
    predictor = make_predictor(config.network, fit, weights=config.weights, files=files)
    used = {"network": config.network, "weights": next(iter(files.files), None), "device": str(device)}
    used = {name: value for name, value in used.items() if value is not None}
    overwrite = options["overwrite"]
    with open_recording(source, options) as recording:
        if options["dry_run"]:
            result = plan(recording, output, config, overwrite=overwrite)
        else:
            with Progress("fit", "steps") as fitted, Progress("reconstruct", "images") as progress:
                result = reconstruct_to_file(
                    recording,
                    predictor,
                    output,
                    config,
                    fit=fit,
                    overwrite=overwrite,
                    report=progress,
                    fit_report=fitted,
                ).summary()
    print_result({**result, **used}, title=f"{source} -> {output}")


def _given_fields(options: dict[str, Any]) -> dict[str, Any]:
    ways = {
        "--between": ("frames", None),
        "--window-ms": ("time", "window_ms"),
        "--events-per-window": ("count", "events_per_window"),
        "--frames": ("number", "frames"),
        "--times": ("times", "times"),
    }
    given = [way for way in ways if options[way[2:].replace("-", "_")] is not None]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} exclude one another; choose one")
    names = ("network", "weights", "normalize", "fps", "t_start", "t_end")
    fields: dict[str, Any] = {name: options[name] for name in names if options[name] is not None}
    for way in given:
        kind, field = ways[way]
        fields["windows"] = kind
        if field is not None:
            fields[field] = options[field]
    return {**fields, **fit_tree(options)}
