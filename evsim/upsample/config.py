"""The configuration of the upsample stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evsim.configuration import require_range


@dataclass(frozen=True, kw_only=True)
class UpsampleConfig:
    """How many frames to put between two source frames, and how to make them."""

    method: Literal["none", "flow"] = "flow"
    """none: source frames only; flow: frames in between along DIS optical flow."""

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

    def __post_init__(self) -> None:
        require_range("factor", self.factor, 1)
        require_range("max_factor", self.max_factor, 1)
        require_range("max_displacement_px", self.max_displacement_px, 1e-3)
        require_range("cut_threshold", self.cut_threshold, 0, 1)
