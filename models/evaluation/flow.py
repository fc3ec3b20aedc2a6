"""Evaluation of flow estimators: pairs of images whose motion is known.

A sequence is a folder of images with a folder `flow` in it: the truth from an image to the next one has the
name of the first, such as `0001.png` and `flow/0001.flo`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.media import natural_key, read_image
from evsim.media.flow_files import FLOW_KINDS, read_flow
from evsim.models.evaluation.protocol import EvaluationConfig
from evsim.models.evaluation.scoring import FrameScore, Scorer, SequenceScores
from evsim.models.evaluation.sequences import EvaluatedSequence, image_files
from evsim.models.prediction.flow import FlowEstimator
from evsim.models.prediction.frames import full_scale_1
from evsim.progress import Report

TRUTH_FOLDER = "flow"
NO_TRUTH = "without a true flow"

KeepFlow = Callable[[int, NDArray[np.float32]], None]


class FlowPair(NamedTuple):
    """Two images and the file of the motion from the first to the second; number: of the first."""

    number: int
    image0: Path
    image1: Path
    truth: Path


def find_flow_pairs(sequence: EvaluatedSequence) -> tuple[list[FlowPair], int]:
    """The pairs of a sequence whose motion is known, in order, and how many pairs there are in all.

    Raises InputError for a sequence without any, and for a true flow that belongs to no pair.
    """
    folder = sequence.path
    if sequence.kind != "images":
        raise InputError(
            f"{folder} is a recording; a flow is compared on folders of images with their true flow"
        )
    truths: dict[str, Path] = {}
    places = sorted((folder / TRUTH_FOLDER).glob("*"), key=lambda path: natural_key(path.name))
    for path in places:
        if path.suffix in FLOW_KINDS and not path.name.startswith("."):
            other = truths.setdefault(path.stem, path)
            if other != path:
                raise InputError(f"{other} and {path} are both the flow of one pair, expected one file")
    images = image_files(folder)
    pairs = [
        FlowPair(k, first, second, truths.pop(first.stem))
        for k, (first, second) in enumerate(itertools.pairwise(images))
        if first.stem in truths
    ]
    if truths:
        raise InputError(
            f"{next(iter(truths.values()))} belongs to no image of {folder} that another one follows"
        )
    if not pairs:
        raise InputError(
            f"{folder} has no true flow, expected files such as {TRUTH_FOLDER}/{images[0].stem}.flo in it"
        )
    return pairs, len(images) - 1


def evaluate_flow(
    estimator: FlowEstimator,
    sequence: EvaluatedSequence,
    scorer: Scorer,
    config: EvaluationConfig,
    *,
    keep: KeepFlow | None = None,
    report: Report | None = None,
) -> SequenceScores:
    """Scores of the flow of every pair whose truth is known, by metrics of `FLOW_METRICS`.

    keep: called with (number, flow (H, W, 2)) for every prediction. report: called with (pairs done,
    expected, a few words). Raises InputError for a sequence or a flow that cannot be evaluated.
    """
    started = time.perf_counter()
    pairs, count = find_flow_pairs(sequence)
    scores = SequenceScores(dataset=sequence.dataset, sequence=sequence.name, path=sequence.path, items=count)
    scores.leave_out(NO_TRUTH, count - len(pairs))
    for done, pair in enumerate(pairs, 1):
        flow = estimator.flow(*(full_scale_1(read_image(file)) for file in (pair.image0, pair.image1)))
        truth = read_flow(pair.truth, config.flow_png)
        scores.predictions += 1
        if keep:
            keep(pair.number, flow)
        values = scorer(flow, truth, f"{pair.image0} and {pair.truth}")
        score = FrameScore(pair.number, None, values, pair.image0.name)
        longest = float(np.nanmax(np.hypot(truth[..., 0], truth[..., 1])))
        scores.add(score, _picture(flow, longest), _picture(truth, longest), scorer.metrics[0])
        if report:
            report(done, len(pairs), f"{scores.dataset}/{scores.sequence}")
    scores.seconds = time.perf_counter() - started
    return scores


def _picture(flow: NDArray[np.float32], longest: float) -> NDArray[np.uint8]:
    """A flow as colours to look at: hue is direction, saturation length, black where it is not known."""
    known = np.isfinite(flow).all(-1)
    x, y = (np.where(known, flow[..., k], 0.0) for k in (0, 1))
    hue = np.mod(np.degrees(np.arctan2(y, x)), 360) / 2
    saturation = 255 * np.clip(np.hypot(x, y) / max(longest, 1e-6), 0, 1)
    codes: NDArray[Any] = np.stack((hue, saturation, np.where(known, 255, 0)), -1).astype(np.uint8)
    return np.asarray(cv2.cvtColor(codes, cv2.COLOR_HSV2RGB), np.uint8)
