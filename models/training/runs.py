"""A training run from one configuration tree: network, task, data and training, as `evsim train` takes it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from evsim import configuration
from evsim.errors import ConfigError, InputError
from evsim.models import registry
from evsim.models.data.dataset import FirstSamples, Share, StepSampler, make_loader, seed_generators, size_of
from evsim.models.device import choose_device
from evsim.models.training.configuration import TrainingConfig
from evsim.models.training.folder import TrainingFolder
from evsim.models.training.loop import TrainingResult, train
from evsim.models.training.scene_task import SceneTaskEntry
from evsim.models.training.task import Datasets, Task, TaskEntry
from evsim.models.weights.checkpoints import network_of, read_checkpoint
from evsim.models.weights.parts import fill_part
from evsim.models.weights.published import find_weights, published_weights, recognise
from evsim.progress import Report
from evsim.randomness import derive_key
from evsim.registry import nearest

SECTIONS = ("network", "task_name", "task", "data", "training", "initial_weights")


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A network that is ready to be trained.

    name: of the network. task, datasets, training: what `train` takes. description: the resolved
    configuration, which `prepare` reads back. notes: what was taken from which file of weights.
    """

    name: str
    task: Task
    datasets: Datasets
    training: TrainingConfig
    description: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def train(
        self,
        output: Path,
        *,
        resume: bool = False,
        overwrite: bool = False,
        overfit: int | None = None,
        report: Report | None = None,
        started: Callable[[], None] | None = None,
    ) -> TrainingResult:
        """Train it; see `evsim.models.training.loop.train`."""
        return train(
            self.task,
            self.datasets,
            self.training,
            output,
            resume=resume,
            overwrite=overwrite,
            overfit=overfit,
            description=self.description,
            report=report,
            started=started,
        )


def prepare(name: str, tree: Mapping[str, Any], *, resumed: Path | None = None) -> TrainingRun:
    """The run that a configuration describes: network made or loaded, data found and counted.

    tree: sections network, task, data, training, each the fields of its dataclass; task_name, where the
    network has several and not the first is meant; and initial_weights: a weight file, or a name of
    `evsim weights list`, to start from, or a mapping of such by the part of the network that each fills.
    resumed: folder of a run that goes on; where it has a state, initial weights are not read again.
    Raises ConfigError for unknown sections, fields and values, InputError for data that is not there or empty
    and networks that cannot be trained.
    """
    unknown = [section for section in tree if section not in (*SECTIONS, "name", "overfit")]
    if unknown:
        raise ConfigError(f"unknown section {unknown[0]!r}; expected {', '.join(SECTIONS)}")
    if tree.get("name", name) != name:
        raise ConfigError(f"the configuration is for the network {tree['name']!r}, not for {name!r}")
    entry, task_name = registry.entry(name), tree.get("task_name")
    found = task_entry(name, task_name)
    if isinstance(found, SceneTaskEntry):
        raise InputError(f"{name} is fitted to one scene, not trained on samples; use fit_to_folder")
    tree = _with_draws_made(tree, name)
    fields = lay_over({"training": found.training}, {"training": tree.get("training") or {}})
    training = configuration.build(TrainingConfig, fields["training"], "training")
    task_config: Any = configuration.build(found.config, tree.get("task") or {}, "task")
    data: Any = configuration.build(found.data, tree.get("data") or {}, "data")
    weights = _weights_of(tree)
    seed_generators(derive_key(training.seed, name, "initial weights"))
    network, notes = _make_network(name, weights, tree.get("network") or {}, resumed)
    return TrainingRun(
        name=name,
        task=found.create(network, task_config),
        datasets=found.datasets(network, data),
        training=training,
        description={
            "name": name,
            **({} if task_name in (None, next(iter(entry.tasks))) else {"task_name": task_name}),
            "network": configuration.to_tree(network.config),
            "task": configuration.to_tree(task_config),
            "data": configuration.to_tree(data),
            "initial_weights": weights,
            "training": configuration.to_tree(training),
        },
        notes=notes,
    )


def lay_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> configuration.Tree:
    """`over` laid over `base`, branch by branch; steps given above displace epochs given below."""
    merged = configuration.merge(base, over)
    given = over.get("training") or {}
    if "steps" in given and "epochs" not in given and "epochs" in (merged.get("training") or {}):
        merged["training"] = {**merged["training"], "epochs": None}
    return merged


def _weights_of(tree: Mapping[str, Any]) -> str | dict[str, str] | None:
    weights = tree.get("initial_weights")
    if isinstance(weights, Mapping):
        return {str(prefix): str(file) for prefix, file in weights.items()}
    return None if weights is None else str(weights)


def _make_network(
    name: str, weights: str | dict[str, str] | None, hyper: Mapping[str, Any], resumed: Path | None
) -> tuple[Any, tuple[str, ...]]:
    """The network of a run, and notes on its initial weights."""
    entry = registry.entry(name)
    folder = None if resumed is None else TrainingFolder(resumed)
    if folder is not None and folder.state.is_file():
        # Its state holds the weights, its configuration what their file said of the network.
        written = configuration.read_file(folder.config).get("network") or {}
        hyper = configuration.merge(written, hyper)
        return registry.from_config(entry, hyper, "network"), ()
    files = dict(weights) if isinstance(weights, dict) else {} if weights is None else {"": weights}
    whole = files.pop("", None)
    if whole is None:
        network = registry.from_config(entry, hyper, "network")
    else:
        network = network_of(read_checkpoint(find_weights(whole, name), name), name, hyper)
    return network, tuple(_fill(network, name, prefix, file) for prefix, file in files.items())


