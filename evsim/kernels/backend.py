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
FITTING = {"cpu": "cpu", "cuda": "gpu"}
"""Kind of device -> the compiled implementation for its memory; every other kind takes the reference."""


def chosen_backend(operator: str, backends: Mapping[str, str], requested: str | None, device: str) -> str:
    """The name of the implementation for memory of a kind of device ("cpu", "cuda", "mps").

    backends: name -> module. requested: the caller's `backend=`; when None, the environment variable
    EVSIM_BACKEND, and when that is unset the one that fits the device. "gpu" takes memory of the CPU, too: it
    then runs in Triton's interpreter, or says that it cannot. Raises BackendError for a name that the
    operator does not have, and for compiled code that cannot read the device's memory.
    """
    named = requested or os.environ.get(VARIABLE)
    if named is None:
        return FITTING.get(device, "reference")
    if named not in backends:
        raise BackendError(
            f"{'backend' if requested else VARIABLE} {named!r} does not exist for "
            f"{operator}{nearest(named, list(backends))}; it has {', '.join(backends)}"
        )
    if (named == "cpu" and device != "cpu") or (named == "gpu" and device not in FITTING):
        raise BackendError(
            f"backend {named!r} of {operator} cannot run here: the memory is on {device}; move it to "
            f"{'the CPU' if named == 'cpu' else 'a CUDA device'} first, or use backend 'reference'"
        )
    return named


def load_backend(operator: str, backends: Mapping[str, str], name: str) -> Callable[..., Any]:
    """The function named `operator` of the module that implements backend `name`.

    Raises BackendError when the module cannot be imported here.
    """
    try:
        # What is imported already is found five times as fast this way; small windows notice.
        module = sys.modules.get(backends[name]) or importlib.import_module(backends[name])
    except ImportError as error:
        raise BackendError(f"backend {name!r} of {operator} cannot run here: {error}") from error
    return getattr(module, operator)
