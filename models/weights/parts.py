"""Weights for a part of a network: the tensors below one prefix of its keys, out of a file of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from torch import nn

from evsim.errors import CheckpointError
from evsim.models.weights.checkpoints import Checkpoint
from evsim.models.weights.state import PublishedState, State, fill_network

SHOWN = 4
"""Keys left over that a note lists."""


def fill_part(
    network: nn.Module,
    name: str,
    prefix: str,
    checkpoint: Checkpoint,
    conversions: Sequence[Callable[[State], PublishedState]] = (),
) -> str:
    """Copy a file into the part of the network whose keys begin with `prefix`; a note says what was used.

    The file holds the part alone, or a network of this kind: under our keys, or under those of its authors,
    which `conversions` turn into ours. name: of the network. Raises CheckpointError where the network has no
    such part, or the file does not fill it.
    """
    source = str(checkpoint.path)
    wanted = network.state_dict()
    own = {key for key in wanted if key.startswith(f"{prefix}.")}
    if not own:
        parts = sorted({key.partition(".")[0] for key in wanted})
        raise CheckpointError(f"{name} has no part {prefix!r}, expected one of {', '.join(parts)}, ...")
    candidates = _candidates(prefix, checkpoint, conversions)
    found = max(candidates, key=lambda state: len(own & set(state)))
    part = {key: value for key, value in found.items() if key in own}
    left = [key for key in found if key not in own]
    within = [key for key in left if key.startswith(f"{prefix}.")]
    given = {**wanted, **part}
    for key in own - set(part):
        del given[key]
    for key in within:
        given[key] = found[key]
    fill_network(network, PublishedState(state=given), f"{source} for {prefix}")
    note = f"{len(part)} tensors of {prefix} from {source}"
    if left:
        more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        note += f"; {len(left)} not used: {', '.join(left[:SHOWN])}{more}"
    return note


def _candidates(
    prefix: str, checkpoint: Checkpoint, conversions: Sequence[Callable[[State], PublishedState]]
) -> list[State]:
    """What the file may mean under our keys: the network, or the part without its prefix."""
    state = checkpoint.state()
    states = [state]
    for convert in conversions if checkpoint.header is None else ():
        # A part alone is not what the conversion of a whole network knows.
        with contextlib.suppress(CheckpointError):
            states.append(convert(state).state)
    return [*states, *({f"{prefix}.{key}": value for key, value in found.items()} for found in states)]
