"""Stages: a chain of ordinary runs, each in a folder of its own, each from the weights of the one before.

A configuration with a section `stages` describes several runs: what stands beside that section holds for
all, what stands in a stage is laid over it for that stage.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evsim import configuration
from evsim.errors import ConfigError, InputError
from evsim.files import atomic_output
from evsim.models.training.configuration import FREE_ON_RESUME
from evsim.models.training.folder import TrainingFolder, require_same
from evsim.models.training.loop import Ended
from evsim.models.training.runs import SECTIONS, lay_over, next_command, plan, prepare
from evsim.progress import Report

Start = Literal["best", "last"]
_STAGE_FOLDER = re.compile(r"\d\d-[\w-]+")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run of a chain.

    folder: its name in the chain's folder, number and name of the stage. start: which weights of the stage
    before it begins with. tree: the sections that are laid over those of the chain.
    """

    folder: str
    start: Start
    tree: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class StageOutcome:
    """What one stage came to: the figures of its summary.json, and the weights that are handed on."""

    folder: Path
    ended: Ended
    steps: int
    best_step: int
    monitor: str
    best: float | None
    weights: Path


@dataclass(frozen=True, kw_only=True)
class StagesResult:
    """What a chain came to.

    folder: of the chain. ended: why; "finished" only when every stage is. stages: those that ran or had run.
    steps: of the last of them. seconds: of this attempt. is_main: True in the process that reports.
    """

    folder: Path
    ended: Ended
    stages: tuple[StageOutcome, ...]
    steps: int
    seconds: float
    is_main: bool = True


def read_stages(tree: Mapping[str, Any]) -> list[Stage]:
    """The stages of a configuration, a repeated one as often as it is to run; empty where it has none.

    A stage is a mapping of name, from (best or last, the weights of the stage before; best), repeat (1), and
    sections. Raises ConfigError that names what does not fit.
    """
    listed = tree.get("stages") or []
    if not isinstance(listed, list):
        raise ConfigError(f"stages = {listed!r}, expected a list of stages")
    stages: list[Stage] = []
    for number, fields in enumerate(listed):
        place = f"stages[{number}]"
        if not isinstance(fields, Mapping) or not isinstance(fields.get("name"), str):
            raise ConfigError(f"{place} = {fields!r}, expected a mapping with a name")
        sections = {name: value for name, value in fields.items() if name not in ("name", "from", "repeat")}
        unknown = [name for name in sections if name not in SECTIONS]
        if unknown:
            known = ("name", "from", "repeat", *SECTIONS)
            raise ConfigError(f"unknown field {unknown[0]!r} of {place}; expected {', '.join(known)}")
        name, start, repeat = fields["name"], fields.get("from", "best"), fields.get("repeat", 1)
        if not re.fullmatch(r"[\w-]+", name):
            raise ConfigError(
                f"{place}.name = {name!r}, expected letters, digits, _ and -: it names a folder"
            )
        if start not in ("best", "last"):
            raise ConfigError(f"{place}.from = {start!r}, expected best or last")
        if not isinstance(repeat, int) or isinstance(repeat, bool) or repeat < 1:
            raise ConfigError(f"{place}.repeat = {repeat!r}, expected a number of runs, at least 1")
        for _ in range(repeat):
            stages.append(Stage(folder=f"{len(stages) + 1:02d}-{name}", start=start, tree=sections))
    return stages


def train_stages(
    name: str,
    tree: Mapping[str, Any],
    output: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    overfit: int | None = None,
    report: Report | None = None,
) -> StagesResult:
    """Train a network through the stages of a configuration, from the first or from where the chain stopped.

    output: the chain's folder: config.yaml, summary.json, and a folder for each stage, which is that of an
    ordinary run. Finished stages are not run again. report: called with (steps done in this attempt, steps
    known so far, a few words). Raises what `prepare` and `train` raise, and InputError for a chain that was
    begun with another configuration.
    """
    begin, folder = time.monotonic(), TrainingFolder(output)
    folder.require_startable(resume=resume, overwrite=overwrite)
    tree = {"name": name, **tree, **({} if overfit is None else {"overfit": overfit})}
    stages = read_stages(tree)
    if resume and folder.config.is_file():
        _require_same_chain(configuration.read_file(folder.config), tree)
    outcomes: list[StageOutcome] = []
    is_main, has_begun, steps_before = True, False, 0

    def begin_chain() -> None:
        # Only now, in the first stage that runs, has every process of the run seen the folder as it was.
        if not resume:
            _clear(folder)
        folder.write_config(tree)

    for stage in stages:
        path = output / stage.folder
        outcome = _finished(path) if resume else None
        if outcome is None:
            weights = _weights_before(stage, outcomes)
            run = prepare(name, _tree_of(tree, stage, path if resume else None, weights), resumed=path)
            result = run.train(
                path,
                resume=resume,
                overwrite=True,
                overfit=overfit,
                report=_shifted(report, steps_before, stage.folder),
                started=None if has_begun else begin_chain,
            )
            has_begun = True
            is_main, steps_before = result.is_main, steps_before + result.steps
            outcome = _outcome(path, vars(result))
        outcomes.append(outcome)
        if outcome.ended in ("interrupted", "terminated"):
            break
    found = StagesResult(
        folder=output,
        ended=outcomes[-1].ended,
        stages=tuple(outcomes),
        steps=outcomes[-1].steps,
        seconds=time.monotonic() - begin,
        is_main=is_main,
    )
    if is_main:
        _write_summary(folder, found)
    return found


