"""Which implementation of an operator runs: the caller's choice, else EVSIM_BACKEND, else the fitting one."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from evsim.errors import BackendError
from evsim.registry import nearest

VARIABLE = "EVSIM_BACKEND"


def load_backend(
    operator: str, modules: Mapping[str, str], requested: str | None, automatic: str
) -> Callable[..., Any]:
    """The function named `operator` of the module that implements the chosen backend.

    modules: backend name -> module. requested: the caller's `backend=`; when None, the environment variable
    EVSIM_BACKEND, and when that is unset `automatic`. Raises BackendError when a backend asked for by name
    does not exist for this operator or cannot be imported here.
    """
    chosen = requested or os.environ.get(VARIABLE) or automatic
    source = "backend" if requested else VARIABLE
    if chosen not in modules:
        raise BackendError(
            f"{source} {chosen!r} does not exist for {operator}{nearest(chosen, list(modules))}; "
            f"it has {', '.join(modules)}"
        )
    try:
        # What is imported already is found five times as fast this way; small windows notice.
        module = sys.modules.get(modules[chosen]) or importlib.import_module(modules[chosen])
    except ImportError as error:
        raise BackendError(f"backend {chosen!r} of {operator} cannot run here: {error}") from error
    return getattr(module, operator)
