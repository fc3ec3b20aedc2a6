"""A whole evaluation: sequences scored, EVREAL's output tree, tables and page: behind `evsim evaluate`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from evsim.errors import InputError
from evsim.files import atomic_output, require_absent
from evsim.models.evaluation import predictions as folders
from evsim.models.evaluation.flow import evaluate_flow, find_flow_pairs
from evsim.models.evaluation.frames import evaluate_frames
from evsim.models.evaluation.network import evaluate_sequence, items_to_infer, plan_sequence
from evsim.models.evaluation.protocol import EvaluationConfig
from evsim.models.evaluation.results import (
    Evaluation,
    RoleWriter,
    SequenceWriter,
    frames_csv,
    sequence_folder,
    summary_json,
    table_csv,
)
from evsim.models.evaluation.samples import open_samples
from evsim.models.evaluation.scoring import Scorer, SequenceScores
from evsim.models.evaluation.sequences import EvaluatedSequence, find_sequences
from evsim.models.prediction.flow import FlowEstimator
from evsim.models.prediction.needs import Needs
from evsim.models.prediction.predictor import Predictor
from evsim.models.registry import Role
from evsim.pipelines.reports.evaluation_page import render_page
from evsim.progress import Report

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
    """A network that reconstructs on every sequence; with `output`, EVREAL's tree and tables are written.

    images: whether reconstructions are written, by default as EVREAL's protocol has it. Raises InputError for
    sequences that cannot be evaluated and outputs that exist, before anything is computed where possible.
    """
    require_recordings(sequences)
    saved = config.windows.images if images is None else images

    def evaluate_one(one: EvaluatedSequence, folder: Path | None) -> SequenceScores:
        if folder is None:
            return evaluate_sequence(predictor, one, scorer, config, report=report)
        with SequenceWriter(folder, images=saved) as writer:
            found = evaluate_sequence(predictor, one, scorer, config, keep=writer.keep, report=report)
            writer.finish(found, scorer.metrics)
        return found

    whole = _Whole(method, config.protocol, scorer, config, dict(origin or {}), tuple(left_out))
    return _evaluate_all(evaluate_one, sequences, whole, output, overwrite)


def evaluate_role(
    network: Predictor | FlowEstimator,
    role: Role,
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
    """A network in any role on every sequence; see `evaluate_network`, which serves the role reconstruct.

    network: a flow estimator for the role flow, else a predictor. images: whether what it makes is written,
    as it is by default.
    """
    given: dict[str, Any] = {
        "method": method,
        "output": output,
        "overwrite": overwrite,
        "left_out": left_out,
    }
    if role == "reconstruct":
        return evaluate_network(
            cast(Predictor, network),
            sequences,
            scorer,
            config,
            images=images,
            origin=origin,
            report=report,
            **given,
        )
    require_sequences(sequences)
    saved = images is not False

    def evaluate_one(one: EvaluatedSequence, folder: Path | None) -> SequenceScores:
        writer = None if folder is None else RoleWriter(folder, images=saved)
        if role == "flow":
            keep_flow = writer.keep_flow if writer else None
            estimator = cast(FlowEstimator, network)
            found = evaluate_flow(estimator, one, scorer, config, keep=keep_flow, report=report)
        else:
            keep = writer.keep if writer else None
            predictor = cast(Predictor, network)
            found = evaluate_frames(predictor, role, one, scorer, config, keep=keep, report=report)
        if writer:
            writer.finish(found, scorer.metrics)
        return found

    whole = _Whole(
        method, filed_under(role, config), scorer, config, {**(origin or {}), "role": role}, tuple(left_out)
    )
    return _evaluate_all(evaluate_one, sequences, whole, output, overwrite)


def filed_under(role: Role, config: EvaluationConfig) -> str:
    """The name of the folder of results: the protocol, or what takes its place in the other roles."""
    names = {"reconstruct": config.protocol, "interpolate": f"inserted{config.inserted}"}
    return names.get(role, role)


class _Whole(NamedTuple):
    """What the results of all sequences have in common."""

    method: str
    protocol: str
    scorer: Scorer
    config: EvaluationConfig
    origin: Mapping[str, Any]
    left_out: tuple[str, ...]


def _evaluate_all(
    evaluate_one: Callable[[EvaluatedSequence, Path | None], SequenceScores],
    sequences: Sequence[EvaluatedSequence],
    whole: _Whole,
    output: Path | None,
    overwrite: bool,
) -> Evaluation:
    """All sequences one after another; each is given the folder that its results are written into."""
    require_free(sequences, whole.protocol, method=whole.method, output=output, overwrite=overwrite)
    scores: list[SequenceScores] = []
    for one in sequences:
        with contextlib.ExitStack() as open_files:
            folder = None
            if output is not None:
                place = sequence_folder(output, whole.protocol, one.dataset, one.name, whole.method)
                folder = open_files.enter_context(atomic_output(place, overwrite=overwrite))
                folder.mkdir()
            scores.append(_without_pictures(evaluate_one(one, folder), len(scores)))
    evaluation = Evaluation(
        method=whole.method,
        config=whole.config,
        metrics=whole.scorer.metrics,
        sequences=tuple(scores),
        protocol=whole.protocol,
        origin=whole.origin,
        left_out=whole.left_out,
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


def require_sequences(sequences: Sequence[EvaluatedSequence]) -> None:
    """InputError unless there are sequences."""
    if not sequences:
        raise InputError("no data; pass folders of recordings or of images with --data")


def require_recordings(sequences: Sequence[EvaluatedSequence]) -> None:
    """InputError unless there are sequences and all hold events."""
    if not sequences:
        raise InputError("no data; pass folders of recordings with --data")
    for one in sequences:
        if one.kind != "recording":
            raise InputError(f"{one.path} is a folder of images without events; a network needs a recording")


def require_free(
    sequences: Sequence[EvaluatedSequence],
    protocol: str,
    *,
    method: str,
    output: Path | None,
    overwrite: bool,
) -> None:
    """InputError if something is where results will be written and may not be replaced."""
    if output is None:
        return
    places = [sequence_folder(output, protocol, one.dataset, one.name, method) for one in sequences]
    for path in (*result_files(output, protocol, method).values(), *places):
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
    require_free(sequences, config.protocol, method=method, output=output, overwrite=overwrite)
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


def plan_role(
    needs: Needs,
    role: Role,
    sequences: Sequence[EvaluatedSequence],
    scorer: Scorer,
    config: EvaluationConfig,
    *,
    method: str,
    output: Path | None = None,
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """What a network in any role would be asked for on each sequence; nothing is written."""
    places: dict[str, Any] = {"method": method, "output": output, "overwrite": overwrite}
    if role == "reconstruct":
        return plan_network(sequences, scorer, config, **places)
    require_sequences(sequences)
    require_free(sequences, filed_under(role, config), **places)
    rows: list[dict[str, Any]] = []
    for one in sequences:
        names = {"dataset": one.dataset, "sequence": one.name}
        if role == "flow":
            pairs, count = find_flow_pairs(one)
            rows.append({**names, "pairs": count, "predictions": len(pairs)})
        else:
            with open_samples(one, role, config, events=needs.events) as samples:
                wanted = len(samples.wanted)
                rows.append(
                    {**names, "images": wanted + sum(samples.unscored.values()), "predictions": wanted}
                )
    return rows
