"""`evsim simulate RECIPE`, `evsim simulate --config run.json`: many clips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evsim.cli.conventions import (
    Progress,
    Verb,
    apply_options,
    clip_options,
    configuration_options,
    dry_run_option,
    factor_tree,
    output_option,
    overwrite_option,
    print_result,
    seed_option,
    selection_tree,
    threads_option,
)

if TYPE_CHECKING:
    from evsim.pipelines.runs.description import RunDescription
    from evsim.pipelines.runs.executors import Executor
    from evsim.pipelines.runs.run import RunOptions, RunResult

SOME_FAILED = 3
RUN_HELP = "Run folder: run.json, manifest.jsonl and <clip>.h5 for every clip."

root_argument = click.argument("root", type=click.Path(path_type=Path), metavar="ROOT")
run_frames_option = click.option(
    "--frames",
    type=click.Choice(["source", "all", "none"]),
    default=None,
    help="Frames stored with the events; `pack gopro` writes RGB_dense from all.  [default: source]",
)
run_factor_option = click.option(
    "--factor", default=None, metavar="N|auto", help="Upsampling: frames per source interval, or from motion."
)
run_options = apply_options(
    [
        click.option("--resume", is_flag=True, help="Finish a run: keep what is done and unchanged."),
        overwrite_option,
        click.option("--verify", is_flag=True, help="With --resume: compare contents, not sizes and times."),
        click.option(
            "--workers", type=click.IntRange(1), default=1, show_default=True, help="Clips at a time."
        ),
        click.option(
            "--shard", default=None, metavar="I/N", help="Only the I-th of N parts, e.g. in an array job."
        ),
        click.option(
            "--retries",
            type=click.IntRange(0),
            default=1,
            show_default=True,
            help="Further attempts for a clip that fails.",
        ),
        threads_option,
        dry_run_option,
    ]
)
recipe_options = apply_options(
    [
        output_option(RUN_HELP),
        configuration_options,
        run_factor_option,
        clip_options,
        run_frames_option,
        seed_option,
        run_options,
    ]
)


class VerbGroup(Verb, click.Group):
    """A group that is a verb too, when no command follows."""


class RecipeGroup(VerbGroup):
    """A group to which every recipe adds a command of its name, loaded when it is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        from evsim.pipelines.runs.recipes import RECIPES

        return sorted({*super().list_commands(context), *RECIPES})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return super().get_command(context, name) or _recipe_command(name)


def _recipe_command(name: str) -> click.Command | None:
    from evsim.pipelines.runs.recipes import RECIPES

    if name not in RECIPES:
        return None
    recipe = RECIPES[name]

    def simulate_recipe(root: Path, output: Path, **options: Any) -> int:
        return _simulate(name, root, output, options)

    simulate_recipe.__doc__ = f"{recipe.summary}\n\nExample: {recipe.example}\n"
    return click.command(name, cls=Verb)(root_argument(recipe_options(simulate_recipe)))


def repeat(run_json: Path, output: Path | None, options: dict[str, Any]) -> int:
    """Carry out again, or finish, the run that a run.json describes."""
    from evsim.pipelines.runs.description import recorded_run

    return _run(recorded_run(run_json), output or run_json.parent, options)


def _simulate(recipe: str, root: Path, output: Path, options: dict[str, Any]) -> int:
    from evsim.pipelines.runs.simulation import describe_run

    given: dict[str, Any] = {
        name: options[name] for name in ("seed", "frames", "transfer") if options[name] is not None
    }
    selection = selection_tree(options)
    fps = selection.pop("fps", None)
    if selection:
        given["selection"] = selection
    if options["factor"] is not None:
        given["upsample"] = factor_tree(options["factor"])
    description = describe_run(
        recipe,
        root,
        fps=fps,
        preset=options["preset"],
        config_file=options["config_file"],
        overrides=options["overrides"],
        options=given,
    )
    return _run(description, output, options)


def _run(description: RunDescription, output: Path, options: dict[str, Any]) -> int:
    from evsim.pipelines.runs.planning import plan_run
    from evsim.pipelines.runs.run import execute_run, resume_command

    how, executor = _options(options), _executor(options)
    title = f"{description.root} -> {output}"
    if options["dry_run"]:
        plan = plan_run(description, output, how, executor=executor)
        print_result(plan, title="Plan (nothing written)")
        return SOME_FAILED if plan["unreadable"] else 0
    resume = resume_command(description.verb, output, how, executor.workers)
    try:
        with Progress(description.verb, f"{description.unit}s") as progress:
            result = execute_run(description, output, how, executor=executor, report=progress, say=_say)
    except BaseException as error:
        # Only what was begun can be continued: a usage error comes before anything is written.
        if not isinstance(error, Exception) and (output / "run.json").is_file():
            _say(f"finished {description.unit}s were kept; to finish the rest: {resume}")
        raise
    print_result(result.summary(), title=title)
    return _report(result, resume)


def _report(result: RunResult, resume: str) -> int:
    for record in result.records:
        for note in record.notes:
            _say(f"warning: {record.name}: {note}")
        if record.status == "failed":
            _say(f"{record.name} failed: {record.error}")
    if result.stopped:
        _say(f"stopped with {result.not_started} {result.unit}s not started: {result.stopped}")
    if result.complete:
        return 0
    _say(f"to do what is missing: {resume}")
    return SOME_FAILED


def _options(options: dict[str, Any]) -> RunOptions:
    from evsim.pipelines.runs.run import RunOptions
    from evsim.pipelines.runs.run_folder import Shard

    if options["resume"] and options["overwrite"]:
        raise click.UsageError("--resume keeps what is there and --overwrite replaces it; give one of them")
    return RunOptions(
        resume=options["resume"],
        overwrite=options["overwrite"],
        verify=options["verify"],
        shard=Shard.parse(options["shard"]) if options["shard"] else None,
        retries=options["retries"],
    )


def _executor(options: dict[str, Any]) -> Executor:
    from evsim.pipelines.runs.executors import Processes, Serial

    workers = options["workers"]
    return Processes(workers) if workers > 1 else Serial(options["threads"])


def _say(sentence: str) -> None:
    click.echo(f"evsim: {sentence}", err=True)
