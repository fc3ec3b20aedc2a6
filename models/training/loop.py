"""The training loop of every network, on Lightning Fabric.

Step n uses the samples, learning rate and random draws of step n, whatever was computed before it: a run
that was stopped and resumed takes the same steps as one that was not, and several processes together take
those of one. Fabric places the network on devices and exchanges gradients; what happens in which order is
here.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from evsim import configuration
from evsim.errors import InputError, RunError
from evsim.files import atomic_output
from evsim.models.data.dataset import (
    FirstSamples,
    Share,
    StepSampler,
    batches_of,
    make_loader,
    seed_generators,
    size_of,
)
from evsim.models.device import choose_device
from evsim.models.training.averages import Averages, gather
from evsim.models.training.configuration import TrainingConfig
from evsim.models.training.finite import FiniteCheck, describe_samples, norm_of_gradients
from evsim.models.training.folder import TrainingFolder, require_same, write_weights
from evsim.models.training.interruption import StopSignals
from evsim.models.training.optimizers import make_optimizer, set_learning_rate
from evsim.models.training.record import TRAIN, VALIDATION, Recorder
from evsim.models.training.state_file import read_state, write_state
from evsim.models.training.task import Datasets, Outcome, Task
from evsim.progress import Report
from evsim.randomness import derive_key

Ended = Literal["finished", "early stop", "interrupted", "terminated"]

_ENDED_BY: dict[int, Ended] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a run came to.

    folder: of the run. ended: why it did. steps: taken in all. epochs: passes over the data. best_step:
    of the best validation, 0 before one. monitor, best: the monitored figure and its best value. train,
    validation: the last figures of each. seconds: of this attempt. steps_per_second: its rate.
    is_main: True in the process that reports; others of the same run say nothing.
    """

    folder: Path
    ended: Ended
    steps: int
    epochs: float
    best_step: int
    monitor: str
    best: float | None
    train: Mapping[str, float]
    validation: Mapping[str, float]
    seconds: float
    steps_per_second: float
    is_main: bool = True


@dataclass
class Reached:
    """What a run has reached: with weights and optimiser, all that it is resumed from.

    step: steps taken. validated: step of the last validation. best, best_step: of the monitored figure.
    worse: validations since. train, validation: last figures.
    """

    step: int = 0
    validated: int = 0
    best: float | None = None
    best_step: int = 0
    worse: int = 0
    train: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)


def train(
    task: Task,
    datasets: Datasets,
    config: TrainingConfig,
    output: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    overfit: int | None = None,
    description: Mapping[str, Any] | None = None,
    report: Report | None = None,
    started: Callable[[], None] | None = None,
) -> TrainingResult:
    """Train the task's network, from the beginning or from where the run in `output` stopped.

    output: the run's folder: config.yaml, metrics.csv, best.safetensors, last.safetensors, state.safetensors,
    pictures/, summary.json. overfit: train on, and validate with, so many samples, without new draws.
    description: what config.yaml holds beside the training fields; a resumed run must have the same.
    report: called with (steps done, steps, a few words). started: called in the process that writes, once
    all processes of the run have begun and before anything is written. SIGINT and SIGTERM end the run after
    the step under way; its state is saved, and `ended` says so. With several devices this process starts the
    others, which run the same command again.
    Raises InputError for a folder or configuration that does not fit, RunError when the loss is not finite.
    """
    folder = TrainingFolder(Path(output))
    folder.require_startable(resume=resume, overwrite=overwrite)
    if overfit is not None:
        few = FirstSamples(datasets.train, overfit)
        datasets = Datasets(few, few)
    config = config.in_steps(size_of(datasets.train))
    fabric = make_fabric(config)
    tree = {**(description or {}), "training": configuration.to_tree(config)}
    if overfit is not None:
        tree["overfit"] = overfit
    launched: Callable[..., Any] = _train  # Fabric's own hint leaves out the arguments that it passes on
    result: TrainingResult = fabric.launch(
        launched,
        *(task, datasets, config, folder, resume, tree, report, started),
    )
    return result


def make_fabric(config: TrainingConfig) -> Fabric:
    """Fabric for the devices, precision and strategy of a configuration."""
    device = choose_device(config.device)
    devices: Any = config.devices
    if device.index is not None:
        if config.devices > 1:
            raise InputError(f"device {config.device!r} is one device, but devices = {config.devices}")
        devices = [device.index]
    if config.precision == "16-mixed" and device.type == "cpu":
        raise InputError("precision 16-mixed needs a GPU; on the CPU use bf16-mixed or 32-true")
    several = config.devices * config.nodes > 1
    strategy = "ddp" if config.strategy == "auto" and several else config.strategy
    return Fabric(
        accelerator=device.type,
        devices=devices,
        num_nodes=config.nodes,
        precision=config.precision,
        strategy=strategy,
    )


