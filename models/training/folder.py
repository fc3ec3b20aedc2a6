"""The folder of a training run: its files, and whether a configuration continues what lies there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from evsim.errors import InputError
from evsim.files import atomic_output
from evsim.models.training.configuration import FREE_ON_RESUME
from evsim.models.weights.checkpoints import save
from evsim.models.weights.safetensors_files import write_safetensors


@dataclass(frozen=True)
class TrainingFolder:
    """Names inside the folder of a training run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration, which --config feeds back."""
        return self.path / "config.yaml"

    @property
    def state(self) -> Path:
        """Everything from which the run is resumed, in one file."""
        return self.path / "state.safetensors"

    @property
    def last(self) -> Path:
        """Weights of the last step at which the state was written."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """Weights of the best validation."""
        return self.path / "best.safetensors"

    @property
    def summary(self) -> Path:
        """The figures of the finished or stopped run, JSON."""
        return self.path / "summary.json"

    def require_startable(self, *, resume: bool, overwrite: bool) -> None:
        """InputError where a run lies here that is neither resumed nor replaced, or something else does."""
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        if not self.path.is_dir() or not self.config.is_file():
            raise InputError(f"{self.path} exists and is no training run; choose another folder")
        if not (resume or overwrite):
            raise InputError(
                f"{self.path} holds a training run; pass --resume to continue or --overwrite to replace it"
            )

    def write_config(self, tree: Mapping[str, Any]) -> None:
        """Replace config.yaml."""
        with atomic_output(self.config, overwrite=True) as temporary:
            temporary.write_text(yaml.safe_dump(dict(tree), sort_keys=False), encoding="utf-8")

    def clear(self) -> None:
        """Remove what an earlier run wrote here."""
        for path in (self.state, self.last, self.best, self.summary, self.path / "metrics.csv"):
            path.unlink(missing_ok=True)
        for folder, pattern in (("pictures", "step_*.png"), ("tensorboard", "events.*")):
            for path in (self.path / folder).glob(pattern):
                path.unlink()


def write_weights(network: nn.Module, path: Path) -> None:
    """Write the network's weights, replacing an earlier file; `models.load` reads those of its networks."""
    if hasattr(network, "name") and hasattr(network, "config"):
        save(network, path, overwrite=True)
        return
    with atomic_output(path, overwrite=True) as temporary:
        write_safetensors(temporary, network.state_dict(), {})


def require_same(
    before: Mapping[str, Any], now: Mapping[str, Any], free: Collection[str] = FREE_ON_RESUME
) -> None:
    """InputError that shows each field in which a resumed run differs, but for those that may.

    free: fields of training that may.
    """
    old, new = _leaves(before), _leaves(now)
    changed = [
        f"{name} was {old.get(name)!r}, is {new.get(name)!r}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name) and not _is_free(name, free)
    ]
    if changed:
        raise InputError(
            f"the configuration differs from that of the run to be resumed: {'; '.join(changed)}; resume "
            "without these changes, or start another run from its weights"
        )


def _is_free(name: str, free: Collection[str]) -> bool:
    """Whether a field may differ: of the run, or of one of its stages (stages.NUMBER.FIELD)."""
    parts = name.split(".")
    section, *field = parts[2:] if parts[0] == "stages" else parts
    # Recordings may have been moved, to a cluster's local disk say; their samples are counted.
    if section == "data" and field in (["train"], ["validation"]):
        return True
    return section == "training" and len(field) == 1 and field[0] in free


def _leaves(tree: Any, name: str = "") -> dict[str, Any]:
    if isinstance(tree, Mapping) and tree:
        found: dict[str, Any] = {}
        for key, value in tree.items():
            found.update(_leaves(value, f"{name}.{key}" if name else str(key)))
        return found
    return {name: list(tree) if isinstance(tree, tuple) else tree}
