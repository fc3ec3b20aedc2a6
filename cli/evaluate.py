"""`evsim evaluate`: scores of a network on recordings, or of images that are already there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evsim.cli.conventions import (
    NetworkVerb,
    Number,
    Progress,
    dry_run_option,
    overwrite_option,
    wants_json,
)

if TYPE_CHECKING:
    from evsim.models.evaluation.protocol import EvaluationConfig
    from evsim.models.evaluation.results import Evaluation
    from evsim.models.evaluation.scoring import Scorer

_NORMALIZATIONS = ["none", "standard", "robust", "exprobust"]


@click.command(cls=NetworkVerb)
@click.argument("subject", metavar="NET|PREDICTIONS")
@click.option("--metrics", required=True, metavar="ID,ID", help="Metric ids, such as mse,ssim:evreal.")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="A data set or one sequence of it: recordings, or folders of images. Repeatable.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FOLDER",
    help="Write EVREAL's output tree, JSON, CSV and an HTML page here.",
)
@click.option(
    "--weights", default=None, metavar="FILE|NAME", help="Of the network: see `evsim weights list`."
)
@click.option(
    "--metric-weights",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FOLDER",
    help="Weights of metrics.  [default: $EVSIM_WEIGHTS]",
)
@click.option(
    "--method", default=None, help="Name in results; of predictions also their folder in each sequence."
)
@click.option(
    "--protocol", default=None, help="Windows: std, std_all, t40ms, k5k, kr0.5, ...  [default: std]"
)
@click.option("--start", type=Number(), default=None, metavar="SECONDS", help="First scored time.")
@click.option("--stop", type=Number(), default=None, metavar="SECONDS", help="Last scored time.")
@click.option("--all-frames", is_flag=True, help="With std: also the last frame, not the empty window first.")
@click.option(
    "--tolerance-ms", type=Number(), default=None, help="Prediction to reference, at most.  [default: 1]"
)
@click.option(
    "--normalize", type=click.Choice(_NORMALIZATIONS), default=None, help="Stretch each prediction."
)
@click.option(
    "--align",
    type=click.Choice(["none", "log-affine", "log-offset", "robust"]),
    default=None,
    help="Fit the brightness of each sequence as a whole.",
)
@click.option(
    "--equalise",
    type=click.Choice(["none", "global", "local", "clahe"]),
    default=None,
    help="Equalise the histograms of both images.",
)
@click.option(
    "--inserted", type=click.IntRange(1), default=None, help="Folders: every n-th frame was an input."
)
@click.option(
    "--average",
    type=click.Choice(["frames", "sequences"]),
    default=None,
    help="Means of data sets: over all frames, or over the sequences' means.  [default: frames]",
)
@click.option("--images/--no-images", default=None, help="Write reconstructions.  [default: as the protocol]")
@click.option("--device", default=None, help="cpu, cuda, cuda:N or mps.  [default: the first GPU, else cpu]")
@click.option("--seed", type=int, default=None, help="Decides which frames kr0.5 keeps.  [default: 0]")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), default=None, help="YAML or JSON of fields."
)
@click.option("--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Override a field.")
@overwrite_option
@dry_run_option
def evaluate(subject: str, **options: Any) -> None:
    """Score a network on recordings, or a folder of predictions against ground truth.

    Every number stands beside the id of its metric: docs/metrics.md lists them. A metric whose weights are
    absent refuses.

    \b
    evsim evaluate NET --data FOLDER --metrics mse,ssim:evreal -o outputs
    evsim evaluate predictions/ --data truth/ --metrics psnr:rgb,ssim:rgb
    """
    from evsim.models.device import choose_device
    from evsim.models.evaluation.scoring import Scorer, load_metrics
    from evsim.models.registry import entry, names

    is_network = subject in names()
    if not is_network and not Path(subject).is_dir():
        known = names("reconstruct")
        raise click.UsageError(
            f"{subject!r} is neither a network ({', '.join(known)}) nor a folder of predictions"
        )
    if options["method"] and Path(options["method"]).name != options["method"]:
        raise click.UsageError(f"--method {options['method']}: expected a plain name, without folders")
    config, fit = _configuration(options, is_network)
    if fit and not (is_network and entry(subject).is_fitted):
        raise click.UsageError(f"fit.{next(iter(fit))} is set, but {subject} is not fitted to a recording")
    device = choose_device(options["device"])
    ids = [name.strip() for name in options["metrics"].split(",") if name.strip()]
    scorer = Scorer(load_metrics(ids, options["metric_weights"], device=device), config.equalise)
    if is_network:
        _network(subject, scorer, config, options, fit)
    else:
        _predictions(subject, scorer, config, options)


def _configuration(
    options: Mapping[str, Any], is_network: bool
) -> tuple[EvaluationConfig, Mapping[str, Any]]:
    """The configuration, and the fields of a fitted method's own in its section "fit"."""
    from evsim import configuration
    from evsim.models.evaluation.protocol import EvaluationConfig

    fields = {"start": "start_s", "stop": "stop_s"}
    names = (
        "protocol",
        "start",
        "stop",
        "tolerance_ms",
        "normalize",
        "align",
        "equalise",
        "inserted",
        "average",
        "seed",
    )
    given = {fields.get(name, name): options[name] for name in names if options[name] is not None}
    if options["all_frames"]:
        given["all_frames"] = True
    set_here = {*given, *(name for name in ("weights", "images") if options[name] is not None)}
    only = {"inserted"} if is_network else {"protocol", "all_frames", "weights", "images"}
    if wrong := sorted(only & set_here):
        option = "--" + wrong[0].replace("_", "-")
        raise click.UsageError(f"{option} is for {'folders of predictions' if is_network else 'networks'}")
    # The PSNR of identical images is infinite, and so is the mean of published tables that include it.
    tree: dict[str, Any] = {} if is_network else {"not_finite": "keep"}
    file = configuration.read_file(options["config_file"]) if options["config_file"] else {}
    for layer in (file, configuration.parse_overrides(options["overrides"]), given):
        tree = configuration.merge(tree, layer)
    fit = tree.pop("fit", {})
    return configuration.build(EvaluationConfig, tree), fit


