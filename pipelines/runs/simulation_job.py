"""The job of a run of `evsim simulate`: one clip and its configuration to one event file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evsim import configuration
from evsim.configuration import Tree
from evsim.errors import RunError
from evsim.isp import draw_parameters
from evsim.media import open_source
from evsim.pipelines.runs.clip_files import clip_bytes, clip_files
from evsim.pipelines.runs.fingerprint import content_fingerprint, stated_fingerprint
from evsim.pipelines.runs.job import Finished, Resources
from evsim.pipelines.simulate import ClipJob, ClipResult, simulate_clip
from evsim.upsample import BUILT_IN, UpsampleConfig, decided_by, make_interpolator


@dataclass(frozen=True, kw_only=True)
class SimulationJob:
    """One clip of a run; see `Job`.

    source: the clip. config: what decides the content. drawn: the fields of `config` that were drawn, by
    their full names. loaded: SHA-256 of every file that the upsampling method loads, by name.
    """

    name: str
    source: Path
    folder: Path
    config: ClipJob
    drawn: Tree = field(default_factory=dict)
    loaded: Mapping[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The clip."""
        return (self.source,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The event file."""
        return output_names(self.name)[:1]

    @property
    def beside(self) -> tuple[str, ...]:
        """The configuration file."""
        return output_names(self.name)[1:]

    @property
    def blank_facts(self) -> Mapping[str, Any]:
        """Counts of 0."""
        return BLANK_FACTS

    def fingerprint(self) -> str:
        """Of configuration, and size and modification time of the inputs. Raises InputError."""
        return stated_fingerprint(self._decided_by(), clip_files(self.source))

    def content(self) -> str:
        """Of configuration, and content of the inputs. Raises InputError."""
        return content_fingerprint(self._decided_by(), clip_files(self.source))

    def resources(self) -> Resources:
        """The size of the clip."""
        return Resources(input_bytes=clip_bytes(self.source))

    def carry_out(self) -> Finished:
        """Simulate the clip."""
        source = open_source(self.source, selection=self.config.selection, transfer=self.config.transfer)
        output = self.folder / self.outputs[0]
        result = simulate_clip(source, output, self.config, overwrite=True)
        if dict(result.files) != dict(self.loaded):
            raise RunError(
                f"{self.name}: a file that upsampling method {self.config.upsample.method} loads is another "
                "than when the run was planned; run again when it is complete"
            )
        return Finished(facts=self._facts(result), seconds=result.seconds)

    def _decided_by(self) -> Tree:
        # Without files as it always was, so that what was done before stays done.
        tree = configuration.to_tree(self.config)
        return {"configuration": {**tree, "upsample": decided_by(tree["upsample"], self.loaded)}}

    def _facts(self, result: ClipResult) -> Tree:
        drawn = draw_parameters(self.config.isp, self.config.seed, self.config.clip)
        counts = {name: getattr(result, name) for name in BLANK_FACTS if name != "parameters"}
        parameters = {"isp": dataclasses.asdict(drawn), "drawn": self.drawn}
        return {**counts, "parameters": parameters, **({"files": dict(self.loaded)} if self.loaded else {})}


BLANK_FACTS: Mapping[str, Any] = {
    "width": 0,
    "height": 0,
    "source_frames": 0,
    "frames": 0,
    "cuts": 0,
    "duration_s": 0.0,
    "events": 0,
    "on_events": 0,
    "labels": {},
    "parameters": {},
}
"""Facts of a clip that failed, in the order of the manifest's lines.

events, on_events, labels: counts. parameters: every number that was drawn for the clip.
"""


def loaded_files(upsample: UpsampleConfig) -> Mapping[str, str]:
    """SHA-256 of every file that an upsampling method loads, by name. Raises InputError, ConfigError."""
    if upsample.method in BUILT_IN:
        return {}
    interpolator = make_interpolator(upsample)
    return {} if interpolator is None else interpolator.files


def output_names(clip: str) -> tuple[str, str]:
    """POSIX paths, in the run folder, of a clip's events and of its configuration."""
    return f"{clip}.h5", f"{clip}.config.yaml"


def drawn_fields(tree: Tree, resolved: Tree, path: str = "") -> Tree:
    """Full name and value of every field that is a draw in `tree`; `resolved`: the tree with values."""
    found: Tree = {}
    for name, value in tree.items():
        place = f"{path}.{name}" if path else name
        if isinstance(value, dict):
            found |= drawn_fields(value, resolved.get(name, {}), place)
        elif configuration.has_draws({name: value}):
            found[place] = resolved[name]
    return found
