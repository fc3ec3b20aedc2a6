"""What a metric is: a named convention, and the registry in which every printed number has its id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from evsim.errors import InputError
from evsim.registry import Registry

Inputs = Literal["pair", "image", "pair with flows"]


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """A published file that a metric needs and that evsim neither ships nor fetches."""

    name: str
    """Where it is looked for, relative to the folder of weights."""
    content: str
    """What is in it."""
    origin: str
    """Who publishes it, and where."""
    licence: str
    """Terms of the file as its publisher states them."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One convention of measuring images; call it as `metric(prediction, reference) -> float`.

    Images are (H, W) or (H, W, 3) RGB, uint8 or uint16 codes or floats of full scale 1.0. A metric whose
    weights are not loaded has no function and refuses to be called.
    """

    id: str
    """Name under which its numbers are reported."""
    definition: str
    """The convention in one line."""
    higher_is_better: bool
    """Direction."""
    inputs: Inputs = "pair"
    """Prediction and reference, one image alone, or a pair and the optical flow of both to the next frame."""
    weights: tuple[WeightFile, ...] = ()
    """Files without which it cannot be computed."""
    function: Callable[..., float] | None = None
    """The computation; none until the weights are loaded."""

    def __call__(self, *images: Any) -> float:
        """The value for the images that `inputs` names; InputError without weights or for unusable images."""
        if self.function is None:
            raise InputError(self.refusal())
        return self.function(*images)

    def refusal(self, why: str = "") -> str:
        """Why the metric cannot be computed without its weights, and how to go on."""
        files = "; ".join(f"{file.name} ({file.content}, from {file.origin})" for file in self.weights)
        return (
            f"metric {self.id} needs weights{f': {why}' if why else ' that were not loaded'}; "
            f"put into the folder of weights: {files}; or leave {self.id} out of --metrics"
        )


METRICS: Registry[Metric] = Registry("metric")
"""Every convention by id; those with `weights` are definitions until a folder of weights is given."""