def _fill(network: Any, name: str, prefix: str, file: str) -> str:
    """A file, ours or a published one of this or of another network, into one part of the network."""
    known = published_weights()
    path = find_weights(file, known[file].network if file in known else name)
    published = recognise(path)
    networks = [name] if published is None else [name, known[published].network]
    conversions = (registry.entry(other).from_published for other in dict.fromkeys(networks))
    known_ways = [convert for convert in conversions if convert is not None]
    return fill_part(network, name, prefix, read_checkpoint(path), known_ways)


def _with_draws_made(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Draws such as loguniform(1e-5, 1e-3) made once for the run, but those of the simulation of samples."""
    data = dict(tree.get("data") or {})
    of_samples = {key: data.pop(key) for key in ("simulation",) if key in data}
    seed = (tree.get("training") or {}).get("seed", TrainingConfig.seed)
    drawn = configuration.resolve_draws({**tree, "data": data}, seed, name)
    return configuration.merge(drawn, {"data": of_samples})


def task_entry(name: str, task: str | None = None) -> TaskEntry | SceneTaskEntry:
    """How a network is trained; task: one of its tasks, the first by default.

    Raises InputError for a network that cannot be trained, ConfigError for a task that it does not have.
    """
    tasks = registry.entry(name).tasks
    if not tasks:
        trainable = [other for other in registry.names() if registry.entry(other).tasks]
        raise InputError(
            f"{name!r} cannot be trained and leaves no weights behind; those that can: {', '.join(trainable)}"
        )
    if task is not None and task not in tasks:
        raise ConfigError(
            f"the network {name!r} has no task {task!r}{nearest(task, list(tasks))}; its tasks: "
            f"{', '.join(tasks)}"
        )
    module, _, attribute = tasks[task or next(iter(tasks))].partition(":")
    found: TaskEntry | SceneTaskEntry = getattr(import_module(module), attribute or "TASK")
    return found


def plan(run: TrainingRun, overfit: int | None = None) -> dict[str, Any]:
    """What a run would do, with one step computed in this process and thrown away; nothing is written."""
    device = choose_device(run.training.device)
    data = run.datasets.train if overfit is None else FirstSamples(run.datasets.train, overfit)
    samples = size_of(data)
    config = run.training.in_steps(samples)
    share = Share(batch_size=config.batch_size // (config.devices * config.nodes), parts=config.accumulation)
    batch = next(iter(make_loader(data, StepSampler(samples, config.seed, share, 0, 1), config.seed)))
    task = run.task.to(device)
    task.train()
    begin = time.monotonic()
    loss = 0.0
    for outcome in task.pieces(_placed(batch, device)):
        outcome.loss.backward()
        loss += float(outcome.loss.detach())
    seconds = (time.monotonic() - begin) * config.accumulation
    parameters = [p.numel() for group in task.parameter_groups() for p in group["params"]]
    validation = run.datasets.validation
    return {
        "network": run.name,
        "device": str(device),
        "trained_parameters": sum(parameters),
        "train_samples": samples,
        "validation_samples": 0 if validation is None else size_of(validation),
        "batch": _shapes(batch),
        **_rates(config),
        "steps": config.steps,
        "epochs": config.steps * config.batch_size / samples,
        "loss_of_first_part": loss,
        "state_bytes": 4 * sum(parameters) * (4 if config.amsgrad else 3),
        "hours_estimated": seconds * config.steps / 3600,
        **_notes(run),
    }


def summarize(run: TrainingRun, result: TrainingResult) -> dict[str, Any]:
    """The figures of a run and the command to go on with."""
    weights = result.folder / ("best.safetensors" if result.best_step else "last.safetensors")
    return {
        "ended": result.ended,
        "steps": result.steps,
        "epochs": result.epochs,
        **_rates(run.training),
        "train": dict(result.train),
        "validation": dict(result.validation),
        f"best_{result.monitor}": result.best,
        "best_step": result.best_step,
        "seconds": result.seconds,
        "steps_per_second": result.steps_per_second,
        "weights": str(weights),
        "next": next_command(run.name, weights),
        **_notes(run),
    }


def _rates(config: TrainingConfig) -> dict[str, Any]:
    """Samples of a step and how they are divided; the rate is the same however they are."""
    devices = config.devices * config.nodes
    part = config.batch_size // (devices * config.accumulation)
    return {
        "effective_batch": f"{config.batch_size} = {part} x {devices} devices x {config.accumulation} parts",
        "learning_rate": config.learning_rate,
    }


def _notes(run: TrainingRun) -> dict[str, Any]:
    return {"initial_weights": list(run.notes)} if run.notes else {}


def next_command(name: str, weights: Path) -> str:
    """What one does with trained weights."""
    if "reconstruct" in registry.entry(name).roles:
        return shlex.join(
            ["evsim", "reconstruct", "EVENTS", "-o", "video.mp4", "--network", name]
            + ["--weights", str(weights)]
        )
    return shlex.join(["evsim", "weights", "check", str(weights), "--network", name])


def _placed(batch: Any, device: torch.device) -> Any:
    if hasattr(batch, "to"):  # a tensor, or a batch of several such as RaggedEvents
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _placed(value, device) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return [_placed(value, device) for value in batch]
    return batch


def _shapes(batch: Any) -> Any:
    if isinstance(batch, torch.Tensor):
        return f"{str(batch.dtype).removeprefix('torch.')} {tuple(batch.shape)}"
    if isinstance(batch, Mapping):
        return {str(key): _shapes(value) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return [_shapes(value) for value in batch]
    return type(batch).__name__
