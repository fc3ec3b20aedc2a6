"""`evsim train`: train a network of the registry from a configuration."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from evsim.cli.conventions import (
    NetworkVerb,
    Progress,
    dry_run_option,
    output_option,
    overwrite_option,
    print_result,
    seed_option,
)
from evsim.cli.fitting import (
    dataset_option,
    fit_options,
    fit_to_folder,
    refuse_fit_options,
    stretch_options,
)
from evsim.cli.recordings import reading_options

EXIT_CODES = {"interrupted": 130, "terminated": 143}


@click.command(cls=NetworkVerb)
@click.argument("network", metavar="NET")
@click.argument("recordings", nargs=-1, metavar="[RECORDINGS]...")
@output_option("Folder of the run.", required=False)
@click.option("--validation", multiple=True, metavar="PATH", help="Recordings to validate with. Repeatable.")
@click.option(
    "--config",
    "config_file",
    default=None,
    metavar="NAME|FILE",
    help="A configuration that the network brings, or YAML or JSON such as the config.yaml of a run.",
)
@click.option(
    "--task", default=None, metavar="NAME", help="Which of the network's tasks.  [default: the first]"
)
@click.option(
    "--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Override a field: training.steps=2000."
)
@click.option(
    "--simulate",
    default=None,
    metavar="PRESET",
    help="RECORDINGS are clips: simulate their events while training, with a sensor drawn for each sample.",
)
@click.option("--weights", default=None, metavar="FILE|NAME", help="Start from these: `evsim weights list`.")
@click.option("--steps", type=click.IntRange(1), default=None, help="Optimiser steps.  [default: 10000]")
@click.option("--device", default=None, help="cpu, cuda, cuda:N or mps.  [default: the first GPU, else cpu]")
@click.option("--devices", type=click.IntRange(1), default=None, help="How many of them.  [default: 1]")
@click.option("--workers", type=click.IntRange(0), default=None, help="Data processes per device.")
@seed_option
@click.option("--resume", is_flag=True, help="Continue the run in the folder; its configuration is kept.")
@click.option("--overfit", type=click.IntRange(1), default=None, metavar="N", help="Train on N samples only.")
@stretch_options
@fit_options
@dataset_option
@reading_options
@overwrite_option
@dry_run_option
def train(network: str, recordings: tuple[str, ...], output: Path | None, **options: Any) -> None:
    """Train a network on recordings, or fit one to a single recording.

    RECORDINGS are event files of any format, lists of them, or folders of them such as a run's; with
    --simulate videos, folders of images, stills, or folders of those.

    A network that is fitted takes one recording, and of it what its window holds where --t-start and --t-end
    name no other stretch.

    Example: evsim train NET run/train --validation run/val -o trained --steps 20000
    """
    from evsim.models.training.runs import plan, prepare, summarize, task_entry
    from evsim.models.training.scene_task import SceneTaskEntry
    from evsim.models.training.stages import plan_stages, summarize_stages, train_stages

    task = task_entry(network, _task_name(network, output, options))
    if isinstance(task, SceneTaskEntry):
        return fit_to_folder(network, task, recordings, output, options)
    refuse_fit_options(network, options)

    if output is None and not options["dry_run"]:
        raise click.UsageError("--output is needed: the folder of the run")
    tree = _tree(network, recordings, output, options)
    how = {name: options[name] for name in ("resume", "overwrite", "overfit")}
    staged = bool(tree.get("stages"))
    run = None if staged else prepare(network, tree, resumed=output if options["resume"] else None)
    if options["dry_run"]:
        found = plan_stages(network, tree, how["overfit"]) if run is None else plan(run, how["overfit"])
        print_result(found, title=f"train {network}: plan")
        return
    assert output is not None
    result: Any
    with Progress("train", "steps") as progress:
        if run is None:
            result = train_stages(network, tree, output, **how, report=progress)
        else:
            result = run.train(output, **how, report=progress)
    if not result.is_main:
        # The process that started this one reports; another exit code than 0 would make it kill the rest.
        return
    summary = summarize_stages(network, result) if run is None else summarize(run, result)
    print_result(summary, title=f"train {network} -> {output}")
    if result.ended in EXIT_CODES:
        again = ["evsim", "train", network, "--resume", "-o", str(output)]
        again += [] if options["overfit"] is None else ["--overfit", str(options["overfit"])]
        click.echo(f"evsim: {result.ended} after step {result.steps}, which was saved", err=True)
        click.echo(f"evsim: resume with: {shlex.join(again)}", err=True)
        raise click.exceptions.Exit(EXIT_CODES[result.ended])


def _task_name(network: str, output: Path | None, options: dict[str, Any]) -> str | None:
    """The task that is asked for: by --task, --set, the file or the resumed run."""
    from evsim import configuration
    from evsim.models.training.packaged import read_configuration

    named = [options["task"], configuration.parse_overrides(options["overrides"]).get("task_name")]
    if options["config_file"]:
        named.append(read_configuration(options["config_file"], network).get("task_name"))
    if options["resume"] and output is not None and (output / "config.yaml").is_file():
        named.append(configuration.read_file(output / "config.yaml").get("task_name"))
    return next((name for name in named if name is not None), None)


def _tree(
    network: str, recordings: tuple[str, ...], output: Path | None, options: dict[str, Any]
) -> dict[str, Any]:
    """The configuration: that of the resumed run, the file, --set, then the other options."""
    from evsim import configuration
    from evsim.models.training.packaged import read_configuration
    from evsim.models.training.runs import lay_over

    tree: dict[str, Any] = {}
    written = output / "config.yaml" if output is not None else None
    if options["resume"]:
        if written is None or not written.is_file():
            raise click.UsageError(f"--resume: no training run in {output}; leave it out to start one")
        tree = configuration.read_file(written)
    if options["config_file"]:
        tree = lay_over(tree, read_configuration(options["config_file"], network))
    tree = lay_over(tree, configuration.parse_overrides(options["overrides"]))
    if options["overfit"] is None:
        options["overfit"] = tree.get("overfit")
    training = {name: options[name] for name in ("steps", "device", "devices", "workers", "seed")}
    given: dict[str, Any] = {
        "training": {name: value for name, value in training.items() if value is not None},
        "data": {
            name: [str(Path(path).absolute()) for path in paths]
            for name, paths in (("train", recordings), ("validation", options["validation"]))
            if paths
        },
    }
    if options["simulate"] is not None:
        given["data"]["simulation"] = {"preset": options["simulate"]}
    if options["task"] is not None:
        given["task_name"] = options["task"]
    if options["weights"] is not None:
        given["initial_weights"] = options["weights"]
    return lay_over(tree, given)
