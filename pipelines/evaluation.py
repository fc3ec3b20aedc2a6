"""A whole evaluation: sequences scored, EVREAL's output tree, tables and page: behind `evsim evaluate`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evsim.errors import InputError
from evsim.files import atomic_output, require_absent
from evsim.models.evaluation import predictions as folders
from evsim.models.evaluation.network import Report, evaluate_sequence, items_to_infer, plan_sequence
from evsim.models.evaluation.protocol import EvaluationConfig
from evsim.models.evaluation.results import (
    Evaluation,
    SequenceWriter,
    frames_csv,
    sequence_folder,
    summary_json,
    table_csv,
)
from evsim.models.evaluation.scoring import Scorer, SequenceScores
from evsim.models.evaluation.sequences import Sequence as EvaluatedSequence
from evsim.models.evaluation.sequences import find_sequences
from evsim.models.prediction.predictor import Predictor
from evsim.pipelines.reports.evaluation_page import render_page

PICTURED = 8
"""Sequences whose worst and best frames are kept for the page."""
PAIRS = "pairs"
"""Where results of predictions are filed that evsim did not make."""


def gather_sequences(data: Sequence[Path]) -> tuple[list[EvaluatedSequence], list[str]]:
    """The sequences under all folders, and the paths of what lay beside them.

    Raises InputError for two sequences of one name.
    """
    found: list[EvaluatedSequence] = []
    strays: list[str] = []
    for folder in data:
        sequences, left = find_sequences(folder)
        found += sequences
        strays += [str(path) for path in left]
    names: dict[tuple[str, str], Path] = {}
    for one in found:
        other = names.setdefault((one.dataset, one.name), one.path)
        if other is not one.path:
            raise InputError(
                f"{other} and {one.path} are both sequence {one.name} of data set {one.dataset}; "
                "their results would overwrite each other: evaluate them apart"
            )
    return found, strays


def evaluate_network(
    predictor: Predictor,
    sequences: Sequence[EvaluatedSequence],
    scorer: Scorer,
    config: EvaluationConfig,
    *,
    method: str,
    output: Path | None = None,
    images: bool | None = None,
    overwrite: bool = False,
    origin: Mapping[str, Any] | None = None,
    left_out: Sequence[str] = (),
    report: Report | None = None,
) -> Evaluation:
    """A network on every sequence; with `output`, EVREAL's tree and the tables are written there.

    images: whether reconstructions are written, by default as EVREAL's protocol has it. Raises InputError for
    sequences that cannot be evaluated and outputs that exist, before anything is computed where possible.
    """
    require_recordings(sequences)
    require_free(sequences, config, method=method, output=output, overwrite=overwrite)
    saved = config.windows.images if images is None else images
    scores: list[SequenceScores] = []
    for one in sequences:
        with contextlib.ExitStack() as open_files:
            writer = None
            if output is not None:
                place = sequence_folder(output, config.protocol, one.dataset, one.name, method)
                folder = open_files.enter_context(atomic_output(place, overwrite=overwrite))
                folder.mkdir()
                writer = open_files.enter_context(SequenceWriter(folder, images=saved))
            keep = writer.keep if writer else None
            found = evaluate_sequence(predictor, one, scorer, config, keep=keep, report=report)
            if writer:
                writer.finish(found, scorer.metrics)
            scores.append(_without_pictures(found, len(scores)))
    evaluation = Evaluation(
        method=method,
        config=config,
        metrics=scorer.metrics,
        sequences=tuple(scores),
        protocol=config.protocol,
        origin=dict(origin or {}),
        left_out=tuple(left_out),
    )
    if output is not None:
        write_results(evaluation, output, overwrite=overwrite)
    return evaluation


def evaluate_predictions(
    predictions: Path,
    sequences: Sequence[EvaluatedSequence],
    scorer: Scorer,
    config: EvaluationConfig,
    *,
    method: str | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    left_out: Sequence[str] = (),
    report: Report | None = None,
) -> Evaluation:
    """Folders of images against their ground truth; without sequences, for metrics that need none.

    method: name of the folder that holds the images of each sequence. Raises InputError for predictions or
    sequences without a partner in the other, and for outputs that exist.
    """
    name = method or predictions.resolve().name
    pairs = match_predictions(predictions, sequences, scorer, method)
    if output is not None:
        for path in result_files(output, PAIRS, name).values():
            require_absent(path, overwrite=overwrite)
    scores: list[SequenceScores] = []
    for folder, one in pairs:
        found = folders.evaluate_folder(folder, one, scorer, config, report=report)
        scores.append(_without_pictures(found, len(scores)))
    matched = [(folder, one) for folder, one in pairs if one is not None]
    unmatched = folders.unmatched_folders(predictions, matched, method) if matched else []
    if unmatched:
        warnings.warn(
            f"{predictions}: {len(unmatched)} folders of images belong to no sequence, {unmatched[0]} ...",
            UserWarning,
            stacklevel=2,
        )
    evaluation = Evaluation(
        method=name,
        config=config,
        metrics=scorer.metrics,
        sequences=tuple(scores),
        protocol=PAIRS,
        origin={"predictions": str(predictions)},
        left_out=(*left_out, *map(str, unmatched)),
    )
    if output is not None:
        write_results(evaluation, output, overwrite=overwrite)
    return evaluation


def _without_pictures(scores: SequenceScores, position: int) -> SequenceScores:
    """Scores as they are, from some position on without the frames that would fill memory."""
    if position >= PICTURED:
        scores.samples.clear()
    return scores


def match_predictions(
    predictions: Path, sequences: Sequence[EvaluatedSequence], scorer: Scorer, method: str | None
) -> list[tuple[Path, EvaluatedSequence | None]]:
    """The folders of predictions with the sequence that each belongs to, None without ground truth."""
    if sequences:
        return list(folders.match_folders(predictions, sequences, method))
    if scorer.needs_reference:
        ids = ", ".join(metric.id for metric in scorer.metrics if metric.inputs != "image")
        raise InputError(f"{ids} compare with ground truth; pass its folder with --data")
    found = folders.unmatched_folders(predictions, [], method)
    if not found:
        raise InputError(f"{predictions} holds no folder of images")
    return [(folder, None) for folder in found]


def require_recordings(sequences: Sequence[EvaluatedSequence]) -> None:
    """InputError unless there are sequences and all hold events."""
    if not sequences:
        raise InputError("no data; pass folders of recordings with --data")
    for one in sequences:
        if one.kind != "recording":
            raise InputError(f"{one.path} is a folder of images without events; a network needs a recording")


def require_free(
    sequences: Sequence[EvaluatedSequence],
    config: EvaluationConfig,
    *,
    method: str,
    output: Path | None,
    overwrite: bool,
) -> None:
    """InputError if something is where results will be written and may not be replaced."""
    if output is None:
        return
    places = [sequence_folder(output, config.protocol, one.dataset, one.name, method) for one in sequences]
    for path in (*result_files(output, config.protocol, method).values(), *places):
        require_absent(path, overwrite=overwrite)


def result_files(output: Path, protocol: str, method: str) -> dict[str, Path]:
    """Where tables and page are written."""
    folder = output / protocol
    return {
        "summary": folder / f"{method}.json",
        "table": folder / f"{method}.csv",
        "frames": folder / f"{method}.frames.csv",
        "page": folder / f"{method}.html",
    }


def write_results(evaluation: Evaluation, output: Path, *, overwrite: bool = False) -> dict[str, Path]:
    """Write summary, tables and page; returns their paths. Raises InputError for files that exist."""
    paths = result_files(output, evaluation.protocol, evaluation.method)
    texts = {
        "summary": summary_json(evaluation),
        "table": table_csv(evaluation),
        "frames": frames_csv(evaluation),
        "page": render_page(evaluation),
    }
    for name, path in paths.items():
        with atomic_output(path, overwrite=overwrite) as temporary:
            temporary.write_text(texts[name], encoding="utf-8")
    return paths


def plan_network(
    sequences: Sequence[EvaluatedSequence],
    scorer: Scorer,
    config: EvaluationConfig,
    *,
    method: str,
    output: Path | None = None,
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """What a network would be run on: size, items and interval of each sequence; nothing is written."""
    require_recordings(sequences)
    require_free(sequences, config, method=method, output=output, overwrite=overwrite)
    rows = []
    for one in sequences:
        recording, items, interval = plan_sequence(one, config, needs_reference=scorer.needs_reference)
        with recording:
            in_time = items.gaps <= config.tolerance_ms / 1e3
            inside = (items.times >= interval.start_s) & (items.times <= interval.stop_s)
            scored = inside & in_time if scorer.needs_reference else inside
            rows.append(
                {
                    "dataset": one.dataset,
                    "sequence": one.name,
                    "size": f"{recording.width}x{recording.height}",
                    "events": len(recording),
                    "items": len(items),
                    "predictions": len(items_to_infer(items, interval, config)),
                    "scored": int(scored.sum()),
                }
            )
    return rows
