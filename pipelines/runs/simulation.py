"""A run of `evsim simulate`: recipe, root and configuration."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from evsim import configuration
from evsim.chain import read_preset
from evsim.configuration import Tree
from evsim.errors import ConfigError, FormatError
from evsim.pipelines.runs.description import JobList
from evsim.pipelines.runs.executors import Executor
from evsim.pipelines.runs.job import JobRecord
from evsim.pipelines.runs.recipe import SourceClip
from evsim.pipelines.runs.recipes import RECIPES, find_source_clips
from evsim.pipelines.runs.simulation_estimate import estimate_simulation
from evsim.pipelines.runs.simulation_job import SimulationJob, drawn_fields, loaded_files, output_names
from evsim.pipelines.simulate import ClipJob, layered_tree, resolve_job
from evsim.upsample import UpsampleConfig


@dataclass(frozen=True, kw_only=True)
class SimulationRun:
    """What decides the outputs of a run, apart from the content of its clips; see `RunDescription`.

    root: where the data set lies; it decides nothing else, so a data set may be moved.
    fps: given frame rate, or None for what the recipe says. preset: the name it began from.
    configuration: the whole tree of `ClipJob` but the clip, draws unresolved.
    """

    verb: ClassVar[str] = "simulate"
    unit: ClassVar[str] = "clip"

    recipe: str
    root: Path
    fps: float | None
    preset: str
    configuration: Tree

    def to_tree(self) -> Tree:
        """JSON-able; `from_tree` reads it back."""
        return {
            "recipe": self.recipe,
            "root": str(self.root),
            "fps": self.fps,
            "preset": self.preset,
            "configuration": self.configuration,
        }

    @classmethod
    def from_tree(cls, tree: Tree, path: Path) -> SimulationRun:
        """From the content of the run.json at `path`. Raises FormatError, ConfigError."""
        try:
            return cls(
                recipe=tree["recipe"],
                root=Path(tree["root"]),
                fps=tree["fps"],
                preset=tree["preset"],
                configuration=_complete(tree["configuration"]),
            )
        except (KeyError, TypeError) as error:
            raise FormatError(path, f"is incomplete: {error}") from error

    @staticmethod
    def output_names(job: str) -> tuple[str, ...]:
        """POSIX paths, in the run folder, of a clip's events and of its configuration."""
        return output_names(job)

    def content(self) -> Tree:
        """What two runs must agree in for one to continue the other."""
        return {"recipe": self.recipe, "fps": self.fps, "configuration": self.configuration}

    def jobs(self, folder: Path) -> JobList:
        """One for each clip that the recipe finds. Raises ConfigError, InputError."""
        found = find_source_clips(self.recipe, self.root, self.fps)
        resolve = _resolver(self.configuration)
        files = _loader_of_files()

        def job(index: int) -> SimulationJob:
            clip = found.clips[index]
            config, drawn = resolve(clip)
            return SimulationJob(
                name=clip.name,
                source=clip.path,
                folder=folder,
                config=config,
                drawn=drawn,
                loaded=files(config.upsample),
            )

        return JobList([clip.name for clip in found.clips], job, found.notes)

    def estimate(self, jobs: Sequence[Any], executor: Executor) -> Tree:
        """Counts from the clips' descriptions, time from a measured sample."""
        return estimate_simulation(jobs, executor)

    def totals(self, done: Iterable[JobRecord]) -> Tree:
        """Frames and events."""
        records = list(done)
        return {
            name: sum(record.facts[name] for record in records)
            for name in ("source_frames", "frames", "events")
        }

    def words(self, record: JobRecord) -> str:
        """The number of events."""
        return f"{record.facts['events']:,} events"


def describe_run(
    recipe: str,
    root: Path,
    *,
    fps: float | None = None,
    preset: str | None = None,
    config_file: Path | None = None,
    overrides: tuple[str, ...] = (),
    options: Tree | None = None,
) -> SimulationRun:
    """The run of a recipe over the clips under `root`; later layers win over earlier ones.

    The layers: the preset, the recipe's defaults, a file, ``field=value`` overrides, explicit options (a
    tree of `ClipJob` fields). Raises ConfigError that names the field, InputError for an unknown recipe.
    """
    chosen = RECIPES[recipe]
    tree = layered_tree(
        read_preset(preset or chosen.preset),
        chosen.defaults,
        configuration.read_file(config_file) if config_file else {},
        configuration.parse_overrides(overrides),
        options or {},
    )
    given_fps = tree.get("selection", {}).get("fps")
    return SimulationRun(
        recipe=recipe,
        root=root.absolute(),
        fps=fps if fps is not None else given_fps,
        preset=preset or chosen.preset,
        configuration=_complete(layered_tree(tree, {"selection": {"fps": None}})),
    )


def _resolver(tree: Tree) -> Callable[[SourceClip], tuple[ClipJob, Tree]]:
    """Makes the configuration of a clip, and says what was drawn for it.

    Sections that hold no draw are built once: thousands of clips share them.
    """
    varying = {name: value for name, value in tree.items() if configuration.has_draws({name: value})}
    shared = resolve_job({name: value for name, value in tree.items() if name not in varying})
    hints = typing.get_type_hints(ClipJob)

    def resolve(clip: SourceClip) -> tuple[ClipJob, Tree]:
        if not varying:
            return _of_clip(shared, clip), {}
        resolved = configuration.resolve_draws(varying, shared.seed, clip.name)
        sections = {
            name: configuration.build(hints[name], value, name)
            for name, value in resolved.items()
            if isinstance(value, dict)
        }
        if len(sections) < len(varying):
            # A field that stands in no section was drawn.
            config = _of_clip(resolve_job({**tree, "clip": clip.name}), clip)
        else:
            config = _of_clip(dataclasses.replace(shared, **sections), clip)
        return config, drawn_fields(varying, {name: _section(config, name) for name in varying})

    return resolve


def _loader_of_files() -> Callable[[UpsampleConfig], Mapping[str, str]]:
    """Tells the files that an upsampling method loads; asks each method once, as that loads its weights."""
    known: list[tuple[tuple[Any, ...], Mapping[str, str]]] = []

    def files(upsample: UpsampleConfig) -> Mapping[str, str]:
        asked = (upsample.method, upsample.weights, upsample.part_weights, upsample.options)
        found = next((files for earlier, files in known if earlier == asked), None)
        if found is None:
            found = loaded_files(upsample)
            known.append((asked, found))
        return found

    return files


def _section(config: ClipJob, name: str) -> Any:
    value = getattr(config, name)
    return configuration.to_tree(value) if dataclasses.is_dataclass(value) else value


def _of_clip(config: ClipJob, clip: SourceClip) -> ClipJob:
    selection = dataclasses.replace(config.selection, fps=clip.fps)
    return dataclasses.replace(config, clip=clip.name, selection=selection)


def _complete(tree: Tree) -> Tree:
    """The tree with the default of every field it leaves out, JSON-able; draws stay as they are written."""
    if not isinstance(tree, dict):
        raise ConfigError(f"configuration is a {type(tree).__name__}, expected a mapping of fields")
    whole = layered_tree(configuration.to_tree(resolve_job(tree)), tree)
    # Tuples become lists, as they are in the file.
    return {name: _plain(value) for name, value in whole.items() if name != "clip"}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
