"""`evsim evaluate`: scores of a network in any role, or of images that are already there."""

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
    from evsim.models.registry import Role

_ROLES = ["reconstruct", "interpolate", "deblur", "flow"]
_NOT_FOR: Mapping[str, frozenset[str]] = {
    "predictions": frozenset({"protocol", "all_frames", "weights", "images", "role"}),
    "reconstruct": frozenset({"inserted"}),
    "interpolate": frozenset({"protocol", "all_frames"}),
    "deblur": frozenset({"protocol", "all_frames", "inserted"}),
    "flow": frozenset(
        {"protocol", "all_frames", "inserted", "normalize", "align", "equalise", "start", "stop"}
    ),
}
"""Options that say nothing about folders of predictions, or about a network in a role."""
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
    "--role",
    type=click.Choice(_ROLES),
    default=None,
    help="Of a network that has several.  [default: its first]",
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
    "--inserted",
    type=click.IntRange(1),
    default=None,
    help="Interpolation: every n-th frame is an input.  [default: 2; of folders 1: score all]",
)
@click.option(
    "--average",
    type=click.Choice(["frames", "sequences"]),
    default=None,
    help="Means of data sets: over all frames, or over the sequences' means.  [default: frames]",
)
@click.option(
    "--images/--no-images", default=None, help="Write what is predicted.  [default: as the protocol]"
)
@click.option("--device", default=None, help="cpu, cuda, cuda:N or mps.  [default: the first GPU, else cpu]")
@click.option("--seed", type=int, default=None, help="Decides which frames kr0.5 keeps.  [default: 0]")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), default=None, help="YAML or JSON of fields."
)
@click.option("--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Override a field.")
@overwrite_option
@dry_run_option
def evaluate(subject: str, **options: Any) -> None:
    """Score a network on its role's samples, or a folder of predictions against ground truth.

    Every number stands beside the id of its metric: docs/metrics.md lists them. A metric whose weights are
    absent refuses.

    \b
    evsim evaluate NET --data FOLDER --metrics mse,ssim:evreal -o outputs
    evsim evaluate NET --role interpolate --inserted 2 --data CLIPS --metrics psnr:rgb,ssim:rgb
    evsim evaluate predictions/ --data truth/ --metrics psnr:rgb,ssim:rgb
    """
    from evsim.models.device import choose_device
    from evsim.models.evaluation.scoring import Scorer, load_metrics
    from evsim.models.registry import entry, names

    is_network = subject in names()
    if not is_network and not Path(subject).is_dir():
        known = names()
        raise click.UsageError(
            f"{subject!r} is neither a network ({', '.join(known)}) nor a folder of predictions"
        )
    if options["method"] and Path(options["method"]).name != options["method"]:
        raise click.UsageError(f"--method {options['method']}: expected a plain name, without folders")
    role = _role(subject, entry(subject).roles, options["role"]) if is_network else None
    config, own = _configuration(options, role)
    if own["fit"] and not (is_network and entry(subject).is_fitted):
        raise click.UsageError(
            f"fit.{next(iter(own['fit']))} is set, but {subject} is not fitted to a recording"
        )
    if own["options"] and (not is_network or entry(subject).is_fitted):
        raise click.UsageError(
            f"options.{next(iter(own['options']))} is set, which is for networks; methods that are fitted "
            "to a recording have the section fit"
        )
    device = choose_device(options["device"])
    ids = [name.strip() for name in options["metrics"].split(",") if name.strip()]
    metrics = load_metrics(ids, options["metric_weights"], device=device, role=role or "reconstruct")
    scorer = Scorer(metrics, config.equalise)
    if role:
        _network(subject, role, scorer, config, options, {**own["fit"], **own["options"]})
    else:
        _predictions(subject, scorer, config, options)


def _role(subject: str, roles: tuple[Role, ...], wanted: Role | None) -> Role:
    """The role in which a network is evaluated."""
    if not roles or wanted not in (None, *roles):
        raise click.UsageError(
            f"{subject} has no role {wanted or 'to be evaluated in'}; its roles: {', '.join(roles) or 'none'}"
        )
    return wanted or roles[0]


def _configuration(
    options: Mapping[str, Any], role: Role | None
) -> tuple[EvaluationConfig, dict[str, Mapping[str, Any]]]:
    """The configuration, and what a network or method has of its own in its section options or fit.

    role: of a network, None for a folder of predictions.
    """
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
    set_here = {name for name in (*names, "weights", "images", "role") if options[name] is not None}
    set_here |= {"all_frames"} if options["all_frames"] else set()
    if wrong := sorted(_NOT_FOR[role or "predictions"] & set_here):
        option = "--" + wrong[0].replace("_", "-")
        reasons = {
            None: "is for networks",
            "reconstruct": "is for folders of predictions and the role interpolate",
        }
        raise click.UsageError(f"{option} {reasons.get(role, f'says nothing about the role {role}')}")
    # The PSNR of identical images is infinite, and so is the mean of published tables that include it.
    tree: dict[str, Any] = {} if role else {"not_finite": "keep"}
    if role == "interpolate":
        tree["inserted"] = 2
    file = configuration.read_file(options["config_file"]) if options["config_file"] else {}
    for layer in (file, configuration.parse_overrides(options["overrides"]), given):
        tree = configuration.merge(tree, layer)
    own = {section: tree.pop(section, {}) for section in ("fit", "options")}
    return configuration.build(EvaluationConfig, tree), own


def _network(
    subject: str,
    role: Role,
    scorer: Scorer,
    config: EvaluationConfig,
    options: Mapping[str, Any],
    own: Mapping[str, Any],
) -> None:
    from evsim.models.device import choose_device
    from evsim.models.prediction.parts import WeightFiles, make_flow_estimator, make_predictor
    from evsim.models.registry import entry
    from evsim.pipelines import evaluation as work

    device, found_entry = choose_device(options["device"]), entry(subject)
    given, used = options["weights"], WeightFiles(device)
    make = make_flow_estimator if role == "flow" else make_predictor
    network = make(subject, own, weights=given, files=used)
    weights = next(map(Path, used.files), None)
    method = options["method"] or (given if given and not Path(given).exists() else None)
    method = method or (subject if weights is None else weights.stem)
    places = {"method": method, "output": options["output"], "overwrite": options["overwrite"]}
    sequences, strays = work.gather_sequences(options["data"])
    if options["dry_run"]:
        _print_plan(work.plan_role(found_entry.needs, role, sequences, scorer, config, **places))
        return
    section = "fit" if found_entry.is_fitted else "options"
    with Progress("evaluate", "images") as progress:
        found = work.evaluate_role(
            network,
            role,
            sequences,
            scorer,
            config,
            images=options["images"],
            origin={
                "network": subject,
                **({section: dict(own)} if own else {}),
                **({"weights": str(weights), "weights_sha256": used.files[str(weights)]} if weights else {}),
                **({"loaded_files": dict(used.files)} if len(used.files) > 1 else {}),
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
