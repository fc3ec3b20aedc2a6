"""Fits to one scene: what such a task brings, and the run folder that is written for it.

A fit has no samples and no epochs. A task that is made of a scene takes its own steps: a method that is
fitted to a recording, or a network with weights that is fine-tuned for a scene. Run folder, log, state file,
signals and resume are those of training.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from evsim import configuration
from evsim.errors import InputError, RunError
from evsim.files import atomic_output
from evsim.formats import Recording
from evsim.formats.storage.excerpt import cut_excerpt
from evsim.models.prediction.needs import Needs
from evsim.models.prediction.scene import Scene
from evsim.models.training.folder import TrainingFolder, require_same
from evsim.models.training.interruption import StopSignals
from evsim.models.training.record import TRAIN, Recorder
from evsim.models.training.state_file import read_state, write_state
from evsim.models.weights.checkpoints import save
from evsim.progress import Report

_ENDED_BY = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class SceneTask(Protocol):
    """A fit under way."""

    @property
    def config(self) -> Any:
        """The configuration with which it runs, of the entry's class; what the scene decides filled in."""
        ...

    @property
    def events(self) -> int:
        """How many events it is fitted to."""
        ...

    @property
    def step(self) -> int:
        """Steps taken."""
        ...

    @property
    def steps(self) -> int:
        """Steps in all."""
        ...

    def take_step(self) -> Mapping[str, Tensor]:
        """Figures of a step, scalars by name, "loss" among them; read no later than the next step."""
        ...

    def state(self) -> dict[str, Any]:
        """All that a resumed fit needs beside scene and configuration: tensors and plain values."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        ...

    def finished(self) -> nn.Module:
        """The network after the last step, in evaluation mode, whose weights are kept."""
        ...


class SceneMaterial(NamedTuple):
    """What a scene task is made of.

    scene: the stretch that is fitted; its recording is an excerpt. config: of the entry's class. network:
    with the weights that a fine-tuning starts from, on the device; None where none were given.
    """

    scene: Scene
    config: Any
    device: torch.device
    network: nn.Module | None = None


@dataclass(frozen=True, kw_only=True)
class SceneTaskEntry:
    """How `evsim train NET SCENE` fits a network to a scene; named in the entry's `tasks` as other tasks are.

    config: frozen dataclass, the section `fit` of configurations. create: the task. needs: what a scene must
    have; weights: whether a fit starts from some. longest_s: of a configuration, the seconds that are fitted
    where the user names no end; None fits to the end. Figures are logged every `log_every` steps, after the
    first and after the last; the state is written every `checkpoint_every` and after the last.
    """

    config: type
    create: Callable[[SceneMaterial], SceneTask]
    needs: Needs = field(default_factory=lambda: Needs(events=True, weights="none"))
    longest_s: Callable[[Any], float | None] = lambda config: None
    log_every: int = 10
    checkpoint_every: int = 200


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What a fit came to.

    ended: "finished", "interrupted" or "terminated". loss: the last one logged. events_outside: of the
    recording, beside the stretch. weights: the fitted network, None where the fit was stopped.
    """

    folder: Path
    ended: str
    steps: int
    iterations: int
    loss: float | None
    events: int
    events_outside: int
    seconds: float
    weights: Path | None


def stretch_to_fit(
    entry: SceneTaskEntry, config: Any, t_start: float | None = None, t_end: float | None = None
) -> tuple[float, float | None]:
    """Begin and end of what is fitted where the user names these, seconds after the first event."""
    start, longest = t_start or 0.0, entry.longest_s(config)
    return start, start + longest if t_end is None and longest is not None else t_end


def fit_to_folder(
    name: str,
    entry: SceneTaskEntry,
    recording: Recording,
    config: Any,
    output: Path,
    *,
    t_start: float | None = None,
    t_end: float | None = None,
    network: nn.Module | None = None,
    device: torch.device | None = None,
    described: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    report: Report | None = None,
) -> FitResult:
    """Fit the network `name` to a stretch of a recording and write it to the folder `output`.

    t_start, t_end: seconds after the first event; without an end, as `entry.longest_s` says. network: what a
    fine-tuning starts from. described: what config.yaml holds beside name, configuration, stretch and number
    of events. The folder gets config.yaml, metrics.csv, state.safetensors, summary.json, and NAME.safetensors
    when the fit is finished. SIGINT and SIGTERM stop it after a step, with its state saved.
    Raises InputError for a recording, folder or configuration that does not fit, RunError where the loss is
    not finite.
    """
    folder, began = TrainingFolder(output), time.perf_counter()
    folder.require_startable(resume=resume, overwrite=overwrite)
    if entry.needs.weights == "required" and network is None:
        raise InputError(f"a fit of {name} starts from a network with weights; pass --weights")
    start, end = stretch_to_fit(entry, config, t_start, t_end)
    excerpt = cut_excerpt(recording, t_start, end)
    scene = Scene(recording=excerpt)
    scene.require(entry.needs, f"a fit of {name}")
    task = entry.create(SceneMaterial(scene, config, device or torch.device("cpu"), network))
    tree = {
        "name": name,
        **(described or {}),
        "fit": configuration.to_tree(task.config),
        "t_start": start,
        "t_end": end,
        "events": task.events,
    }
    if resume and folder.state.is_file():
        state = read_state(folder.state)
        require_same(state["described"], tree)
        task.restore(state["fit"])
    else:
        folder.clear()
    folder.write_config(tree)
    with StopSignals() as stop:
        # Who sees a file of it may send a signal.
        recorder = Recorder(folder.path, step=task.step)
        loss = _take_steps(task, entry, stop, recorder, folder, tree, report)
    recorder.close()
    ended = _ENDED_BY.get(signal.Signals(stop.received), "finished") if stop.received else "finished"
    finished = task.step == task.steps
    weights = save(task.finished(), output / f"{name}.safetensors", overwrite=True) if finished else None
    result = FitResult(
        folder=output,
        ended="finished" if finished else ended,
        steps=task.step,
        iterations=task.steps,
        loss=loss,
        events=task.events,
        events_outside=len(recording) - task.events,
        seconds=time.perf_counter() - began,
        weights=weights,
    )
    with atomic_output(folder.summary, overwrite=True) as temporary:
        temporary.write_text(json.dumps(vars(result), indent=2, default=str) + "\n", encoding="utf-8")
    return result


def _take_steps(
    task: SceneTask,
    entry: SceneTaskEntry,
    stop: StopSignals,
    recorder: Recorder,
    folder: TrainingFolder,
    described: Mapping[str, Any],
    report: Report | None,
) -> float | None:
    """Take the steps that are left; the last loss logged."""
    loss = None
    while task.step < task.steps and not stop.received:
        figures = task.take_step()
        last = task.step == task.steps
        if task.step % entry.log_every == 0 or last or task.step == 1:
            values = {name: float(value) for name, value in figures.items()}
            loss = require_finite(values["loss"], task.step)
            recorder.write(task.step, 0, TRAIN, values)
        if report is not None:
            report(task.step, task.steps, "" if loss is None else f"loss {loss:.4g}")
        if task.step % entry.checkpoint_every == 0 or last or stop.received:
            write_state(folder.state, {"described": dict(described), "fit": task.state()})
    return loss


def require_finite(loss: float, step: int) -> float:
    """The loss. Raises RunError where it is not finite."""
    if not math.isfinite(loss):
        raise RunError(f"the loss is {loss} by step {step}; lower learning_rate")
    return loss
