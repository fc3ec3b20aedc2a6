"""Options of verbs that fit a recording: which stretch of it, and how."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evsim.cli.conventions import Number, Progress, apply_options, print_result

if TYPE_CHECKING:
    from evsim.formats import Recording
    from evsim.models.training.scene_task import SceneTaskEntry

STOPPED = {"interrupted": 130, "terminated": 143}
TRAINING_ONLY = ("validation", "devices", "workers", "overfit", "simulate")
FIT_FIELDS = ("event_threshold", "iterations", "train_resolution", "color", "compat")
"""Fields of the section "fit" that have an option of their own; a method need not have all of them."""


class DataSetName(click.ParamType):
    """The name of a data set; which there are is looked up when it is asked for."""

    name = "name"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """All names."""
        from evsim.pipelines.fit_recipes import FIT_RECIPES

        return f"[{'|'.join(sorted(FIT_RECIPES))}]"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> str:
        from evsim.pipelines.fit_recipes import FIT_RECIPES

        if value not in FIT_RECIPES:
            self.fail(
                f"{value!r} is not one of {', '.join(map(repr, sorted(FIT_RECIPES)))}.", parameter, context
            )
        return str(value)


dataset_option = click.option(
    "--dataset",
    type=DataSetName(),
    default=None,
    help="Whose recording it is: sensor size where the file does not say, and options of a fit.",
)

stretch_options = apply_options(
    [
        click.option(
            "--t-start", type=Number(), default=None, metavar="SECONDS", help="Begin so long after event one."
        ),
        click.option("--t-end", type=Number(), default=None, metavar="SECONDS", help="End before this time."),
    ]
)

fit_options = apply_options(
    [
        click.option(
            "--event-threshold", type=Number(), default=None, help="Fitted methods: log intensity per event."
        ),
        click.option("--iterations", type=click.IntRange(0), default=None, help="Fitted methods: steps."),
        click.option(
            "--train-resolution",
            type=click.IntRange(2),
            default=None,
            metavar="T",
            help="Fitted methods: time samples of the fit.",
        ),
        click.option("--color", is_flag=True, help="Fitted methods: colour of an RGGB mosaic sensor."),
        click.option(
            "--compat", is_flag=True, help="Fitted methods: as the published code, its faults included."
        ),
    ]
)


def fit_tree(options: Mapping[str, Any]) -> dict[str, Any]:
    """The section "fit" of a configuration that the options set, nothing where they set none."""
    given = {name: options[name] for name in FIT_FIELDS if options[name] not in (None, False)}
    return {"fit": given} if given else {}


def dataset_tree(dataset: str | None, network: str | None) -> dict[str, Any]:
    """The section "fit" that a data set is fitted with, nothing for a network that is not fitted."""
    from evsim.models.registry import entry
    from evsim.pipelines.fit_recipes import FIT_RECIPES

    fit = FIT_RECIPES[dataset].fit if dataset is not None else {}
    return {"fit": dict(fit)} if fit and network is not None and entry(network).is_fitted else {}


def open_recording(source: str | Path, options: Mapping[str, Any]) -> Recording:
    """The recording at `source` as the options dataset, size, unit and source_format say."""
    from evsim.pipelines.fit_recipes import open_recording as open_of_dataset

    return open_of_dataset(
        Path(source),
        options["dataset"],
        size=options["size"],
        unit=options["unit"],
        format=options["source_format"],
    )


def refuse_fit_options(network: str, options: Mapping[str, Any]) -> None:
    """A usage error where an option was given that only methods fitted to a recording have."""
    names = ("t_start", "t_end", "dataset", "size", "unit", "source_format", *FIT_FIELDS)
    given = [_as_option(name) for name in names if options[name] not in (None, False)]
    if given:
        raise click.UsageError(f"{given[0]} is for methods that are fitted to a recording, not for {network}")


def fit_to_folder(
    network: str,
    task: SceneTaskEntry,
    recordings: tuple[str, ...],
    output: Path | None,
    options: Mapping[str, Any],
) -> None:
    """Fit a network to one recording, in a run folder."""
    without = TRAINING_ONLY if task.needs.weights != "none" else (*TRAINING_ONLY, "weights")
    given = [_as_option(name) for name in without if options[name] not in (None, ())]
    if given:
        raise click.UsageError(f"{network} is fitted to one recording, for which {given[0]} means nothing")
    if len(recordings) != 1:
        raise click.UsageError(f"{network} is fitted to one recording, {len(recordings)} were given")
    if output is None:
        raise click.UsageError("--output is needed: the folder of the run")
    from evsim import configuration
    from evsim.models.device import choose_device
    from evsim.models.training.scene_task import fit_to_folder as fit
    from evsim.models.training.scene_task import stretch_to_fit

    tree = _fit_configuration(network, output, options)
    times = {name: tree.pop(name, None) for name in ("t_start", "t_end")}
    described: dict[str, Any] = {
        name: tree.pop(name) for name in ("task_name", "initial_weights") if name in tree
    }
    config: Any = configuration.build(task.config, tree.pop("fit", {}), "fit")
    if tree:
        raise click.UsageError(f"unknown section {next(iter(tree))!r}; expected fit, t_start, t_end")
    device = choose_device(options["device"])
    with open_recording(recordings[0], options) as recording:
        if options["dry_run"]:
            plan = {"events": len(recording), "size": f"{recording.width}x{recording.height}"}
            resolved = config.resolved() if hasattr(config, "resolved") else config
            print_result({**plan, "fit": configuration.to_tree(resolved), "written": "nothing"})
            return
        with Progress("train", "steps") as progress:
            result = fit(
                network,
                task,
                recording,
                config,
                output,
                **times,
                network=_initial_network(network, task, described.get("initial_weights"), device),
                device=device,
                described=described,
                resume=options["resume"],
                overwrite=options["overwrite"],
                report=progress,
            )
    read = [recordings[0], *_reading_words(options)]
    next_words = ["evsim", "reconstruct", *read, "-o", "video.mp4", "--network", network]
    next_words += ["--weights", str(result.weights)]
    if result.events_outside:
        next_words += _stretch_words(*stretch_to_fit(task, config, **times))
    fitted = {} if result.weights is None else {"next": shlex.join(next_words)}
    print_result({**vars(result), **fitted}, title=f"train {network} {recordings[0]} -> {output}")
    if result.ended in STOPPED:
        again = ["evsim", "train", network, *read, "--resume", "-o", str(output)]
        click.echo(f"evsim: {result.ended} after step {result.steps}, which was saved", err=True)
        click.echo(f"evsim: resume with: {shlex.join(again)}", err=True)
        raise click.exceptions.Exit(STOPPED[result.ended])


def _initial_network(network: str, task: SceneTaskEntry, weights: str | None, device: Any) -> Any:
    """The network that a fine-tuning starts from, None for a fit from nothing."""
    from evsim.models.prediction.parts import WeightFiles

    if weights is None and task.needs.weights != "required":
        return None
    return WeightFiles(device).load(network, weights)


def _fit_configuration(network: str, output: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """That of the data set, the resumed run, the file, --set, then the other options."""
    from evsim import configuration
    from evsim.models.training.packaged import read_configuration

    tree = dataset_tree(options["dataset"], network)
    if options["resume"]:
        written = output / "config.yaml"
        if not written.is_file():
            raise click.UsageError(f"--resume: no run in {output}; leave it out to start one")
        tree = configuration.merge(tree, configuration.read_file(written))
    if options["config_file"]:
        read = read_configuration(options["config_file"], network)
        # As `evsim pack` and `evsim reconstruct` write it.
        if read.get("network") == network:
            read = {name: value for name, value in read.items() if name != "network"}
        tree = configuration.merge(tree, read)
    tree = configuration.merge(tree, configuration.parse_overrides(options["overrides"]))
    names = {"t_start": "t_start", "t_end": "t_end", "task": "task_name", "weights": "initial_weights"}
    top = {field: options[name] for name, field in names.items() if options[name] is not None}
    tree = configuration.merge(tree, {**top, **fit_tree(options)})
    steps = options["steps"] if options["iterations"] is None else options["iterations"]
    own = {"iterations": steps, "seed": options["seed"]}
    tree = configuration.merge(
        tree, {"fit": {name: value for name, value in own.items() if value is not None}}
    )
    # Of the written configuration: what it is of, and what the recording held.
    return {name: value for name, value in tree.items() if name not in ("name", "events")}


def _reading_words(options: Mapping[str, Any]) -> list[str]:
    """The options with which the recording was read, to read it again."""
    size = options["size"] and "x".join(map(str, options["size"]))
    given = {"dataset": options["dataset"], "size": size, "unit": options["unit"]}
    given["source_format"] = options["source_format"]
    return [word for name, value in given.items() if value for word in (_as_option(name), value)]


def _stretch_words(start: float, end: float | None) -> list[str]:
    """The options of the stretch that was fitted."""
    ends = {"--t-start": start or None, "--t-end": end}
    return [word for name, at in ends.items() if at is not None for word in (name, f"{at:.9g}")]


def _as_option(name: str) -> str:
    return {"source_format": "--format"}.get(name, "--" + name.replace("_", "-"))
