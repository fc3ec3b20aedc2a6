"""Writing safetensors files one tensor after another, so that nothing is held twice.

The bytes are those of the safetensors package, whose writers want all tensors as bytes at once. A file is the
length of the header (8 bytes, little-endian), the header (JSON, spaces up to a multiple of 8), then the
tensors: those of wide kinds first, names in order within a kind.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KINDS = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The kinds that the format has, in the order in which a file holds them."""


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors by name, on any device and of any strides; two names may share one tensor.

    metadata: of one key at most, for the package's order of several is none. Raises TypeError for a kind that
    the format does not have.
    """
    order = list(KINDS)
    for name, tensor in tensors.items():
        if tensor.dtype not in KINDS:
            raise TypeError(f"{name} is {tensor.dtype}, which a safetensors file cannot hold")
    names = sorted(tensors, key=lambda name: (order.index(tensors[name].dtype), name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.itemsize
        kind, shape = KINDS[tensor.dtype], list(tensor.shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for name in names:
            file.write(_bytes_of(tensors[name]).data)


def _bytes_of(tensor: Tensor) -> NDArray[np.uint8]:
    """Its values in order, little-endian; no copy of one that lies on the CPU in order."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    if sys.byteorder == "big":
        flat = flat.reshape(-1, tensor.itemsize).flip(1)
    found: NDArray[np.uint8] = flat.numpy()
    return found