def plan_stages(name: str, tree: Mapping[str, Any], overfit: int | None = None) -> dict[str, Any]:
    """What each stage would do, as `plan` says it; later ones with weights that are not trained yet."""
    return {
        stage.folder: plan(prepare(name, _tree_of(tree, stage, None, None)), overfit)
        for stage in read_stages(tree)
    }


def summarize_stages(name: str, result: StagesResult) -> dict[str, Any]:
    """The figures of each stage, and the command to go on with."""
    stages = {
        outcome.folder.name: {
            "ended": outcome.ended,
            "steps": outcome.steps,
            f"best_{outcome.monitor}": outcome.best,
            "best_step": outcome.best_step,
            "weights": str(outcome.weights),
        }
        for outcome in result.stages
    }
    weights = result.stages[-1].weights
    return {
        "ended": result.ended,
        "stages": stages,
        "seconds": result.seconds,
        "weights": str(weights),
        "next": next_command(name, weights),
    }


def _tree_of(
    tree: Mapping[str, Any], stage: Stage, begun: Path | None, weights: Path | None
) -> configuration.Tree:
    """The configuration of one stage; begun: its folder where it may have run before."""
    shared = {section: value for section, value in tree.items() if section != "stages"}
    if weights is not None:
        shared["initial_weights"] = str(weights.absolute())
    own = dict(stage.tree)
    if isinstance(own.get("initial_weights"), Mapping) and weights is not None:
        own["initial_weights"] = {"": shared["initial_weights"], **own["initial_weights"]}
    merged = lay_over(shared, own)
    written = None if begun is None else TrainingFolder(begun)
    if written is not None and written.state.is_file():
        # Where the chain lay when this stage began: its state holds the weights by now.
        merged["initial_weights"] = configuration.read_file(written.config).get("initial_weights")
    return merged


def _weights_before(stage: Stage, outcomes: list[StageOutcome]) -> Path | None:
    if not outcomes:
        return None
    folder = TrainingFolder(outcomes[-1].folder)
    return folder.best if stage.start == "best" and folder.best.is_file() else folder.last


def _finished(path: Path) -> StageOutcome | None:
    """What a stage came to that needs no further step."""
    folder = TrainingFolder(path)
    if not folder.summary.is_file() or not folder.state.is_file():
        return None
    found = json.loads(folder.summary.read_text(encoding="utf-8"))
    return _outcome(path, found) if found["ended"] in ("finished", "early stop") else None


def _outcome(path: Path, found: Mapping[str, Any]) -> StageOutcome:
    folder = TrainingFolder(path)
    return StageOutcome(
        folder=path,
        ended=found["ended"],
        steps=found["steps"],
        best_step=found["best_step"],
        monitor=found["monitor"],
        best=found["best"],
        weights=folder.best if found["best_step"] else folder.last,
    )


def _require_same_chain(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    free = tuple(name for name in FREE_ON_RESUME if name != "steps")
    try:
        require_same(_by_number(before), _by_number(now), free)
    except InputError as error:
        raise InputError(f"{error} (stages keep the steps that they began with)") from None


def _by_number(tree: Mapping[str, Any]) -> configuration.Tree:
    """The stages as a mapping, so that a difference is shown field by field."""
    stages = {str(number): stage for number, stage in enumerate(tree.get("stages") or [])}
    return {**tree, "stages": stages}


def _clear(folder: TrainingFolder) -> None:
    """Remove what an earlier run or chain left, so that none of its stages is taken for one of this."""
    folder.clear()
    for path in folder.path.glob("*"):
        if _STAGE_FOLDER.fullmatch(path.name) and TrainingFolder(path).config.is_file():
            TrainingFolder(path).clear()


def _shifted(report: Report | None, before: int, stage: str) -> Report | None:
    if report is None:
        return None

    def shifted(done: int, total: int | None, note: str) -> None:
        report(before + done, None if total is None else before + total, f"{stage} {note}".rstrip())

    return shifted


def _write_summary(folder: TrainingFolder, result: StagesResult) -> None:
    content = {
        "ended": result.ended,
        "stages": [
            {**vars(outcome), "folder": outcome.folder.name, "weights": outcome.weights.name}
            for outcome in result.stages
        ],
        "seconds": result.seconds,
    }
    with atomic_output(folder.summary, overwrite=True) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
