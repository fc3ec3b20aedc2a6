"""Scores: metrics applied to prepared images, one record a frame, means of sequences and of data sets."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.metrics import METRICS, Metric, count_outside, equalise_image, normalise_image
from evsim.metrics.flow import FLOW_METRICS
from evsim.metrics.preparation import Equalisation, Normalisation
from evsim.models.evaluation.protocol import EvaluationConfig, ScoredInterval
from evsim.models.registry import Role

Image = NDArray[Any]


def load_metrics(
    ids: Sequence[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "cpu",
    role: Role = "reconstruct",
) -> tuple[Metric, ...]:
    """The metrics of these ids, ready to be called.

    folder: of their weights, by default `weights_folder()`. role: flow has metrics of its own. Raises
    InputError for an unknown or repeated id, for one that takes optical flows, and for absent weights; the
    message names what to leave out.
    """
    from evsim.models.perceptual import load_metric

    if not ids:
        raise InputError("no metrics; name some with --metrics, such as mse,ssim:evreal")
    repeated = sorted({name for name in ids if ids.count(name) > 1})
    if repeated:
        raise InputError(f"metric {repeated[0]} is asked for twice")
    if role == "flow":
        return tuple(FLOW_METRICS[name] for name in ids)
    for name in ids:
        if METRICS[name].inputs == "pair with flows":
            raise InputError(
                f"metric {name} takes the optical flow of both videos, which an evaluation does not compute; "
                f"leave {name} out of --metrics, or call it with flows of your own in Python"
            )
    return tuple(load_metric(name, folder, device=device) for name in ids)


@dataclass(frozen=True)
class Scorer:
    """Metrics behind the preparation that is common to them: histograms of both images equalised or not."""

    metrics: tuple[Metric, ...]
    equalise: Equalisation = "none"

    @property
    def needs_reference(self) -> bool:
        """True unless every metric looks at the prediction alone."""
        return any(metric.inputs != "image" for metric in self.metrics)

    def __call__(self, prediction: Image, reference: Image | None, place: str) -> dict[str, float]:
        """Value by id. place: of the pair, for messages. Raises InputError for images that do not fit."""
        try:
            first = self._prepared(prediction)
            second = None if reference is None else self._prepared(reference)
            return {
                metric.id: metric(first) if metric.inputs == "image" else metric(first, second)
                for metric in self.metrics
            }
        except InputError as error:
            raise InputError(f"{place}: {error}") from None

    def _prepared(self, image: Image) -> Image:
        return image if self.equalise == "none" else equalise_image(image, self.equalise)


def normalised(image: Image, kind: Normalisation, place: str) -> Image:
    """The image stretched as `normalise_image` says; place: of the image, for messages."""
    try:
        return normalise_image(image, kind)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


@dataclass(frozen=True)
class FrameScore:
    """Scores of one prediction. index: its number. time_s: when, None where frames have no times.

    name: of its file, where it came from one.
    """

    index: int
    time_s: float | None
    values: Mapping[str, float]
    name: str = ""


class ScoredPair(NamedTuple):
    """A pair to look at; reference is None where metrics need none."""

    label: str
    score: FrameScore
    prediction: Image
    reference: Image | None


@dataclass(kw_only=True)
class SequenceScores:
    """What was found on one sequence; filled while it is evaluated."""

    dataset: str
    """Name of the data set."""
    sequence: str
    """Name within it."""
    path: Path
    """Where the reference, or else the prediction, lies."""
    interval: ScoredInterval = field(default_factory=ScoredInterval)
    """Times that are scored."""
    items: int = 0
    """Predictions that there could be."""
    predictions: int = 0
    """Predictions that were made or read."""
    frames: list[FrameScore] = field(default_factory=list)
    """One record for each scored prediction."""
    unscored: dict[str, int] = field(default_factory=dict)
    """Why items have no score: reason to count."""
    empty_windows: int = 0
    """Predictions made without a new event."""
    grey_references: int = 0
    """Colour references that were reduced to luma."""
    values: int = 0
    """Values of all predictions."""
    values_outside: int = 0
    """Values outside 0..1 among them."""
    seconds: float = 0.0
    """Time that it took."""
    samples: dict[str, ScoredPair] = field(default_factory=dict)
    """The best and the worst prediction by the first metric."""

    def leave_out(self, reason: str, count: int = 1) -> None:
        """Count items that get no score."""
        if count:
            self.unscored[reason] = self.unscored.get(reason, 0) + count

    def add(self, score: FrameScore, prediction: Image, reference: Image | None, metric: Metric) -> None:
        """Record a score; metric: by which best and worst are told."""
        self.frames.append(score)
        value = score.values[metric.id]
        for label, sign in (("best", 1), ("worst", -1)):
            kept = self.samples.get(label)
            better = sign * (value if metric.higher_is_better else -value)
            if kept is None or better > sign * _signed(kept, metric):
                self.samples[label] = ScoredPair(label, score, prediction, reference)

    def look_at(self, prediction: Image) -> None:
        """Count a prediction and its values outside 0..1."""
        self.predictions += 1
        self.values += prediction.size
        self.values_outside += count_outside(prediction)

    def scores(self, metric: str) -> NDArray[np.float64]:
        """float64 (scored,): one metric's values in order."""
        return np.array([frame.values[metric] for frame in self.frames], np.float64)

    def not_finite(self, metric: str) -> int:
        """How many values of a metric are not finite."""
        return int(np.count_nonzero(~np.isfinite(self.scores(metric))))

    def mean(self, metric: str, config: EvaluationConfig) -> float | None:
        """Mean over the scored frames, None without any."""
        return mean_of(self.scores(metric), config)


def _signed(sample: ScoredPair, metric: Metric) -> float:
    value = sample.score.values[metric.id]
    return value if metric.higher_is_better else -value


def mean_of(values: NDArray[np.float64], config: EvaluationConfig) -> float | None:
    """Mean of the values, without those that are not finite where the configuration drops them."""
    if config.not_finite == "drop":
        values = values[np.isfinite(values)]
    return float(np.mean(values)) if values.size else None


def dataset_mean(sequences: Sequence[SequenceScores], metric: str, config: EvaluationConfig) -> float | None:
    """Mean of a metric over a data set, by the averaging that the configuration names."""
    if config.average == "frames":
        return mean_of(np.concatenate([one.scores(metric) for one in sequences]), config)
    means = [mean for one in sequences if (mean := one.mean(metric, config)) is not None]
    return math.fsum(means) / len(means) if means else None
