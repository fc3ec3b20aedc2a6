"""Published states by the fixtures' fill rule."""

from __future__ import annotations

import fnmatch
import json
import zlib
from pathlib import Path

import numpy as np
import torch


def filled_state(keys_file: Path, keys: str = "keys") -> dict[str, torch.Tensor]:
    """The published state dictionary that a key file describes, filled by the rule; the last scale counts."""
    description = json.loads(keys_file.read_text())
    state = {}
    for key, shape, dtype in sorted(description[keys]):
        factors = [f for pattern, f in description["scale"].items() if fnmatch.fnmatchcase(key, pattern)]
        value = fill(key, tuple(shape), dtype) * (factors[-1] if factors else 1.0)
        state[key] = torch.from_numpy(np.asarray(value, dtype.removeprefix("torch.")))
    return state


def fill(key: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The value that the rule gives a key."""
    rs = np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF)
    if "int" in dtype:
        return np.zeros(shape)
    if key.endswith("running_var"):
        return rs.uniform(0.5, 1.5, shape)
    if key.endswith("running_mean"):
        return 0.1 * rs.standard_normal(shape)
    if len(shape) >= 2:
        return rs.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    if len(shape) == 1 and key.endswith("weight"):
        return 1 + 0.1 * rs.standard_normal(shape)
    return 0.05 * rs.standard_normal(shape)
