"""Published weights of the perceptual networks: from the authors' key names to ours.

Trunks are ImageNet state dictionaries with torchvision's names, or what a complete metric module holds.
"""

from __future__ import annotations

import os

from evsim.models.perceptual.dists import Dists
from evsim.models.perceptual.features import Trunk
from evsim.models.perceptual.lpips import Lpips
from evsim.models.weights.checkpoints import read_checkpoint
from evsim.models.weights.state import PublishedState, State, fill_network


def load_lpips(trunk: Trunk, trunk_file: str | os.PathLike[str], heads_file: str | os.PathLike[str]) -> Lpips:
    """LPIPS with the trunk of `trunk_file` (torchvision's) and the linear heads of `heads_file` (published).

    Raises InputError for a missing file, FormatError for a damaged one, CheckpointError if the keys
    do not fit.
    """
    network = Lpips(trunk)
    published = {**read_checkpoint(trunk_file).state(), **read_checkpoint(heads_file).state()}
    fill_network(network, lpips_state(published), f"{trunk_file} with {heads_file}")
    return network


def load_dists(trunk_file: str | os.PathLike[str], weights_file: str | os.PathLike[str]) -> Dists:
    """DISTS with the VGG-16 of `trunk_file` (torchvision's) and alpha and beta of `weights_file` (published).

    Raises InputError for a missing file, FormatError for a damaged one, CheckpointError if the keys
    do not fit.
    """
    network = Dists()
    published = {**read_checkpoint(trunk_file).state(), **read_checkpoint(weights_file).state()}
    fill_network(network, dists_state(published), f"{trunk_file} with {weights_file}")
    return network


def lpips_state(published: State) -> PublishedState:
    """Our state of LPIPS from published keys: of the trunk, of the heads, or of the complete module.

    `features.N.*` (torchvision; its classifier is left out) or `net.sliceK.N.*` become `trunk.features.N.*`,
    `linK.model.1.weight` becomes `heads.K.weight`; the fixed scaling and second names of heads are left out.
    """
    state: State = {}
    names = {}
    for published_key, value in published.items():
        key, parts = published_key, published_key.split(".")
        if parts[0] in ("classifier", "scaling_layer", "lins"):
            continue
        if parts[0] == "features":
            key = f"trunk.{key}"
        elif parts[0] == "net" and len(parts) > 3:
            key = ".".join(["trunk.features", *parts[2:]])
        elif parts[0].removeprefix("lin").isdecimal() and parts[1:] == ["model", "1", "weight"]:
            key = f"heads.{parts[0].removeprefix('lin')}.weight"
        state[key], names[key] = value, published_key
    return PublishedState(state=state, published_key=lambda key: names.get(key, key))


def dists_state(published: State) -> PublishedState:
    """Our state of DISTS from published keys: of the trunk, of alpha and beta, or of the complete module.

    `features.N.*` (torchvision; its classifier is left out) or `stageK.N.*` become `trunk.features.N.*`; the
    fixed pooling filters, mean and deviation are left out.
    """
    state: State = {}
    names = {}
    for published_key, value in published.items():
        key, parts = published_key, published_key.split(".")
        if parts[0] in ("classifier", "mean", "std") or parts[-1] == "filter":
            continue
        if parts[0] == "features":
            key = f"trunk.{key}"
        elif parts[0].startswith("stage"):
            key = ".".join(["trunk.features", *parts[1:]])
        state[key], names[key] = value, published_key
    return PublishedState(state=state, published_key=lambda key: names.get(key, key))
