"""Published FireNet states in our key names: FireNet+ and the first FireNet, told apart by their keys."""

from __future__ import annotations

from typing import Any

from evsim.models.firenet.network import FireNetConfig
from evsim.models.weights.state import PublishedState, State, rename_key, rename_prefixes

PLUS = {
    "head.conv2d": "head",
    "G1": "recurrent1",
    "R1": "residual1",
    "G2": "recurrent2",
    "R2": "residual2",
    "pred.conv2d": "prediction",
}
FIRST = {
    "net.head.conv.conv2d": "head",
    "net.head.recurrent_block": "recurrent1",
    "net.resblocks.0.conv": "residual1",
    "net.resblocks.0.recurrent_block": "recurrent2",
    "net.resblocks.1": "residual2",
    "net.pred.conv2d": "prediction",
}


def from_published(state: State) -> PublishedState:
    """Our state and configuration; the first FireNet's wants normalised voxel grids, FireNet+'s does not."""
    first = any(key.startswith("net.") for key in state)
    names = FIRST if first else PLUS
    back = {ours: published for published, ours in names.items()}
    renamed = rename_prefixes(state, names)
    return PublishedState(
        state=renamed,
        config={**_sizes(renamed), "normalize_voxels": first},
        published_key=lambda key: rename_key(key, back),
    )


def _sizes(state: State) -> dict[str, Any]:
    weight = state.get("head.weight")
    if weight is None or weight.ndim != 4:
        return {}  # the check of all keys reports what is wrong
    default = FireNetConfig()
    channels, bins, kernel_size, _ = weight.shape
    odd = kernel_size if kernel_size % 2 else default.kernel_size
    return {"bins": bins, "channels": channels, "kernel_size": odd}
