"""What a predictor is made of, and predictors by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from evsim import configuration
from evsim.errors import InputError
from evsim.files import file_sha256
from evsim.models.device import choose_device
from evsim.models.prediction.predictor import Predictor
from evsim.models.registry import NetworkEntry, entry, names

if TYPE_CHECKING:
    from evsim.models.prediction.flow import FlowEstimator


class WeightFiles:
    """Loads networks, and keeps the SHA-256 of every file that they came from.

    files: path -> SHA-256, in the order of loading.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.files: dict[str, str] = {}

    def load(self, network: str, weights: str | Path | None = None) -> nn.Module:
        """The network on the device, in evaluation mode.

        weights: a file, a published name, or None for the first published file that is there. Raises
        InputError for files that are not there, CheckpointError for one that does not fit.
        """
        from evsim.models.weights.checkpoints import load
        from evsim.models.weights.published import find_weights

        path = find_weights(weights, network)
        loaded = load(network, path, device=self.device)
        self.files[str(path)] = file_sha256(path)
        return loaded


class PredictorParts(NamedTuple):
    """What an entry makes a predictor or flow estimator of.

    network: with its weights, on the device, in evaluation mode; None without weights. options: of the
    entry's class, None where it has none. files: loads what else is needed, such as a flow estimator's
    weights.
    """

    network: nn.Module | None
    options: Any
    device: torch.device
    files: WeightFiles


def make_predictor(
    name: str,
    options: Mapping[str, Any] | Any = None,
    *,
    weights: str | Path | None = None,
    device: torch.device | None = None,
    files: WeightFiles | None = None,
) -> Predictor:
    """The predictor of a network or method.

    options: of the entry's class, or fields of it. weights: a file or a published name; where the network
    needs some and none are given, the first published file that is there. device: the first GPU, else the
    CPU. files: what loads the weights, to know afterwards which files were read.
    Raises InputError for an unknown name, weights that are not there or cannot be used, and networks that
    give no images, ConfigError for an unknown option, CheckpointError for weights that do not fit.
    """
    found = entry(name)
    if found.predictor is None:
        raise InputError(f"the network {name!r} gives no images; {_who_gives_images()}")
    return found.predictor(_parts(found, options, weights, device, files))


def predictor_of(
    network: nn.Module, options: Mapping[str, Any] | Any = None, *, files: WeightFiles | None = None
) -> Predictor:
    """The predictor of a network that was created or loaded. InputError for one that gives no images."""
    name = str(getattr(network, "name", type(network).__name__))
    found = entry(name)
    if found.predictor is None:
        raise InputError(f"the network {name!r} gives no images; {_who_gives_images()}")
    device = next(network.parameters()).device
    used = files or WeightFiles(device)
    return found.predictor(PredictorParts(network, _options(found, options), device, used))


def make_flow_estimator(
    name: str,
    options: Mapping[str, Any] | Any = None,
    *,
    weights: str | Path | None = None,
    device: torch.device | None = None,
    files: WeightFiles | None = None,
) -> FlowEstimator:
    """The flow estimator of a network with the role flow; arguments and errors as of `make_predictor`."""
    found = entry(name)
    if found.flow_estimator is None:
        raise InputError(
            f"the network {name!r} estimates no flow; those that do: {', '.join(names('flow')) or 'none'}"
        )
    return found.flow_estimator(_parts(found, options, weights, device, files))


def _parts(
    found: NetworkEntry,
    options: Any,
    weights: str | Path | None,
    device: torch.device | None,
    files: WeightFiles | None,
) -> PredictorParts:
    if weights is not None and found.needs.weights == "none":
        raise InputError(f"{found.name} takes no weights; leave out {weights}")
    used = files or WeightFiles(device or choose_device(None))
    built = _options(found, options)
    wanted = weights is not None or found.needs.weights == "required"
    network = used.load(found.name, weights) if wanted else None
    return PredictorParts(network, built, used.device, used)


def _options(found: NetworkEntry, given: Any) -> Any:
    section = "fit" if found.is_fitted else "options"
    if found.options is None:
        if given:
            raise InputError(f"{found.name} has no options; leave out {section}")
        return None
    if isinstance(given, found.options):
        return given
    return configuration.build(found.options, given or {}, section)


def _who_gives_images() -> str:
    return f"those that do: {', '.join(name for name in names() if entry(name).predictor is not None)}"
