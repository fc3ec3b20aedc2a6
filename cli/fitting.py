"""Options of verbs that fit a recording: which stretch of it, and how."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from evsim.cli.conventions import Progress, apply_options, print_result

STOPPED = {"interrupted": 130, "terminated": 143}
TRAINING_ONLY = ("validation", "weights", "devices", "workers", "overfit")

stretch_options = apply_options(
    [
        click.option(
            "--t-start", type=float, default=None, metavar="SECONDS", help="Begin so long after event one."
        ),
        click.option("--t-end", type=float, default=None, metavar="SECONDS", help="End before this time."),
    ]
)

fit_options = apply_options(
    [
        click.option(
            "--event-threshold", type=float, default=None, help="Offline methods: log intensity per event."
        ),
        click.option("--iterations", type=click.IntRange(0), default=None, help="Offline methods: steps."),
        click.option(
            "--train-resolution",
            type=click.IntRange(2),
            default=None,
            metavar="T",
            help="Offline methods: time samples of the fit.",
        ),
        click.option("--color", is_flag=True, help="Offline methods: colour of an RGGB mosaic sensor."),
        click.option(
            "--compat", is_flag=True, help="Network evinr: fit as the published code does, 1000 steps."
        ),
    ]
)


def fit_tree(options: Mapping[str, Any]) -> dict[str, Any]:
    """The section "fit" of a configuration that the options set, nothing where they set none."""
    names = ("event_threshold", "iterations", "train_resolution", "color", "compat")
    given = {name: options[name] for name in names if options[name] not in (None, False)}
    return {"fit": given} if given else {}


def refuse_fit_options(network: str, options: Mapping[str, Any]) -> None:
    """A usage error where an option was given that only methods fitted to a recording have."""
    names = (
        *("t_start", "t_end", "size", "unit", "source_format"),
        *("event_threshold", "iterations", "train_resolution", "color", "compat"),
    )
    given = [_as_option(name) for name in names if options[name] not in (None, False)]
    if given:
        raise click.UsageError(f"{given[0]} is for methods that are fitted to a recording, not for {network}")


def fit_to_folder(
    network: str, recordings: tuple[str, ...], output: Path | None, options: Mapping[str, Any]
) -> None:
    """Fit a network to one recording, in a run folder."""
    given = [_as_option(name) for name in TRAINING_ONLY if options[name] not in (None, ())]
    if given:
        raise click.UsageError(f"{network} is fitted to one recording, for which {given[0]} means nothing")
    if len(recordings) != 1:
        raise click.UsageError(f"{network} is fitted to one recording, {len(recordings)} were given")
    if network != "evinr":
        raise click.UsageError(
            f"{network} leaves no weights behind; use evsim reconstruct --network {network}"
        )
    if output is None:
        raise click.UsageError("--output is needed: the folder of the run")
    from evsim import configuration
    from evsim.formats import open_events
    from evsim.models.device import choose_device
    from evsim.models.evinr.run import fit_to_folder as fit
    from evsim.models.evinr.settings import EvinrFitConfig

    tree = _fit_configuration(output, options)
    times = {name: tree.pop(name, None) for name in ("t_start", "t_end")}
    config = configuration.build(EvinrFitConfig, tree.pop("fit", {}), "fit")
    if tree:
        raise click.UsageError(f"unknown section {next(iter(tree))!r}; expected fit, t_start, t_end")
    with open_events(
        recordings[0], size=options["size"], unit=options["unit"], format=options["source_format"]
    ) as recording:
        if options["dry_run"]:
            plan = {"events": len(recording), "size": f"{recording.width}x{recording.height}"}
            print_result({**plan, "fit": configuration.to_tree(config.resolved()), "written": "nothing"})
            return
        with Progress("train", "steps") as progress:
            result = fit(
                recording,
                config,
                output,
                **times,
                device=choose_device(options["device"]),
                resume=options["resume"],
                overwrite=options["overwrite"],
                report=progress,
            )
    fitted = {} if result.weights is None else {"next": _next_command(recordings[0], result.weights)}
    print_result({**vars(result), **fitted}, title=f"train {network} {recordings[0]} -> {output}")
    if result.ended in STOPPED:
        again = ["evsim", "train", network, recordings[0], "--resume", "-o", str(output)]
        click.echo(f"evsim: {result.ended} after step {result.steps}, which was saved", err=True)
        click.echo(f"evsim: resume with: {shlex.join(again)}", err=True)
        raise click.exceptions.Exit(STOPPED[result.ended])


def _fit_configuration(output: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """That of the resumed run, the file, --set, then the other options."""
    from evsim import configuration

    tree: dict[str, Any] = {}
    if options["resume"]:
        written = output / "config.yaml"
        if not written.is_file():
            raise click.UsageError(f"--resume: no run in {output}; leave it out to start one")
        tree = configuration.read_file(written)
    if options["config_file"]:
        tree = configuration.merge(tree, configuration.read_file(options["config_file"]))
    tree = configuration.merge(tree, configuration.parse_overrides(options["overrides"]))
    times = {name: options[name] for name in ("t_start", "t_end") if options[name] is not None}
    tree = configuration.merge(tree, {**times, **fit_tree(options)})
    steps = options["steps"] if options["iterations"] is None else options["iterations"]
    own = {"iterations": steps, "seed": options["seed"]}
    tree = configuration.merge(
        tree, {"fit": {name: value for name, value in own.items() if value is not None}}
    )
    # Of the written configuration: what it is of, and what the recording held.
    return {name: value for name, value in tree.items() if name not in ("name", "events")}


def _next_command(recording: str, weights: Path) -> str:
    words = ["evsim", "reconstruct", recording, "-o", "video.mp4", "--network", "evinr"]
    return shlex.join([*words, "--weights", str(weights)])


def _as_option(name: str) -> str:
    return {"source_format": "--format"}.get(name, "--" + name.replace("_", "-"))
