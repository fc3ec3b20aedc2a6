"""How a network is fitted to events: our way by default, the published one with `compat`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, Literal

import yaml

from evsim.configuration import check_choices, require_range
from evsim.errors import ConfigError
from evsim.kernels.evinr_loss import LossWeights

REFERENCE_FRAMES = 50
"""Time samples for which `spatial_weight` is given."""


@dataclass(frozen=True, kw_only=True)
class EvinrFitConfig:
    """A fit of EvINR's network to the events of a recording; "compat:" is the value with compat."""

    compat: bool = False
    """Fit as the published code does, its misaligned times and random start included."""
    event_threshold: float | None = None
    """Log intensity that an event stands for: what a simulated recording says, else 0.25; compat: 1."""
    iterations: int | None = None
    """Steps of the optimiser: 100; compat: 1000. 0 leaves the closed-form start."""
    train_resolution: int = REFERENCE_FRAMES
    """Time samples between which the events are summed."""
    color: bool = False
    """The sensor has an RGGB mosaic."""
    coarse_to_fine: bool | None = None
    """Twice as many time samples in the second half: no; compat: yes."""
    hidden_layers: int = 3
    """Sine layers between the first one and the neck."""
    hidden_width: int | None = None
    """Units of these layers: 256; compat: 512."""
    neck_width: int | None = None
    """Functions of time that the pixels are made of: 128; compat: 256."""
    spatial_weight: float | None = None
    """Weight of the absolute differences of neighbours and frames: 0.025 at 50 time samples, else by their
    inverse square; compat: 0.05."""
    constant_weight: float = 0.1
    """Weight of the changes of the mean brightness."""
    learning_rate: float = 3e-4
    """Step size of AdamW."""
    weight_decay: float = 0.01
    """Decoupled weight decay of AdamW."""
    window_s: float = 2.0
    """A network is fitted to so many seconds; longer recordings get several, one after the other."""
    overlap_s: float | None = None
    """Seconds over which two of them are blended: 0.1; compat: 0."""
    output: Literal["light", "display", "log"] = "light"
    """light: the published tone map; display: a logistic curve over the range of the recording, for more
    contrast; log: log intensity itself."""
    seed: int = 0
    """Decides the initial weights."""

    def __post_init__(self) -> None:
        check_choices(self)
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None:
                require_range(name, value, least)
        for name in ("event_threshold", "window_s"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"{name} = {value}, expected a positive number")
        if self.overlap_s is not None and 2 * self.overlap_s > self.window_s:
            raise ConfigError(f"overlap_s = {self.overlap_s} is more than half of window_s = {self.window_s}")

    def resolved(self) -> EvinrFitConfig:
        """The same with a value for every field."""
        absent = {name: value for name, value in _mode(self.compat).items() if getattr(self, name) is None}
        return replace(self, **absent)

    def weights(self, frames: int) -> LossWeights:
        """Of the loss, for so many time samples.

        Between samples that lie closer, changes are smaller, and their mean square falls with the square,
        but neighbouring pixels differ as before: unscaled, more samples would only give smoother images.
        """
        spatial = self.resolved().spatial_weight
        assert spatial is not None
        scale = 1.0 if self.compat else (REFERENCE_FRAMES / frames) ** 2
        return LossWeights(spatial=spatial * scale, constant=self.constant_weight)

    def frames(self, step: int) -> int:
        """Time samples in a step, counted from 0."""
        full = self.resolved()
        assert full.iterations is not None
        half = full.iterations // 2
        return self.train_resolution * (2 if full.coarse_to_fine and half and step >= half else 1)


_LEAST: dict[str, float] = {
    "iterations": 0,
    "train_resolution": 2,
    "hidden_layers": 0,
    "hidden_width": 1,
    "neck_width": 1,
    "spatial_weight": 0,
    "constant_weight": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "overlap_s": 0,
    "seed": 0,
}


def _mode(compat: bool) -> dict[str, Any]:
    """The values of a mode: a configuration of this package."""
    text = (files("evsim.models.evinr") / ("compat.yaml" if compat else "default.yaml")).read_text("utf-8")
    found: dict[str, Any] = yaml.safe_load(text)["fit"]
    return found
