"""Evaluation of networks that make frames of frames: interpolation and deblurring, on samples with truth."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.models.evaluation.network import Made, aligned, as_reference, why_unscored
from evsim.models.evaluation.protocol import EvaluationConfig, scored_interval
from evsim.models.evaluation.samples import FrameRole, Sample, SequenceSamples, open_samples
from evsim.models.evaluation.scoring import FrameScore, Scorer, SequenceScores, normalised
from evsim.models.evaluation.sequences import EvaluatedSequence
from evsim.models.prediction.predictor import Predictor, predict
from evsim.progress import Report

KeepImage = Callable[[int, float | None, NDArray[np.float32]], None]


def evaluate_frames(
    predictor: Predictor,
    role: FrameRole,
    sequence: EvaluatedSequence,
    scorer: Scorer,
    config: EvaluationConfig,
    *,
    keep: KeepImage | None = None,
    report: Report | None = None,
) -> SequenceScores:
    """Scores of the images of one sequence that the role asks for; see `open_samples`.

    keep: called with (number, seconds or None, image (H, W) or (H, W, 3) not clipped) for every prediction.
    report: called with (predictions done, expected, a few words). Raises InputError for a sequence, or an
    image, that cannot be evaluated.
    """
    started = time.perf_counter()
    scores = SequenceScores(
        dataset=sequence.dataset,
        sequence=sequence.name,
        path=sequence.path,
        interval=scored_interval(sequence.dataset, sequence.name, config),
    )
    with open_samples(sequence, role, config, events=predictor.needs.events) as samples:
        _score(predictor, samples, scores, scorer, config, keep, report)
    scores.seconds = time.perf_counter() - started
    return scores


def _score(
    predictor: Predictor,
    samples: SequenceSamples,
    scores: SequenceScores,
    scorer: Scorer,
    config: EvaluationConfig,
    keep: KeepImage | None,
    report: Report | None,
) -> None:
    scores.items = len(samples.wanted) + sum(samples.unscored.values())
    for reason, count in samples.unscored.items():
        scores.leave_out(reason, count)
    reasons = [_why_unscored(sample, scores, scorer, config) for sample in samples.wanted]
    times = np.array([sample.time_us for sample in samples.wanted], np.float64)
    made: Made = ((one.image, False) for one in predict(predictor, samples.scene, times))
    if config.align != "none":
        shown = (None if reason else truth for truth, reason in zip(samples.truths(), reasons))
        made = aligned(made, shown, config, str(scores.path))
    rows = zip(samples.wanted, made, samples.truths(), reasons)
    for done, (sample, (image, _), truth, reason) in enumerate(rows, 1):
        prediction = normalised(image, config.normalize, sample.key)
        scores.look_at(prediction)
        if keep:
            keep(sample.number, sample.time_s, prediction)
        if reason:
            scores.leave_out(reason)
        else:
            compared = as_reference(truth, prediction)
            scores.grey_references += compared is not truth
            values = scorer(prediction, compared, sample.key)
            scores.add(
                FrameScore(sample.number, sample.time_s, values), prediction, compared, scorer.metrics[0]
            )
        if report:
            report(done, len(samples.wanted), f"{scores.dataset}/{scores.sequence}")


def _why_unscored(sample: Sample, scores: SequenceScores, scorer: Scorer, config: EvaluationConfig) -> str:
    if sample.time_s is None:
        if (config.start_s, config.stop_s) != (None, None):
            raise InputError(f"{scores.path} has no times, so no scored interval can be chosen in it")
        return ""
    return why_unscored(sample.time_s, 0.0, scores.interval, scorer, config)
