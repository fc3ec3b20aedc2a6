"""The conventions by which published code puts events into bins of time.

"Voxel grid" means half a dozen different things; a network gives sense only with the rule it was trained on.
With t0 and t1 the ends of the window, B bins and n = (t - t0) / (t1 - t0), the rules differ in the bin
coordinate, in what happens at the ends of the window and in whether sub-pixel coordinates are shared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evsim.configuration import check_choices
from evsim.registry import Registry

Polarity = Literal["signed", "split", "split_off_first"]
Interpolation = Literal["linear", "nearest"]


@dataclass(frozen=True, kw_only=True)
class VoxelRule:
    """tau = steps (t - t0) / (t1 - t0 + extra_us) + offset, and what is done with it."""

    summary: str
    """One line: who uses it."""
    full_bins: bool = False
    """steps is B instead of B - 1."""
    extra_us: float = 0.0
    """Added to the duration, in the unit of the times."""
    offset: float = 0.0
    """Added to the bin coordinate."""
    interpolation: Interpolation = "linear"
    """linear: shared between floor(tau) and floor(tau) + 1; nearest: all to floor(tau)."""
    edge: Literal["drop", "clamp"] = "drop"
    """What falls beside the bins 0..B-1: left out, or moved to the nearest bin inside."""
    subpixel: bool = False
    """Float coordinates are shared bilinearly among four pixels; otherwise they are refused."""
    polarity: Polarity = "signed"
    """The channels when the caller names none."""
    minimum_events: int = 1
    """Fewer events in the window give zeros."""
    spread: bool = False
    """Events of one time are spread over the bins in their order; otherwise a duration of 0 counts as 1."""

    def __post_init__(self) -> None:
        check_choices(self)

    def steps(self, bins: int) -> int:
        """Bin intervals that the window is divided into."""
        return bins if self.full_bins else bins - 1


VOXEL_RULES: Registry[VoxelRule] = Registry("voxel grid rule")
"""Name -> VoxelRule."""

_RULES = {
    "e2vid": VoxelRule(summary="E2VID and most of what followed it (Rebecq et al. 2019)"),
    "ner": VoxelRule(summary="NER-Net, E2VID+, EVREAL", minimum_events=3, spread=True),
    "dsec": VoxelRule(summary="DSEC and the optical-flow networks trained on it", subpixel=True),
    "tonic": VoxelRule(summary="tonic, evlib; without tonic's axis of length 1", full_bins=True),
    "openeb": VoxelRule(summary="OpenEB's C++ event cube", full_bins=True, offset=-0.5),
    "openeb_torch": VoxelRule(
        summary="OpenEB's PyTorch event cube, which differs at both ends",
        full_bins=True,
        offset=-0.5,
        edge="clamp",
    ),
    "timelens": VoxelRule(summary="the Sim2Real form of TimeLens", extra_us=1.0, subpixel=True),
    "timelens_xl": VoxelRule(
        summary="TimeLens-XL's uniform bins",
        full_bins=True,
        extra_us=1.0,
        interpolation="nearest",
        subpixel=True,
    ),
    "rpg": VoxelRule(summary="rpg_timelens (Tulyakov et al. 2021), frame times as window", subpixel=True),
    "stacked_histogram": VoxelRule(
        summary="RVT's stacked histogram (Gehrig and Scaramuzza 2023), before its cut-off",
        full_bins=True,
        interpolation="nearest",
        edge="clamp",
        polarity="split_off_first",
    ),
}
for _name, _rule in _RULES.items():
    VOXEL_RULES.register(_name)(_rule)
