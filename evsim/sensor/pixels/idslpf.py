"""Sim2Real's variant of v2e's pixel: an exponential low-pass that pixels bypass at random, pass by pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evsim.sensor.pixels.v2e.config import V2eFields


@dataclass(frozen=True, kw_only=True)
class IdslpfConfig(V2eFields):
    """Sim2Real's pixel; its passes and its other parameters are those of v2e's."""

    model: Literal["idslpf"] = "idslpf"
    """Pixel model."""

    @property
    def bypasses_low_pass(self) -> bool:
        """Whether pixels bypass their low-pass at random, and its weight is exponential."""
        return True


PIXEL_MODEL = IdslpfConfig