def _network(
    subject: str,
    scorer: Scorer,
    config: EvaluationConfig,
    options: Mapping[str, Any],
    fit: Mapping[str, Any],
) -> None:
    from evsim.models.device import choose_device
    from evsim.models.prediction.parts import WeightFiles, make_predictor
    from evsim.pipelines import evaluation as work

    device = choose_device(options["device"])
    given, used = options["weights"], WeightFiles(device)
    predictor = make_predictor(subject, fit, weights=given, files=used)
    weights = next(map(Path, used.files), None)
    method = options["method"] or (given if given and not Path(given).exists() else None)
    method = method or (subject if weights is None else weights.stem)
    places = {"method": method, "output": options["output"], "overwrite": options["overwrite"]}
    sequences, strays = work.gather_sequences(options["data"])
    if options["dry_run"]:
        _print_plan(work.plan_network(sequences, scorer, config, **places))
        return
    with Progress("evaluate", "images") as progress:
        found = work.evaluate_network(
            predictor,
            sequences,
            scorer,
            config,
            images=options["images"],
            origin={
                "network": subject,
                **({"fit": dict(fit)} if fit else {}),
                **({"weights": str(weights), "weights_sha256": used.files[str(weights)]} if weights else {}),
                "device": str(device),
            },
            left_out=strays,
            report=progress,
            **places,
        )
    _print(found, options["output"])


def _predictions(subject: str, scorer: Scorer, config: EvaluationConfig, options: Mapping[str, Any]) -> None:
    from evsim.models.evaluation.sequences import image_files
    from evsim.pipelines import evaluation as work

    sequences, strays = work.gather_sequences(options["data"])
    folder, method = Path(subject), options["method"]
    if options["dry_run"]:
        pairs = work.match_predictions(folder, sequences, scorer, method)
        _print_plan(
            [
                {
                    "dataset": one.dataset if one else place.parent.name,
                    "sequence": one.name if one else place.name,
                    "predictions": str(place),
                    "images": len(image_files(place)),
                }
                for place, one in pairs
            ]
        )
        return
    with Progress("evaluate", "images") as progress:
        found = work.evaluate_predictions(
            folder,
            sequences,
            scorer,
            config,
            method=method,
            output=options["output"],
            overwrite=options["overwrite"],
            left_out=strays,
            report=progress,
        )
    _print(found, options["output"])


def _print_plan(rows: list[dict[str, Any]]) -> None:
    if wants_json():
        click.echo(json.dumps({"sequences": rows, "written": "nothing"}))
        return
    for row in rows:
        numbers = ", ".join(f"{name} {value}" for name, value in list(row.items())[2:])
        click.echo(f"{row['dataset']}/{row['sequence']}: {numbers}")
    click.echo("nothing was written")


def _print(found: Evaluation, output: Path | None) -> None:
    from evsim.models.evaluation.results import text_table
    from evsim.pipelines.evaluation import result_files

    files = result_files(output, found.protocol, found.method) if output else {}
    if wants_json():
        written = {name: str(path) for name, path in files.items()}
        click.echo(json.dumps({**found.summary(), "files": written}, allow_nan=False))
    else:
        click.echo(found.title)
        for line in text_table(found):
            click.echo(f"  {line}")
        for name, path in files.items():
            click.echo(f"  {name}: {path}")
    for line in _remarks(found):
        click.echo(f"evsim: {line}", err=True)


def _remarks(found: Evaluation) -> list[str]:
    """What a reader of the table must know: frames without a score, values that are not finite."""
    lines = []
    for one in found.sequences:
        name = f"{one.dataset}/{one.sequence}"
        if one.unscored:
            reasons = ", ".join(f"{count} {reason}" for reason, count in one.unscored.items())
            lines.append(f"{name}: {sum(one.unscored.values())} of {one.items} not scored: {reasons}")
        for metric in found.metrics:
            if count := one.not_finite(metric.id):
                kept = "left out of" if found.config.not_finite == "drop" else "kept in"
                lines.append(f"{name}: {count} values of {metric.id} are not finite, {kept} means")
    return lines
