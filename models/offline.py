"""Events to images by a fit to a whole recording: what such methods have in common.

A network that runs through windows is a `Reconstructor`; a method that sees all events before it answers is
an `OfflineReconstructor`. Its module holds one `OfflineEntry` called OFFLINE_ENTRY, and one line stands in
the table below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evsim import configuration
from evsim.errors import InputError
from evsim.formats import Recording
from evsim.progress import Report
from evsim.registry import Registry

if TYPE_CHECKING:
    import torch

OFFLINE: Registry[str] = Registry("offline method")
"""Name -> module that holds its OFFLINE_ENTRY."""

OFFLINE.register("evinr")("evsim.models.evinr.offline")
OFFLINE.register("variational")("evsim.models.variational.offline")


class OfflineReconstructor(Protocol):
    """Fits a recording, then gives its images at any times."""

    def images(
        self, recording: Recording, times_us: NDArray[np.float64], *, report: Report | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """The image (H, W) or (H, W, 3) RGB at each time, nominally in 0..1 and not clipped.

        recording: read as often as the method needs, whole by `events()` or piece by piece by `chunks()` and
        `between()`. times_us: increasing, on the clock of its events; one before the first or after the last
        event gets the image at that event. report: called with (steps done, steps in all or None, a few
        words). Images come one by one, so that a method that works in windows needs no more memory for a
        longer recording.
        """
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What a user should know about the fit, to print: complete after the last image."""
        ...


@dataclass(frozen=True, kw_only=True)
class OfflineEntry:
    """What the package knows about one method.

    name, summary: for people. paper: citation. config: frozen dataclass of its options, all with defaults.
    create: of the options, a weight file of an earlier fit or None, and the device. takes_weights: whether
    an earlier fit can be used instead of a new one.
    """

    name: str
    summary: str
    paper: str
    config: type
    create: Callable[[Any, Path | None, torch.device], OfflineReconstructor]
    takes_weights: bool = False


def offline_names() -> list[str]:
    """Names of all offline methods, sorted."""
    return sorted(OFFLINE)


def offline_entry(name: str) -> OfflineEntry:
    """The entry of a method. Raises InputError for an unknown name, with the nearest one."""
    found: OfflineEntry = import_module(OFFLINE[name]).OFFLINE_ENTRY
    return found


def make_offline(
    name: str,
    options: Mapping[str, Any] | Any = None,
    *,
    weights: Path | None = None,
    device: torch.device | None = None,
) -> OfflineReconstructor:
    """The method `name`. options: its configuration, or fields of it. device: the first GPU, else the CPU.

    Raises InputError for an unknown name or weights it cannot use, ConfigError for an unknown option.
    """
    from evsim.models.device import choose_device

    found = offline_entry(name)
    if weights is not None and not found.takes_weights:
        raise InputError(f"{name} is fitted to each recording and takes no weights; leave out {weights}")
    if not isinstance(options, found.config):
        options = configuration.build(found.config, options or {}, "fit")
    return found.create(options, weights, device or choose_device(None))
