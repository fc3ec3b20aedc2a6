"""Which weight files were published, where they come from, and where a user keeps them.

Nothing is downloaded: terms differ from file to file, and the user is the one who accepts them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evsim import configuration
from evsim.errors import InputError
from evsim.files import file_sha256
from evsim.models.weights.folders import weight_file
from evsim.registry import nearest

CATALOGUE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """One published weight file."""

    network: str = ""
    """Network that it belongs to, as in `models.create`."""
    file: str = ""
    """Its name in the weights folder."""
    origin: str = ""
    """Where its authors offer it."""
    published_as: str = ""
    """Its path or name there."""
    licence: str = ""
    """Terms of use."""
    bytes: int | None = None
    """Size, where known."""
    sha256: str | None = None
    """Checksum, where known."""
    note: str = ""
    """What a user should know."""


def weights_folder() -> Path:
    """Where weight files are looked for: $EVSIM_WEIGHTS, else evsim/weights in the user's data folder."""
    if os.environ.get("EVSIM_WEIGHTS"):
        return Path(os.environ["EVSIM_WEIGHTS"])
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "evsim" / "weights"


def published_weights() -> dict[str, PublishedWeights]:
    """Every published file that is known, by name."""
    return {
        name: configuration.build(PublishedWeights, fields, name)
        for name, fields in configuration.read_file(CATALOGUE).items()
    }


def list_weights(network: str | None = None) -> list[dict[str, Any]]:
    """What to print about each published file: the entry, where it belongs, and whether it is there."""
    folder = weights_folder()
    return [
        {
            "name": name,
            **{key: value for key, value in vars(weights).items() if value not in (None, "")},
            "place": str(folder / weights.file),
            "present": (folder / weights.file).is_file(),
        }
        for name, weights in published_weights().items()
        if network in (None, weights.network)
    ]


def find_weights(name_or_path: str | os.PathLike[str] | None, network: str) -> Path:
    """The file of a path, or of a published name; with None the first published file that is there.

    A path may be a folder that holds just one weight file. Raises InputError that says where to get the file
    and where to put it.
    """
    if name_or_path is not None and Path(name_or_path).exists():
        return weight_file(Path(name_or_path))
    known = {key: item for key, item in published_weights().items() if item.network == network}
    if name_or_path is None:
        present = [item for item in known.values() if (weights_folder() / item.file).is_file()]
        if present:
            return weights_folder() / present[0].file
        raise InputError(f"no weights for {network!r}: pass --weights FILE, or {_how_to_get(known)}")
    name = os.fspath(name_or_path)
    if name not in known:
        raise InputError(
            f"{name} is neither a file nor the name of published weights of {network!r}"
            f"{nearest(name, sorted(known))}; known: {', '.join(known) or 'none'}"
        )
    path = weights_folder() / known[name].file
    if not path.is_file():
        raise InputError(f"the weights {name!r} are not at {path}: {_how_to_get({name: known[name]})}")
    return path


def _how_to_get(known: Mapping[str, PublishedWeights]) -> str:
    ways = [
        f"get {item.published_as} from {item.origin} and save it as {weights_folder() / item.file}"
        for item in known.values()
    ]
    return "; or ".join(ways) or "train the network"


def recognise(path: Path) -> str | None:
    """Name of the published file with the same checksum, or None."""
    digest = file_sha256(path)
    return next((name for name, item in published_weights().items() if item.sha256 == digest), None)


def check_weights(path: Path, network: str | None = None) -> dict[str, Any]:
    """What a weight file is and holds, after loading it into its network.

    network: needed unless evsim wrote the file or its checksum is known. Raises InputError, FormatError for
    a damaged file, CheckpointError for one that does not fit.
    """
    return _load_and_describe(path, network)[1]


def convert_weights(
    path: Path, destination: Path, network: str | None = None, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write a weight file again in our own format; the result says what it holds. Raises as check_weights."""
    from evsim.models.weights.checkpoints import save

    loaded, description = _load_and_describe(path, network)
    save(loaded, destination, overwrite=overwrite)
    return {"output": str(destination), **description}


def _load_and_describe(path: Path, network: str | None) -> tuple[Any, dict[str, Any]]:
    from evsim.models import registry
    from evsim.models.weights.checkpoints import network_of, read_checkpoint
    from evsim.models.weights.state import ignored_keys

    path = weight_file(path)
    checkpoint = read_checkpoint(path, network)
    published = recognise(path)
    name = network
    if name is None and checkpoint.header is not None:
        name = str(checkpoint.header["network"])
    if name is None and published is not None:
        name = published_weights()[published].network
    if name is None:
        raise InputError(f"{path} does not say which network it belongs to; pass --network NAME")
    loaded: Any = network_of(checkpoint, name)
    ignored: dict[str, list[str]] = {}
    if checkpoint.header is None:
        ignored = ignored_keys(
            loaded, registry.published_state(registry.entry(name), checkpoint.state(), str(path))
        )
    return loaded, {
        "file": str(path),
        "format": "evsim" if checkpoint.header is not None else checkpoint.format,
        "network": name,
        "published": published,
        "tensors": len(loaded.state_dict()),
        "parameters": sum(parameter.numel() for parameter in loaded.parameters()),
        "config": configuration.to_tree(loaded.config),
        "sha256": file_sha256(path),
        **({"ignored": ignored} if ignored else {}),
    }
