"""What a run is: recipe, root and configuration; enough to repeat it, and to tell two runs apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evsim import configuration
from evsim.chain import read_preset
from evsim.configuration import Tree
from evsim.errors import ConfigError, FormatError
from evsim.pipelines.runs.jobs import Job, drawn_fields
from evsim.pipelines.runs.recipes import RECIPES, Clip
from evsim.pipelines.runs.run_folder import RunFolder, read_description
from evsim.pipelines.simulate import layered_tree, resolve_job


@dataclass(frozen=True, kw_only=True)
class RunDescription:
    """What decides the outputs of a run, apart from the content of its inputs.

    root: where the data set lies; it decides nothing else, so a data set may be moved.
    fps: given frame rate, or None for what the recipe says. preset: the name it began from.
    configuration: the whole tree of `ClipJob` but the clip, draws unresolved.
    """

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
    def from_tree(cls, tree: Tree, path: Path) -> RunDescription:
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

    def content(self) -> Tree:
        """What two runs must agree in for one to continue the other."""
        return {"recipe": self.recipe, "fps": self.fps, "configuration": self.configuration}

    def job(self, clip: Clip, folder: RunFolder, threads: int | None = None) -> Job:
        """The job of one clip, its draws made. Raises ConfigError."""
        identity = {"clip": clip.name, "selection": {"fps": clip.fps}}
        tree = layered_tree(self.configuration, identity)
        config = resolve_job(tree)
        name = folder.output_name(clip.name)
        return Job(
            clip=clip.name,
            source=clip.path,
            output=folder.path / name,
            output_name=name,
            config=config,
            drawn=drawn_fields(tree, configuration.to_tree(config)),
            threads=threads,
        )


def describe_run(
    recipe: str,
    root: Path,
    *,
    fps: float | None = None,
    preset: str | None = None,
    config_file: Path | None = None,
    overrides: tuple[str, ...] = (),
    options: Tree | None = None,
) -> RunDescription:
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
    return RunDescription(
        recipe=recipe,
        root=root.absolute(),
        fps=fps if fps is not None else given_fps,
        preset=preset or chosen.preset,
        configuration=_complete(layered_tree(tree, {"selection": {"fps": None}})),
    )


def recorded_run(path: Path) -> RunDescription:
    """The run that a run.json describes. Raises FormatError, ConfigError."""
    return RunDescription.from_tree(read_description(path), path)


def differences(before: Tree, now: Tree, path: str = "") -> list[str]:
    """``field: old -> new`` for every field in which two trees differ."""
    found: list[str] = []
    for name in dict.fromkeys((*before, *now)):
        place = f"{path}.{name}" if path else name
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, place)
        elif old != new:
            found.append(f"{place.removeprefix('configuration.')}: {_word(old)} -> {_word(new)}")
    return found


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


def _word(value: Any) -> str:
    return "none" if value is None else str(value)
