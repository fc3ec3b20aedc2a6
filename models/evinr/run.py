"""`evsim train evinr`: one fit in a run folder, that can be stopped and resumed."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evsim import configuration
from evsim.files import atomic_output
from evsim.formats import Recording
from evsim.formats.storage.excerpt import cut_excerpt
from evsim.models.evinr.fit import Fit, require_finite, with_threshold
from evsim.models.evinr.offline import stretch_of
from evsim.models.evinr.settings import EvinrFitConfig
from evsim.models.training.folder import TrainingFolder, require_same
from evsim.models.training.interruption import StopSignals
from evsim.models.training.record import TRAIN, Recorder
from evsim.models.training.state_file import read_state, write_state
from evsim.models.weights.checkpoints import save
from evsim.progress import Report

LOG_EVERY = 10
CHECKPOINT_EVERY = 200
_ENDED_BY = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


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


def fit_to_folder(
    recording: Recording,
    config: EvinrFitConfig,
    output: Path,
    *,
    t_start: float | None = None,
    t_end: float | None = None,
    device: torch.device | None = None,
    resume: bool = False,
    overwrite: bool = False,
    report: Report | None = None,
) -> FitResult:
    """Fit one network to a stretch of a recording and write it to the folder `output`.

    t_start, t_end: seconds after the first event; without an end, `window_s` after the start, since one
    network holds no more. The folder gets config.yaml, metrics.csv, state.safetensors, summary.json, and
    evinr.safetensors when the fit is finished. SIGINT and SIGTERM stop it after a step, with its state saved.
    Raises InputError for a recording, folder or configuration that does not fit, RunError where the loss is
    not finite.
    """
    folder, began = TrainingFolder(output), time.perf_counter()
    folder.require_startable(resume=resume, overwrite=overwrite)
    end = t_end if t_end is not None else (t_start or 0.0) + config.window_s
    excerpt = cut_excerpt(recording, t_start, end)
    config = with_threshold(config, recording)
    fit = Fit(config, excerpt.events(), stretch_of(excerpt), device)
    described = {
        "name": "evinr",
        "fit": configuration.to_tree(config),
        "t_start": t_start or 0.0,
        "t_end": end,
        "events": len(fit.events),
    }
    if resume and folder.state.is_file():
        state = read_state(folder.state)
        require_same(state["described"], described)
        fit.restore(state["fit"])
    else:
        folder.clear()
    folder.write_config(described)
    with StopSignals() as stop:
        # Who sees a file of it may send a signal.
        recorder = Recorder(folder.path, step=fit.step)
        loss = _take_steps(fit, stop, recorder, folder, described, report)
    recorder.close()
    ended = _ENDED_BY.get(signal.Signals(stop.received), "finished") if stop.received else "finished"
    finished = fit.step == fit.iterations
    result = FitResult(
        folder=output,
        ended="finished" if finished else ended,
        steps=fit.step,
        iterations=fit.iterations,
        loss=loss,
        events=len(fit.events),
        events_outside=len(recording) - len(fit.events),
        seconds=time.perf_counter() - began,
        weights=save(fit.finished(), output / "evinr.safetensors", overwrite=True) if finished else None,
    )
    with atomic_output(folder.summary, overwrite=True) as temporary:
        temporary.write_text(json.dumps(vars(result), indent=2, default=str) + "\n", encoding="utf-8")
    return result


def _take_steps(
    fit: Fit,
    stop: StopSignals,
    recorder: Recorder,
    folder: TrainingFolder,
    described: Mapping[str, Any],
    report: Report | None,
) -> float | None:
    """Take the steps that are left; the last loss logged."""
    loss = None
    while fit.step < fit.iterations and not stop.received:
        terms = fit.take_step()
        last = fit.step == fit.iterations
        if fit.step % LOG_EVERY == 0 or last or fit.step == 1:
            figures = {("loss" if name == "total" else name): float(value) for name, value in terms.items()}
            loss = require_finite(figures["loss"], fit.step)
            recorder.write(fit.step, 0, TRAIN, figures)
        if report is not None:
            report(fit.step, fit.iterations, "" if loss is None else f"loss {loss:.4g}")
        if fit.step % CHECKPOINT_EVERY == 0 or last or stop.received:
            write_state(folder.state, {"described": dict(described), "fit": fit.state()})
    return loss
