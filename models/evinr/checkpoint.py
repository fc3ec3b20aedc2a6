"""EvINR's state in our key names. The published code saves none; these are the names of its modules."""

from __future__ import annotations

import re

from evsim.models.weights.state import PublishedState, State, rename_key, rename_prefixes

LAYER = re.compile(r"net\.siren_net\.(\d+)\.linear\.weight")


def from_published(state: State) -> PublishedState:
    """Our state and configuration; the sensor's size and colour cannot be seen in it and must be told."""
    found = sorted(int(match[1]) for match in map(LAYER.fullmatch, state) if match)
    last = found[-1] if found else 0
    names = {f"net.siren_net.{index}.linear": f"layers.{index}" for index in found[:-1]}
    names[f"net.siren_net.{last}.linear"] = "readout"
    back = {ours: published for published, ours in names.items()}
    renamed = rename_prefixes(state, names)
    return PublishedState(
        state=renamed,
        config=_sizes(renamed, last),
        published_key=lambda key: rename_key(key, back),
    )


def _sizes(state: State, last: int) -> dict[str, int]:
    first, readout = state.get("layers.0.weight"), state.get("readout.weight")
    if first is None or readout is None or first.ndim != 2 or readout.ndim != 2 or last < 2:
        return {}  # the check of all keys reports what is wrong
    return {"hidden_layers": last - 2, "hidden_width": first.shape[0], "neck_width": readout.shape[1]}