def _train(
    fabric: Fabric,
    task: Task,
    datasets: Datasets,
    config: TrainingConfig,
    folder: TrainingFolder,
    resume: bool,
    description: Mapping[str, Any],
    report: Report | None,
    started: Callable[[], None] | None,
) -> TrainingResult:
    loop = Loop(fabric, task, datasets, config, folder, description)
    goes_on = resume and folder.state.is_file()
    if goes_on:
        loop.restore(read_state(folder.state))
    fabric.barrier()
    with StopSignals() as stop:
        if fabric.is_global_zero:
            if started is not None:
                started()
            if not goes_on:
                folder.clear()
            folder.write_config(description)
            loop.recorder = Recorder(folder.path, step=loop.reached.step, validated=loop.reached.validated)
        if not goes_on:
            loop.save()
        return loop.run(stop, report)


class _Step(nn.Module):
    """The pieces of a task behind one forward call each, as the exchange of gradients needs it.

    It takes an iterator and not the batch, so Fabric passes the batch on as it is: mixed precision would
    round event times and targets.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, pieces: Iterator[Outcome]) -> Outcome | None:
        return next(pieces, None)


class Loop:
    """One run under way."""

    def __init__(
        self,
        fabric: Fabric,
        task: Task,
        datasets: Datasets,
        config: TrainingConfig,
        folder: TrainingFolder,
        description: Mapping[str, Any],
    ) -> None:
        self.fabric, self.task, self.datasets, self.config = fabric, task, datasets, config
        self.folder, self.description = folder, dict(description)
        self.samples = size_of(datasets.train)
        self.share = Share(
            batch_size=config.batch_size,
            parts=config.accumulation,
            process=fabric.global_rank,
            processes=fabric.world_size,
        )
        task.train()
        if config.compile:
            task.network.compile()
        self.step = fabric.setup_module(_Step(task))
        self.optimizer = make_optimizer(task.parameter_groups(), config)
        self.wrapped: Any = fabric.setup_optimizers(self.optimizer)
        self.reached = Reached()
        self.figures, self.since_validation = Averages(), Averages()
        self.finite = FiniteCheck(fabric.global_rank)
        self.recorder: Recorder | None = None
        self.stopped_early = False

    def run(self, stop: StopSignals, report: Report | None) -> TrainingResult:
        """Take the steps that are left, until the last one, a signal, or no improvement."""
        begin, first = time.monotonic(), self.reached.step
        ended: Ended | None = self._validate_if_due(stop)
        if ended is None and not self._is_done():
            ended = self._take_steps(stop, report)
        if self.recorder is not None:
            self.recorder.close()
        seconds = time.monotonic() - begin
        result = self._result(ended or ("early stop" if self.stopped_early else "finished"), seconds, first)
        if self.fabric.is_global_zero:
            self._write_summary(result)
        self.fabric.barrier()
        return result

    def _take_steps(self, stop: StopSignals, report: Report | None) -> Ended | None:
        config, reached = self.config, self.reached
        batches = iter(self._loader())
        while not self._is_done():
            self._take_step(batches)
            if reached.step % config.log_every == 0 or reached.step == config.steps:
                self._log()
            if report is not None and self.fabric.is_global_zero:
                report(reached.step, config.steps, self._note())
            ended = self._validate_if_due(stop) or _ENDED_BY.get(self._agreed(stop.received))
            if ended or reached.step % config.checkpoint_every == 0 or self._is_done():
                self.save()
            if ended:
                return ended
        return None

    def _take_step(self, batches: Iterator[Any]) -> None:
        """One step of the optimiser."""
        config, fabric, step = self.config, self.fabric, self.reached.step
        rate = set_learning_rate(self.optimizer, config, step, self.samples)
        figures: dict[str, Tensor] = {"learning_rate": torch.tensor(rate, dtype=torch.float64)}
        self.wrapped.zero_grad()
        losses = []
        for part in range(1, config.accumulation + 1):
            batch = fabric.to_device(next(batches))
            found = self._compute(batch, part)
            losses.append(found["loss"])
            self._count(found, 1 / config.accumulation)
        norm: Tensor | None = None
        if config.clip_norm is not None:
            norm = fabric.clip_gradients(
                self.step, self.wrapped, max_norm=config.clip_norm, error_if_nonfinite=False
            )
            if norm is not None:
                figures["gradient_norm"] = norm
        self._check(torch.stack(losses).mean(), norm)
        self.wrapped.step()
        self._count(figures, 1.0)
        self.reached.step += 1

    def _compute(self, batch: Any, part: int) -> dict[str, Tensor]:
        """Add the gradients of one part of a step; its loss and metrics, the sums over its pieces."""
        config, fabric, step = self.config, self.fabric, self.reached.step
        several = type(self.task).pieces is not Task.pieces
        last = part == config.accumulation
        pieces, number = iter(self.task.pieces(batch)), 0
        sums: dict[str, Tensor] = {}
        while True:
            # After the batch is there: a data set may seed the generators while it is loaded.
            self._seed(f"{step}/{part}" + (f"/{number}" if number else ""), "training step")
            # Which piece is the last is known only after it.
            with fabric.no_backward_sync(self.step, enabled=several or not last):
                outcome: Outcome | None = self.step(pieces)
                if outcome is None:
                    break
                fabric.backward(outcome.loss / config.accumulation)
            for name, value in {"loss": outcome.loss, **outcome.metrics}.items():
                sums[name] = sums[name] + value.detach() if name in sums else value.detach()
            number += 1
            if not several:
                break
            del outcome  # and with it what is left of the piece's graph, before the next one is made
        if not sums:
            raise InputError(f"{type(self.task).__name__}.pieces gives no piece of a batch, expected one")
        if several and last and fabric.world_size > 1:
            self._exchange_gradients()
        return sums

    def _exchange_gradients(self) -> None:
        """Average what the pieces added over the processes: by the backward pass of a loss that is 0."""
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        nothing = Outcome(torch.stack([p.sum() * 0 for p in trained]).sum(), {})
        outcome: Outcome = self.step(iter([nothing]))
        self.fabric.backward(outcome.loss)

    def _check(self, loss: Tensor, norm: Tensor | None) -> None:
        """Note whether the step is finite; on the CPU, alone, end the run before it is taken if not."""
        if self.config.precision == "16-mixed":
            norm = None  # its scale is found by overflows
        elif norm is None:
            norm = norm_of_gradients(p for group in self.optimizer.param_groups for p in group["params"])
        self.finite.note(self.reached.step, loss, norm)
        if self.fabric.world_size == 1 and self.fabric.device.type == "cpu":
            self._require_finite_steps()

    def _seed(self, what: str, purpose: str) -> None:
        seed_generators(derive_key(self.config.seed, f"{what}/{self.fabric.global_rank}", purpose))

    def _count(self, figures: Mapping[str, Tensor], weight: float) -> None:
        self.figures.add(figures, weight)
        self.since_validation.add(figures, weight)

    def _loader(self) -> Any:
        config = self.config
        keys = StepSampler(self.samples, config.seed, self.share, self.reached.step, config.steps)
        return make_loader(
            self.datasets.train,
            keys,
            config.seed,
            workers=config.workers,
            pin=self.fabric.device.type == "cuda",
        )

    def _log(self) -> None:
        means = self.figures.means(self.fabric)
        self.figures.clear()
        self._require_finite_steps()
        self.reached.train = means
        if self.recorder is not None:
            self.recorder.write(self.reached.step, self._epoch(), TRAIN, means)

    def _validate_if_due(self, stop: StopSignals) -> Ended | None:
        """Validate where the last step asks for it; what a signal cuts short is due again on resuming."""
        step = self.reached.step
        due = step % self.config.validate_every == 0 or step == self.config.steps
        if not due or self.reached.validated == step:
            return None
        self._require_finite_steps()
        if self.datasets.validation is None:
            figures = self.since_validation.means(self.fabric)
        else:
            found = self._validate(stop)
            if found is None:
                return _ENDED_BY[stop.received]
            figures = found
            self.reached.validation = figures
            if self.recorder is not None:
                self.recorder.write(step, self._epoch(), VALIDATION, figures)
        self.since_validation.clear()
        self.reached.validated = step
        self._judge(figures)
        return None

    def _validate(self, stop: StopSignals) -> dict[str, float] | None:
        """Means over the validation data, or None when a signal came; alone, a process stops at once."""
        config, fabric = self.config, self.fabric
        assert self.datasets.validation is not None
        loader, sizes = batches_of(
            self.datasets.validation,
            config.seed,
            batch_size=self.share.size,
            process=fabric.global_rank,
            processes=fabric.world_size,
            workers=config.workers,
        )
        averages = Averages()
        pictures: list[NDArray[np.uint8]] = []
        self.task.eval()
        with torch.no_grad(), fabric.autocast():
            for number, (batch, size) in enumerate(zip(loader, sizes)):
                if stop.received and fabric.world_size == 1:
                    self.task.train()
                    return None
                placed = fabric.to_device(batch)
                self._seed(str(number), "validation")
                averages.add(self.task.validate(placed), size)
                if self.recorder is not None and len(pictures) < config.pictures:
                    pictures += self.task.pictures(placed)
        self.task.train()
        if self.recorder is not None:
            self.recorder.show(self.reached.step, pictures[: config.pictures])
        return averages.means(fabric)

    def _judge(self, figures: Mapping[str, float]) -> None:
        """Keep the weights where the monitored figure is the best so far; stop where it long was not."""
        config, reached = self.config, self.reached
        if config.monitor not in figures:
            raise InputError(
                f"training.monitor = {config.monitor!r}, but the figures are {', '.join(sorted(figures))}"
            )
        value = figures[config.monitor]
        if not math.isfinite(value):
            raise RunError(
                f"the {config.monitor} of the validation is {value} in step {reached.step}; "
                f"{self._how_to_go_on()}"
            )
        if reached.best is None or (value > reached.best if config.maximize else value < reached.best):
            reached.best, reached.best_step, reached.worse = value, reached.step, 0
            if self.fabric.is_global_zero:
                write_weights(self.task.network, self.folder.best)
        else:
            reached.worse += 1
            self.stopped_early = config.patience is not None and reached.worse >= config.patience

    def _is_done(self) -> bool:
        return self.reached.step >= self.config.steps or self.stopped_early

    def _agreed(self, received: int) -> int:
        """The signal of which any process knows, so that all stop after the same step."""
        if self.fabric.world_size == 1:
            return received
        number = torch.tensor(received, device=self.fabric.device)
        return int(self.fabric.all_reduce(number, reduce_op="max"))  # type: ignore[arg-type]

    def _require_finite_steps(self) -> None:
        """RunError that names the first step that was not finite in any process; all must call this."""
        found = [broken for broken in gather(self.fabric, self.finite.first()) if broken is not None]
        if not found:
            return
        first = min(found, key=lambda broken: broken.step)
        share = replace(self.share, process=first.process)
        batches = StepSampler(self.samples, self.config.seed, share, first.step, first.step + 1)
        keys = [key for part in batches for key in part]
        samples, is_cause = describe_samples(self.datasets.train, self.config.seed, keys)
        norm = "" if first.norm is None else f", the norm of the gradient {first.norm:.4g},"
        raise RunError(
            f"the loss is {first.loss:.4g}{norm} in step {first.step + 1}, {samples}; each is made again by "
            "evsim.models.data.dataset.load_sample(dataset, "
            f"{self.config.seed}, SampleKey(epoch, index)); {self._how_to_go_on(is_cause)}"
        )

    def _how_to_go_on(self, sample_is_cause: bool = False) -> str:
        ways = "lower training.learning_rate, or set training.clip_norm"
        if sample_is_cause:
            ways = "mend the sample or leave it out"
        return f"the state before is kept in {self.folder.path}: {ways}"

    def save(self) -> None:
        """Write last.safetensors and the state, which holds the same weights."""
        figures, since = self.figures.state(self.fabric), self.since_validation.state(self.fabric)
        self._require_finite_steps()
        if self.fabric.is_global_zero:
            write_weights(self.task.network, self.folder.last)
            write_state(
                self.folder.state,
                {
                    "reached": vars(self.reached),
                    "network": dict(self.task.network.state_dict()),
                    "task": self.task.own_state(),
                    "optimizer": self.optimizer.state_dict(),
                    "precision": self.fabric.strategy.precision.state_dict(),
                    "figures": figures,
                    "since_validation": since,
                    "samples": self.samples,
                    "description": self.description,
                },
            )
        self.fabric.barrier()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state. Raises InputError where configuration or data are not those of it."""
        require_same(
            {**state["description"], "training samples": state["samples"]},
            {**self.description, "training samples": self.samples},
        )
        self.task.network.load_state_dict(state["network"])
        self.task.load_own_state(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.figures.restore(state["figures"], self.fabric.world_size)
        self.since_validation.restore(state["since_validation"], self.fabric.world_size)
        self.reached = Reached(**state["reached"])
        patience = self.config.patience
        self.stopped_early = patience is not None and self.reached.worse >= patience

    def _epoch(self) -> int:
        """Epoch of the last sample taken, from 0."""
        return max(0, self.reached.step * self.config.batch_size - 1) // self.samples

    def _note(self) -> str:
        shown = self.reached.validation or self.reached.train
        return f"loss {shown['loss']:.4g}" if "loss" in shown else ""

    def _result(self, ended: Ended, seconds: float, first: int) -> TrainingResult:
        reached = self.reached
        return TrainingResult(
            folder=self.folder.path,
            ended=ended,
            steps=reached.step,
            epochs=reached.step * self.config.batch_size / self.samples,
            best_step=reached.best_step,
            monitor=self.config.monitor,
            best=reached.best,
            train=dict(reached.train),
            validation=dict(reached.validation),
            seconds=seconds,
            steps_per_second=(reached.step - first) / max(seconds, 1e-9),
            is_main=self.fabric.is_global_zero,
        )

    def _write_summary(self, result: TrainingResult) -> None:
        content = {**vars(result), "folder": str(result.folder)}
        del content["is_main"]
        with atomic_output(self.folder.summary, overwrite=True) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
