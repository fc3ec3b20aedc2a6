"""The resumable state: any tree of tensors and plain values in one safetensors file, written atomically.

No pickle: reading it back can run nothing. The tree without its tensors stands as JSON in the metadata.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from evsim.errors import FormatError, InputError
from evsim.files import atomic_output
from evsim.models.weights.safetensors_files import write_safetensors

VERSION = 1


def write_state(path: Path, tree: dict[str, Any]) -> None:
    """Write the tree, replacing an earlier one. Raises TypeError for a value that is not plain."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps({"version": VERSION, "tree": _encode(tree, "", tensors)})
    with atomic_output(path, overwrite=True) as temporary:
        write_safetensors(temporary, tensors, {"evsim.training": text})


def read_state(path: Path) -> dict[str, Any]:
    """The tree; tensors on the CPU. Raises InputError when there is no file, FormatError for another one."""
    if not path.is_file():
        raise InputError(f"no state of a training run at {path}; start one without --resume")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = json.loads((file.metadata() or {})["evsim.training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if header["version"] != VERSION:
            raise FormatError(path, f"state of version {header['version']}, expected {VERSION}")
        tree: dict[str, Any] = _decode(header["tree"], tensors)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(path, f"not the state of a training run ({error}); start a new run") from error
    return tree


def _encode(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """JSON of a value, its kind beside it, since JSON has neither tensors, tuples nor keys of numbers."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach()
        return ["tensor", name]
    if isinstance(value, dict):
        pairs = [[key, _encode(item, f"{name}.{key}".lstrip("."), tensors)] for key, item in value.items()]
        return ["dict", pairs]
    if isinstance(value, (list, tuple)):
        items = [_encode(item, f"{name}.{k}".lstrip("."), tensors) for k, item in enumerate(value)]
        return ["tuple" if isinstance(value, tuple) else "list", items]
    if value is None or isinstance(value, (bool, int, float, str)):
        return ["value", value]
    raise TypeError(
        f"{name} of the training state is a {type(value).__name__}, expected a tensor or plain value"
    )


def _decode(coded: Any, tensors: dict[str, Tensor]) -> Any:
    kind, content = coded
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in content}
    if kind in ("list", "tuple"):
        items = [_decode(item, tensors) for item in content]
        return tuple(items) if kind == "tuple" else items
    if kind != "value":
        raise ValueError(f"unknown kind {kind!r}")
    return content
