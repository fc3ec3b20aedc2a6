"""Which device a network runs on, from the word that a user gave."""

from __future__ import annotations

import torch

from evsim.errors import BackendError, InputError


def choose_device(name: str | None = None) -> torch.device:
    """The device `name` ("cpu", "cuda", "cuda:1", "mps"); the first GPU, else the CPU, for None.

    Raises InputError for a word that is no device, BackendError for one that this machine does not have.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r}, expected cpu, cuda, cuda:N or mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendError(
            f"device {name!r}: torch sees {torch.cuda.device_count()} CUDA devices (built for CUDA "
            f"{torch.version.cuda or 'none'}); use --device cpu, or install a torch with CUDA and its driver"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BackendError(f"device {name!r} is not available on this machine; use --device cpu")
    return device
