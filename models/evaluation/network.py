"""Evaluation of a network that turns events into images, on recordings with reference images."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.formats import Recording, open_events
from evsim.formats.evreal import EvrealRecording
from evsim.formats.storage.windows import Window
from evsim.media import luma
from evsim.models.evaluation.alignment import fit_alignment
from evsim.models.evaluation.items import Items, cut_items, events_in_ranges
from evsim.models.evaluation.protocol import (
    INFERENCE_LEAD_S,
    EvaluationConfig,
    ScoredInterval,
    scored_interval,
)
from evsim.models.evaluation.scoring import FrameScore, Scorer, SequenceScores, normalised
from evsim.models.evaluation.sequences import EvaluatedSequence, images_in_order, read_clock
from evsim.models.prediction.predictor import Predictor, predict
from evsim.models.prediction.scene import Scene
from evsim.progress import Report

Keep = Callable[[int, float, float, NDArray[np.float32]], None]
Made = Iterator[tuple[NDArray[np.float32], bool]]
"""Predictions in order, each with whether its window was empty."""

BEFORE = "before the scored interval"
AFTER = "after the scored interval"
NO_REFERENCE = "no reference image in time"
NOT_INFERRED = "not inferred"


def plan_sequence(
    sequence: EvaluatedSequence, config: EvaluationConfig, *, needs_reference: bool = True
) -> tuple[Recording, Items, ScoredInterval]:
    """The opened recording of a sequence, its items and its scored interval.

    Raises InputError for a sequence without events, or without the images that windows or metrics need.
    """
    recording = open_events(sequence.path)
    try:
        if needs_reference and not recording.image_count:
            raise InputError("holds no images to compare with; ask only for metrics without reference")
        clock = read_clock(recording)
        items = cut_items(clock, config, f"{sequence.dataset}/{sequence.name}")
    except InputError as error:
        recording.close()
        raise InputError(f"{sequence.path}: {error}") from None
    except BaseException:
        recording.close()
        raise
    return recording, items, scored_interval(sequence.dataset, sequence.name, config)


def items_to_infer(items: Items, interval: ScoredInterval, config: EvaluationConfig) -> NDArray[np.int64]:
    """Positions of the items that a network is run on: from shortly before the interval to its end."""
    if config.windows.infer_all:
        return np.arange(len(items))
    inside = (items.times >= interval.start_s - INFERENCE_LEAD_S) & (items.times <= interval.stop_s)
    return np.flatnonzero(inside)


def evaluate_sequence(
    predictor: Predictor,
    sequence: EvaluatedSequence,
    scorer: Scorer,
    config: EvaluationConfig,
    *,
    keep: Keep | None = None,
    report: Report | None = None,
) -> SequenceScores:
    """Scores on one recording; a recurrent network's state is reset once and carried from window to window.

    A method that does not run through windows sees the whole recording and is asked for images at their ends.

    keep: called with (index, time in seconds, events per second, image (H, W) not clipped) for every
    prediction. report: called with (predictions done, expected, a few words). Raises InputError for a
    recording or an image that cannot be evaluated.
    """
    started = time.perf_counter()
    recording, items, interval = plan_sequence(sequence, config, needs_reference=scorer.needs_reference)
    scores = SequenceScores(
        dataset=sequence.dataset,
        sequence=sequence.name,
        path=sequence.path,
        interval=interval,
        items=len(items),
    )
    with recording:
        _run(predictor, recording, items, scores, scorer, config, keep, report)
    scores.seconds = time.perf_counter() - started
    return scores


def _run(
    predictor: Predictor,
    recording: Recording,
    items: Items,
    scores: SequenceScores,
    scorer: Scorer,
    config: EvaluationConfig,
    keep: Keep | None,
    report: Report | None,
) -> None:
    chosen = items_to_infer(items, scores.interval, config)
    scores.leave_out(NOT_INFERRED, len(items) - len(chosen))
    rates = items.rates(config)
    reasons = [why_unscored(items.times[k], items.gaps[k], scores.interval, scorer, config) for k in chosen]
    references = images_in_order(recording, frames_of(items, chosen, scorer))
    made = _made(predictor, recording, items, chosen)
    if config.align != "none":
        truths = images_in_order(recording, frames_of(items, chosen, scorer))
        shown = (None if reason else truth for truth, reason in zip(truths, reasons))
        made = aligned(made, shown, config, str(scores.path))
    for done, (k, (image, empty), reference, reason) in enumerate(zip(chosen, made, references, reasons), 1):
        index, moment = int(items.index[k]), float(items.times[k])
        place = f"{scores.path}, item {index}"
        prediction = normalised(image, config.normalize, place)
        scores.look_at(prediction)
        scores.empty_windows += empty
        if keep:
            keep(index, moment, float(rates[k]), prediction)
        if reason:
            scores.leave_out(reason)
        else:
            truth = as_reference(reference, prediction)
            scores.grey_references += truth is not reference
            values = scorer(prediction, truth, place)
            scores.add(FrameScore(index, moment, values), prediction, truth, scorer.metrics[0])
        if report:
            report(done, len(chosen), f"{scores.dataset}/{scores.sequence}")


def frames_of(items: Items, chosen: NDArray[np.int64], scorer: Scorer) -> list[int]:
    """Numbers of the reference images of items; -1 for each where no metric needs one."""
    return items.frames[chosen].tolist() if scorer.needs_reference else [-1] * len(chosen)


def why_unscored(
    time_s: float, gap_s: float, interval: ScoredInterval, scorer: Scorer, config: EvaluationConfig
) -> str:
    """Why a prediction gets no score, empty where it does; gap_s: seconds to its reference."""
    if time_s < interval.start_s:
        return BEFORE
    if time_s > interval.stop_s:
        return AFTER
    return NO_REFERENCE if scorer.needs_reference and gap_s > config.tolerance_ms / 1e3 else ""


def as_reference(image: NDArray[Any] | None, prediction: NDArray[Any]) -> NDArray[Any] | None:
    """A reference as a prediction needs it: reduced to luma where the prediction is grey."""
    return luma(image) if image is not None and image.ndim > prediction.ndim else image


def aligned(made: Made, truths: Iterator[NDArray[Any] | None], config: EvaluationConfig, place: str) -> Made:
    """The same images in the gauge that fits the references that are not None; held in a temporary file."""
    empty: list[bool] = []
    with tempfile.TemporaryFile() as store:
        shape: tuple[int, ...] = ()

        def pairs() -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
            nonlocal shape
            for (image, no_events), truth in zip(made, truths):
                store.write(np.ascontiguousarray(image, np.float32).data)
                shape = image.shape
                empty.append(no_events)
                yield image, as_reference(truth, image)

        try:
            gauge = fit_alignment(pairs(), config.align, logarithmic=config.logarithmic)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
        store.seek(0)
        for no_events in empty:
            image = np.frombuffer(store.read(4 * math.prod(shape)), np.float32).reshape(shape)
            yield gauge(image), no_events


def _made(predictor: Predictor, recording: Recording, items: Items, chosen: NDArray[np.int64]) -> Made:
    """Image of each chosen item, and whether its window is empty."""
    seconds = items.times[chosen]
    origin = recording.moved_to_origin if isinstance(recording, EvrealRecording) else 0

    def windows() -> Iterator[Window]:
        ranges = [(int(items.starts[k]), int(items.stops[k])) for k in chosen]
        pieces = events_in_ranges(recording.chunks(), ranges, recording.empty())
        return (Window(events, 1e6 * float(end)) for events, end in zip(pieces, seconds))

    # To the nanosecond, so that a time in seconds names the microsecond that it was written for.
    times_us = np.round(seconds * 1e6 - origin, 3)
    for one in predict(predictor, Scene(recording=recording, windows=windows), times_us):
        yield one.image, one.events == 0
