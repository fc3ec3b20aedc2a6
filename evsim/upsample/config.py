"""The configuration of the upsample stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from evsim.configuration import Tree, check_choices, later, require_range
from evsim.errors import ConfigError
from evsim.upsample.methods import BUILT_IN, require_method


@dataclass(frozen=True, kw_only=True)
class UpsampleConfig:
    """How many frames to put between two source frames, and how to make them."""

    method: str = "flow"
    """none: source frames only; flow: frames in between along DIS optical flow; or a network's name."""

    factor: int = 8
    """Steps that each source interval is divided into (ignored where adaptive is set)."""

    adaptive: bool = False
    """Choose the number of steps of each interval from its largest motion instead."""

    max_displacement_px: float = 1.0
    """Adaptive: largest motion within one step, in pixels (99.5 % of the image moves less)."""

    max_factor: int = 32
    """Adaptive: most steps of one interval."""

    detect_cuts: bool = True
    """Look for scene cuts; cuts that the source marks are always respected."""

    cut_threshold: float = 0.45
    """Scene similarity (0 to 1) of two frames under which a cut lies between them."""

    interpolated_dtype: Literal["same", "float32"] = "same"
    """Type of interpolated frames: the source's, rounded, or float32 of full scale 1 without rounding."""

    weights: str | None = later(default=None)
    """Of a network: its weight file, or the name of published weights; what it finds by itself if absent."""

    part_weights: dict[str, str] = later(default_factory=dict)
    """Weight files of a network's parts by the parts' names, such as that of its flow estimator."""

    options: dict[str, Any] = later(default_factory=dict)
    """Options that a network has of its own; no file is named here."""

    def __post_init__(self) -> None:
        check_choices(self)
        require_method(self.method)
        require_range("factor", self.factor, 1)
        require_range("max_factor", self.max_factor, 1)
        require_range("max_displacement_px", self.max_displacement_px, 1e-3)
        require_range("cut_threshold", self.cut_threshold, 0, 1)
        for name in ("weights", "part_weights", "options"):
            if self.method in BUILT_IN and getattr(self, name):
                raise ConfigError(
                    f"{name} = {getattr(self, name)!r}, but method {self.method} loads and takes none; "
                    "choose a network as the method, or leave it out"
                )


def decided_by(upsample: Tree, files: Mapping[str, str]) -> Tree:
    """What of the tree of an `UpsampleConfig` decides the frames: the content of files, not where they lie.

    files: SHA-256 of every file loaded, by name (`Interpolator.files`); without any the tree is unchanged.
    """
    if not files:
        return upsample
    kept = {name: value for name, value in upsample.items() if name not in ("weights", "part_weights")}
    return {**kept, "files": dict(sorted(files.items()))}
