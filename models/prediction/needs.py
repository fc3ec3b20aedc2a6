"""What a predictor needs of a scene, said before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evsim.configuration import check_choices


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What must be there before a network or method can give images.

    events, frames, blurry_frames: of the scene. windows: it gives its images at the ends of windows of
    events, one after another, and carries a state from each to the next; otherwise at any times. weights: a
    weight file is required, optional (a fit to the scene stands in for it) or cannot be used (none).
    """

    events: bool = False
    frames: bool = False
    blurry_frames: bool = False
    windows: bool = False
    weights: Literal["required", "optional", "none"] = "required"

    def __post_init__(self) -> None:
        check_choices(self)
