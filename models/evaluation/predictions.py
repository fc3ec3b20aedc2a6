"""Evaluation of images that are already there: folders of predictions against ground truth.

Against a folder of images, images are paired in natural order and their counts must agree. Against a
recording, they are matched by the times in the folder's timestamps.txt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.formats import open_events
from evsim.media import read_image
from evsim.models.evaluation.alignment import as_light, fit_alignment
from evsim.models.evaluation.items import nearest_images
from evsim.models.evaluation.network import Report, as_reference, why_unscored
from evsim.models.evaluation.protocol import EvaluationConfig, scored_interval
from evsim.models.evaluation.scoring import FrameScore, Scorer, SequenceScores, normalised
from evsim.models.evaluation.sequences import (
    EvaluatedSequence,
    image_files,
    images_in_order,
    number_of,
    read_clock,
    read_times,
)

INPUTS = "inputs of the interpolation"
BEYOND = "after the last input"


def match_folders(
    predictions: Path, sequences: Sequence[EvaluatedSequence], method: str | None = None
) -> list[tuple[Path, EvaluatedSequence]]:
    """The folder of predictions of each sequence.

    One sequence alone may lie in `predictions` itself; else in <sequence> or <data set>/<sequence> below it,
    with a folder of the method's name below that if `method` is given. Raises InputError that lists the
    sequences without predictions.
    """
    if not predictions.is_dir():
        raise InputError(f"{predictions} is not a folder of images")
    if len(sequences) == 1 and method is None and image_files(predictions):
        return [(predictions, sequences[0])]
    below = Path(method or ".")
    matched, missing = [], []
    for sequence in sequences:
        places = (Path(sequence.name), Path(sequence.dataset) / sequence.name, Path())
        folders = [predictions / place / below for place in places[: 3 if len(sequences) == 1 else 2]]
        folder = next((one for one in folders if one.is_dir() and image_files(one)), None)
        if folder is None:
            missing.append(sequence.name)
        else:
            matched.append((folder, sequence))
    if missing:
        raise InputError(
            f"{predictions} holds no images for {len(missing)} of {len(sequences)} sequences: "
            f"{', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}; expected folders of these names"
            f"{'' if method is None else f' with {method} in each'}"
        )
    return matched


def unmatched_folders(
    predictions: Path, matched: Sequence[tuple[Path, EvaluatedSequence]], method: str | None = None
) -> list[Path]:
    """Folders of images under `predictions`, only those called `method` if given, that have no sequence."""
    used = {folder.resolve() for folder, _ in matched}
    folders = [path for path in (predictions, *predictions.rglob("*")) if path.is_dir() and image_files(path)]
    return sorted(path for path in folders if path.resolve() not in used and method in (None, path.name))


def evaluate_folder(
    folder: Path,
    sequence: EvaluatedSequence | None,
    scorer: Scorer,
    config: EvaluationConfig,
    *,
    report: Report | None = None,
) -> SequenceScores:
    """Scores of the images in a folder; sequence: the ground truth, None for metrics without reference.

    Raises InputError for counts, names, sizes or times that do not fit together.
    """
    started = time.perf_counter()
    files = image_files(folder)
    if not files:
        raise InputError(f"{folder} holds no images")
    if sequence is None:
        scores = SequenceScores(dataset=folder.parent.name, sequence=folder.name, path=folder)
        _score_pairs(files, None, scores, scorer, config, report)
    elif sequence.kind == "images":
        if (config.start_s, config.stop_s) != (None, None):
            raise InputError(f"{sequence.path} has no times, so no scored interval can be chosen in it")
        scores = SequenceScores(dataset=sequence.dataset, sequence=sequence.name, path=sequence.path)
        _score_pairs(files, pair_files(folder, sequence.path), scores, scorer, config, report)
    else:
        if config.inserted > 1:
            raise InputError(
                f"{sequence.path} is a recording, whose images are matched by time; inserted = "
                f"{config.inserted} is for folders of frames"
            )
        scores = SequenceScores(
            dataset=sequence.dataset,
            sequence=sequence.name,
            path=sequence.path,
            interval=scored_interval(sequence.dataset, sequence.name, config),
        )
        _score_by_time(folder, files, scores, scorer, config, report)
    scores.seconds = time.perf_counter() - started
    return scores


def pair_files(predictions: Path, references: Path) -> list[Path]:
    """The reference of each prediction: both folders in natural order.

    Raises InputError where counts differ, or where some but not all names agree: then one frame is missing.
    """
    first, second = image_files(predictions), image_files(references)
    if len(first) != len(second):
        raise InputError(
            f"{predictions} holds {len(first)} images and {references} {len(second)}; expected as many: "
            "remove those without a partner"
        )
    ours, theirs = {file.stem for file in first}, {file.stem for file in second}
    if ours & theirs and ours != theirs:
        raise InputError(
            f"{predictions} and {references} agree in {len(ours & theirs)} names of {len(first)}, but "
            f"{min(ours - theirs)} and {min(theirs - ours)} have no partner; expected all names to agree, or "
            "none, in which case images are paired in order"
        )
    return second


def _score_pairs(
    files: list[Path],
    references: list[Path] | None,
    scores: SequenceScores,
    scorer: Scorer,
    config: EvaluationConfig,
    report: Report | None,
) -> None:
    scores.items = len(files)
    last_input = (len(files) - 1) // config.inserted * config.inserted
    scored = [k for k in range(last_input + 1) if config.inserted == 1 or k % config.inserted]
    prepared = _preparation(
        ((files[k], None if references is None else read_image(references[k])) for k in scored), config
    )
    for k, file in enumerate(files):
        if config.inserted > 1 and k > last_input:
            scores.leave_out(BEYOND)
        elif config.inserted > 1 and k % config.inserted == 0:
            scores.leave_out(INPUTS)
        else:
            prediction = prepared(file)
            truth = None if references is None else read_image(references[k])
            scores.look_at(prediction)
            place = f"{file}{'' if references is None else f' and {references[k]}'}"
            values = scorer(prediction, truth, place)
            scores.add(FrameScore(k, None, values, file.name), prediction, truth, scorer.metrics[0])
        if report:
            report(k + 1, len(files), f"{scores.dataset}/{scores.sequence}")


def _score_by_time(
    folder: Path,
    files: list[Path],
    scores: SequenceScores,
    scorer: Scorer,
    config: EvaluationConfig,
    report: Report | None,
) -> None:
    times = read_times(folder, files)
    scores.items = len(files)
    with open_events(scores.path) as recording:
        if scorer.needs_reference and not recording.image_count:
            raise InputError(f"{scores.path} holds no images to compare with")
        images = read_clock(recording).images
        nearest = nearest_images(images, times)
        truths = images_in_order(recording, nearest.tolist())
        gaps = np.abs(images[nearest] - times) if len(images) else np.full(len(times), np.inf)
        reasons = [
            why_unscored(moment, gap, scores.interval, scorer, config) for moment, gap in zip(times, gaps)
        ]
        known = zip(files, images_in_order(recording, nearest.tolist()), reasons)
        prepared = _preparation(((file, truth) for file, truth, reason in known if not reason), config)
        for k, (file, moment, frame, truth, reason) in enumerate(zip(files, times, nearest, truths, reasons)):
            if reason:
                scores.leave_out(reason)
            else:
                prediction = prepared(file)
                scores.look_at(prediction)
                compared = as_reference(truth, prediction)
                scores.grey_references += compared is not truth
                values = scorer(prediction, compared, f"{file} and image {frame} of {scores.path}")
                index = number_of(file) if number_of(file) >= 0 else k
                score = FrameScore(index, float(moment), values, file.name)
                scores.add(score, prediction, compared, scorer.metrics[0])
            if report:
                report(k + 1, len(files), f"{scores.dataset}/{scores.sequence}")


Prepare = Callable[[Path], NDArray[Any]]


def _preparation(pairs: Iterable[tuple[Path, NDArray[Any] | None]], config: EvaluationConfig) -> Prepare:
    """What reads a prediction as it is scored: codes as they are, or floats that are stretched or aligned.

    pairs: the scored files, each with its reference; read only to fit an alignment.
    """
    if config.align != "none":
        read = ((read_image(file), truth) for file, truth in pairs)
        matched = ((image, as_reference(truth, image)) for image, truth in read)
        gauge = fit_alignment(matched, config.align, logarithmic=config.logarithmic)
        return lambda file: gauge(read_image(file))
    if config.normalize == "none":
        return read_image
    return lambda file: normalised(as_light(read_image(file)), config.normalize, str(file))
