"""Evaluation of a network that turns events into images, on recordings with reference images."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.formats import Recording, open_events
from evsim.formats.evreal import EvrealRecording
from evsim.media import luma
from evsim.models.evaluation.items import Items, cut_items, events_in_ranges
from evsim.models.evaluation.protocol import (
    INFERENCE_LEAD_S,
    EvaluationConfig,
    Interval,
    scored_interval,
)
from evsim.models.evaluation.scoring import FrameScore, Scorer, SequenceScores, normalised
from evsim.models.evaluation.sequences import Sequence, images_in_order, read_clock
from evsim.models.offline import OfflineReconstructor, is_offline
from evsim.models.reconstruction import Reconstructor

Report = Callable[[int, int | None, str], None]
Keep = Callable[[int, float, float, NDArray[np.float32]], None]

BEFORE = "before the scored interval"
AFTER = "after the scored interval"
NO_REFERENCE = "no reference image in time"
NOT_INFERRED = "not inferred"


def plan_sequence(
    sequence: Sequence, config: EvaluationConfig, *, needs_reference: bool = True
) -> tuple[Recording, Items, Interval]:
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


def items_to_infer(items: Items, interval: Interval, config: EvaluationConfig) -> NDArray[np.int64]:
    """Positions of the items that a network is run on: from shortly before the interval to its end."""
    if config.windows.infer_all:
        return np.arange(len(items))
    inside = (items.times >= interval.start_s - INFERENCE_LEAD_S) & (items.times <= interval.stop_s)
    return np.flatnonzero(inside)


def evaluate_sequence(
    reconstructor: Reconstructor | OfflineReconstructor,
    sequence: Sequence,
    scorer: Scorer,
    config: EvaluationConfig,
    *,
    keep: Keep | None = None,
    report: Report | None = None,
) -> SequenceScores:
    """Scores on one recording; a network's state is reset once and carried from window to window.

    An offline method is fitted to the whole recording and asked for images at the times of the windows.

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
        _run(reconstructor, recording, items, scores, scorer, config, keep, report)
    scores.seconds = time.perf_counter() - started
    return scores


def _run(
    reconstructor: Reconstructor | OfflineReconstructor,
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
    frames = items.frames[chosen] if scorer.needs_reference else itertools.repeat(-1)
    ranges = [(int(items.starts[k]), int(items.stops[k])) for k in chosen]
    windows = events_in_ranges(recording.chunks(), ranges, recording.empty())
    references = images_in_order(recording, (int(frame) for frame in frames))
    if is_offline(reconstructor):
        made = _fitted(reconstructor, recording, items.times[chosen])
    else:
        made = _streamed(reconstructor, windows)
    for done, (k, (image, empty), reference) in enumerate(zip(chosen, made, references), 1):
        index, moment = int(items.index[k]), float(items.times[k])
        place = f"{scores.path}, item {index}"
        prediction = normalised(image, config.normalize, place)
        scores.look_at(prediction)
        scores.empty_windows += empty
        if keep:
            keep(index, moment, float(rates[k]), prediction)
        if moment < scores.interval.start_s:
            scores.leave_out(BEFORE)
        elif moment > scores.interval.stop_s:
            scores.leave_out(AFTER)
        elif scorer.needs_reference and items.gaps[k] > config.tolerance_ms / 1e3:
            scores.leave_out(NO_REFERENCE)
        else:
            truth = reference
            if reference is not None and prediction.ndim == 2:
                truth = grey_reference(reference, scores)
            values = scorer(prediction, truth, place)
            scores.add(FrameScore(index, moment, values), prediction, truth, scorer.metrics[0])
        if report:
            report(done, len(chosen), f"{scores.dataset}/{scores.sequence}")


def _streamed(
    reconstructor: Reconstructor, windows: Iterable[Events]
) -> Iterator[tuple[NDArray[np.float32], bool]]:
    """Image, and whether its window is empty."""
    reconstructor.reset()
    for events in windows:
        yield reconstructor.step(events), not len(events)


def _fitted(
    reconstructor: OfflineReconstructor, recording: Recording, seconds: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.float32], bool]]:
    """Image at each time of the sequence's clock; times may repeat, for which the method is asked once."""
    times, positions = np.unique(seconds, return_inverse=True)
    origin = recording.moved_to_origin if isinstance(recording, EvrealRecording) else 0
    # To the nanosecond, so that a time in seconds names the microsecond that it was written for.
    images = reconstructor.images(recording, np.round(times * 1e6 - origin, 3))
    position, image = -1, np.empty((0, 0), np.float32)
    for wanted in positions:
        while position < wanted:
            position, image = position + 1, next(images)
        yield image, False


def grey_reference(image: NDArray[Any], scores: SequenceScores) -> NDArray[Any]:
    """A reference for a grey prediction: colour is reduced to luma, and counted."""
    if image.ndim == 2:
        return image
    scores.grey_references += 1
    return luma(image)
