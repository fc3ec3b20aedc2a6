"""A folder given for a weight file, such as an unpacked archive: the one file in it that can be meant."""

from __future__ import annotations

import warnings
from pathlib import Path

from evsim.errors import InputError

SUFFIXES = (".safetensors", ".pth", ".pt", ".pkl", ".ckpt", ".bin", ".tar")
"""How the names of weight files end."""

SHOWN = 8
"""Files that an error lists."""


def weight_file(path: Path) -> Path:
    """The path itself, or for a folder its only weight file, at whatever depth, with a warning.

    What the systems of other people leave in archives (`._name`, `__MACOSX`) is no weight file. Raises
    InputError that lists what was found where a folder holds none or several.
    """
    if not path.is_dir():
        return path
    found = sorted(file for file in path.rglob("*") if _is_weight_file(file, path))
    if len(found) == 1:
        warnings.warn(f"{path} is a folder; its only weight file {found[0]} is taken", stacklevel=3)
        return found[0]
    if not found:
        raise InputError(
            f"{path} is a folder without a weight file, whose name ends in {', '.join(SUFFIXES)}"
        )
    listed = ", ".join(str(file.relative_to(path)) for file in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise InputError(f"{path} is a folder of {len(found)} weight files; pass one of {listed}{more}")


def _is_weight_file(file: Path, folder: Path) -> bool:
    parts = file.relative_to(folder).parts
    if "__MACOSX" in parts or any(part.startswith(".") for part in parts):
        return False
    return file.suffix.lower() in SUFFIXES and file.is_file()
