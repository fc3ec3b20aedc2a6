"""The page of an evaluation: scores, the worst and the best frames, curves and counts in one HTML file."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from evsim.models.evaluation.results import Evaluation, all_samples
from evsim.models.evaluation.scoring import ScoredPair, SequenceScores
from evsim.pipelines.reports.simulation_page import embed_picture, format_value, page_style

MOST_CURVES = 20
CURVE_POINTS = 500


def render_page(evaluation: Evaluation) -> str:
    """The page as text; it needs nothing beside it."""
    source = (resources.files("evsim.pipelines.reports") / "evaluation_page.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["value"] = format_value
    environment.filters["score"] = format_score
    samples = list(all_samples(evaluation))
    summary = evaluation.summary()
    origin = {name: value for name, value in evaluation.origin.items() if value is not None}
    return environment.from_string(source).render(
        title=evaluation.title,
        summary=_sentence(evaluation),
        style=page_style(),
        metrics=evaluation.metrics,
        rows=evaluation.rows(),
        looks=[_look(one, sample, evaluation) for one, sample in samples],
        more=sum(not one.samples for one in evaluation.sequences),
        curves=list(itertools.islice(_curves(evaluation), MOST_CURVES)),
        counted=[_counted(one) for one in summary["sequences"]],
        settings=[*origin.items(), *summary["config"].items()],
    )


def format_score(value: Any) -> str:
    """A score with four decimals, a dash for none."""
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _sentence(evaluation: Evaluation) -> str:
    scored = sum(len(one.frames) for one in evaluation.sequences)
    items = sum(one.items for one in evaluation.sequences)
    return (
        f"{scored} of {items} frames of {len(evaluation.sequences)} sequences are scored. Means of data sets "
        f"are taken over {evaluation.config.average}. Every number stands under its metric's id."
    )


def _look(one: SequenceScores, sample: ScoredPair, evaluation: Evaluation) -> dict[str, Any]:
    pictures = [("prediction", _eight_bit(sample.prediction))]
    if sample.reference is not None:
        reference = _eight_bit(sample.reference)
        pictures = [("reference", reference), *pictures]
        if reference.shape == pictures[1][1].shape:
            difference = np.abs(pictures[1][1].astype(np.int16) - reference).astype(np.uint8)
            pictures.append(("absolute difference", difference))
    score = sample.score
    moment = "" if score.time_s is None else f" at {score.time_s:.3f} s"
    values = [f"{metric.id} {format_score(score.values[metric.id])}" for metric in evaluation.metrics]
    return {
        "name": f"{one.dataset}/{one.sequence}",
        "label": f"{sample.label}, {score.name or f'item {score.index}'}{moment}",
        "pictures": [(caption, embed_picture(picture)) for caption, picture in pictures],
        "scores": ", ".join(values),
    }


def _eight_bit(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype == np.uint8:
        return image
    full = 1.0 if image.dtype.kind == "f" else float(np.iinfo(image.dtype).max)
    return np.round(255 * np.clip(image / full, 0, 1)).astype(np.uint8)


def _curves(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    for one in evaluation.sequences:
        lines = [line for metric in evaluation.metrics if (line := _curve(metric.id, one.scores(metric.id)))]
        if lines:
            yield {"name": f"{one.dataset}/{one.sequence}", "lines": lines}


def _curve(name: str, scores: NDArray[np.float64]) -> dict[str, Any] | None:
    finite = scores[np.isfinite(scores)]
    if finite.size < 2:
        return None
    low, high = float(finite.min()), float(finite.max())
    stride = math.ceil(finite.size / CURVE_POINTS)
    shown = finite[::stride]
    across = np.linspace(0, 1000, shown.size)
    down = 96 - 92 * (shown - low) / (high - low if high > low else 1.0)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down))
    return {"id": name, "low": low, "high": high, "points": points}


def _counted(one: dict[str, Any]) -> dict[str, Any]:
    start, stop = one["scored_s"]
    begin = "start" if start is None else f"{start:g} s"
    end = "end" if stop is None else f"{stop:g} s"
    notes = [f"{count} {reason}" for reason, count in one["unscored"].items()]
    notes += [f"{count} {name} not finite" for name, count in one["not_finite"].items()]
    share = one["share_outside_0_1"]
    return {
        **one,
        "words": ", ".join(notes) or "-",
        "interval": f"{begin} to {end} ({one['scored_s_from']})",
        "outside": "-" if share is None else f"{100 * share:.2f} %",
    }
