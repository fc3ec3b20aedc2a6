"""Optional packages that read a format: found when it is opened, with the line that installs them."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from evsim.errors import InputError


def require_package(path: str | os.PathLike[str], name: str, package: str) -> ModuleType:
    """The module `name`. Raises InputError with the line that installs `package`, where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{os.fspath(path)}: reading this format needs the package {package}: "
            f"pip install 'evsim[formats]' (or pip install {package})"
        ) from error
