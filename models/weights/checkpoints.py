"""Weight files: reading what authors published and what `save` wrote; nothing in a file is ever run.

Our own format is safetensors: tensors behind a JSON header, no pickle to restrict, readable by other tools
and mapped into memory. Its metadata holds one key, "evsim", with the JSON of name and configuration; one
key, because the order of several would differ from run to run and with it the bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from evsim import configuration
from evsim.errors import CheckpointError, FormatError, InputError
from evsim.files import atomic_output
from evsim.models.device import choose_device
from evsim.models.registry import entry, from_config, from_published, published_state
from evsim.models.weights.folders import weight_file
from evsim.models.weights.identification import describe_sizes, identify
from evsim.models.weights.misfits import cut_after, describe_misfit, describe_wanted
from evsim.models.weights.safetensors_files import write_safetensors
from evsim.models.weights.state import (
    PARALLEL_PREFIXES,
    PublishedState,
    State,
    filled_network,
    find_state,
    strip_prefixes,
)
from evsim.models.weights.torch_files import read_torch_file

VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """What a weight file holds.

    path; format: "safetensors" or "torch"; content: a state or what the authors wrapped around it, with
    `Inert` objects for foreign classes; header: network, config and version where `save` wrote the file.
    """

    path: Path
    format: str
    content: Any
    header: Mapping[str, Any] | None = None

    def state(self) -> State:
        """The tensors by name. Raises CheckpointError when there are none."""
        return find_state(self.content, str(self.path))


def read_checkpoint(path: str | os.PathLike[str], network: str | None = None) -> Checkpoint:
    """Read a weight file of any supported layout; tensors come out on the CPU.

    path: the file, or a folder that holds just one. network: whose weights are wanted, for messages. Raises
    InputError when there is no file, FormatError when it is damaged or of another kind.
    """
    found = weight_file(Path(path))
    if not found.is_file():
        raise InputError(
            f"no weight file at {found}; `evsim weights list` says where published ones come from"
        )
    misfit = describe_misfit(found)
    if misfit is not None:
        raise FormatError(found, f"{misfit}{_wanted(found, network)}")
    try:
        if _is_safetensors(found):
            return _read_safetensors(found)
        return Checkpoint(found, "torch", read_torch_file(found))
    except FormatError as error:
        reason = cut_after(found) or str(error).removeprefix(f"{found}: ")
        raise FormatError(found, f"{reason}{_wanted(found, network)}") from error


def _wanted(path: Path, network: str | None) -> str:
    wanted = describe_wanted(path, network)
    return f"; wanted is {wanted}" if wanted else ""


def load(
    name: str, path: str | os.PathLike[str], *, device: str | torch.device = "cpu", **hyper: Any
) -> nn.Module:
    """The network with the weights of a file, in evaluation mode.

    path: a file as the authors published it, or one that `save` wrote. hyper: what overrides the
    configuration of the file, or what its shapes imply. Raises InputError, FormatError for a damaged file,
    and CheckpointError that lists every missing, left over or wrongly shaped key.
    """
    network = network_of(read_checkpoint(path, name), name, hyper)
    return network.to(choose_device(device) if isinstance(device, str) else device)


def network_of(checkpoint: Checkpoint, name: str, hyper: Mapping[str, Any] | None = None) -> nn.Module:
    """The network `name` with the weights of a checkpoint that was read, in evaluation mode.

    Raises CheckpointError that says what the file is where it is known to be something else.
    """
    source, found = str(checkpoint.path), entry(name)
    if checkpoint.header is None:
        try:
            return from_published(found, checkpoint.state(), source, hyper)
        except CheckpointError as error:
            raise _explained(error, checkpoint, name, hyper or {}) from error
    if checkpoint.header["network"] != name:
        raise CheckpointError(
            f"{source} holds the network {checkpoint.header['network']!r}, expected {name!r}"
        )
    fields = {**checkpoint.header["config"], **(hyper or {})}
    published = PublishedState(state=checkpoint.content)
    try:
        return filled_network(lambda: from_config(found, fields), published, source).eval()
    except CheckpointError as error:
        raise _explained(error, checkpoint, name, hyper or {}) from error


def _explained(
    error: CheckpointError, checkpoint: Checkpoint, name: str, hyper: Mapping[str, Any]
) -> CheckpointError:
    """The same with what the file is: another network, or one of another size."""
    state, source = checkpoint.state(), checkpoint.path
    other = identify(state, name)
    if other is not None:
        return CheckpointError(
            f"{source} holds the network {other!r}, expected {name!r}", details=error.details
        )
    try:
        config = (checkpoint.header or {}).get("config")
        config = config or published_state(entry(name), state, str(source)).config
    except CheckpointError:
        return error
    sizes = describe_sizes(config, hyper)
    if not sizes:
        return error
    return CheckpointError(f"{source} holds a {name} of {sizes}", details=error.details)


def save(network: nn.Module, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the network's weights and configuration to a .safetensors file, which `load` reads.

    Equal weights give equal bytes. Raises InputError for a network that is not of this package, another
    suffix, or a file that exists.
    """
    final = Path(path)
    if final.suffix != ".safetensors":
        raise InputError(f"{final}: weights are written as .safetensors; choose a name that ends so")
    if not hasattr(network, "name") or not hasattr(network, "config"):
        raise InputError(
            f"{type(network).__name__} is no network of evsim.models; expected one that create or load made"
        )
    header = {
        "network": network.name,
        "config": configuration.to_tree(network.config),
        "version": VERSION,
    }
    state = strip_prefixes(network.state_dict(), PARALLEL_PREFIXES)
    with atomic_output(final, overwrite=overwrite) as temporary:
        write_safetensors(temporary, state, {"evsim": json.dumps(header, sort_keys=True)})
    return final


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    return start[8:] == b"{" and length <= path.stat().st_size


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, ValueError, KeyError) as error:
        raise FormatError(path, f"damaged safetensors file ({error}); download or write it again") from error
    return Checkpoint(path, "safetensors", state, _read_header(path, metadata.get("evsim")))


def _read_header(path: Path, text: str | None) -> Mapping[str, Any] | None:
    if text is None:
        return None
    try:
        header = json.loads(text)
        known = isinstance(header["network"], str) and isinstance(header["config"], dict)
        version = header["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(path, f"metadata evsim = {text[:80]!r} is not what evsim writes") from error
    if not known or version != VERSION:
        raise FormatError(
            path, f"written by version {version} of the format, expected {VERSION}; update evsim"
        )
    return dict(header)
