"""Results of an evaluation as data, text tables and files; every number stands beside its metric's id."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from evsim import __version__, configuration
from evsim.errors import RunError
from evsim.media.flow_files import flow_bytes
from evsim.metrics import Metric
from evsim.models.evaluation.protocol import EvaluationConfig
from evsim.models.evaluation.scoring import SequenceScores, dataset_mean

EVREAL_NAMES = {"ssim:evreal": "ssim", "lpips:alex": "lpips"}
"""Metrics whose scores EVREAL writes under a name of its own; the others by their id."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One method on all sequences."""

    method: str
    """What the predictions are called in results."""
    config: EvaluationConfig
    """How they were compared."""
    metrics: tuple[Metric, ...]
    """What was computed."""
    sequences: tuple[SequenceScores, ...]
    """What was found, in order."""
    protocol: str
    """Name of the protocol, or of the way of pairing, under which results are filed."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Network, weights and device, or the folder of predictions."""
    left_out: tuple[str, ...] = ()
    """What lay beside the sequences or predictions and belongs to none."""

    @property
    def title(self) -> str:
        """Method, protocol, and what is done to images before they are scored."""
        return ", ".join(filter(None, (self.method, self.protocol, self.config.preparation)))

    def datasets(self) -> dict[str, list[SequenceScores]]:
        """Sequences by data set, in order."""
        found: dict[str, list[SequenceScores]] = {}
        for one in self.sequences:
            found.setdefault(one.dataset, []).append(one)
        return found

    def summary(self) -> dict[str, Any]:
        """Everything but the single frames, ready for JSON; a mean is None where nothing was scored."""
        return {
            "format": "evsim.evaluation",
            "versions": {"evsim": __version__, "numpy": np.__version__, "torch": torch.__version__},
            "method": self.method,
            **self.origin,
            "protocol": self.protocol,
            "preparation": self.config.preparation,
            "average": self.config.average,
            "metrics": {
                metric.id: {
                    "definition": metric.definition,
                    "better": "higher" if metric.higher_is_better else "lower",
                }
                for metric in self.metrics
            },
            "datasets": [self._dataset(name, found) for name, found in self.datasets().items()],
            "sequences": [self._sequence(one) for one in self.sequences],
            "left_out": list(self.left_out),
            "config": configuration.to_tree(self.config),
        }

    def _dataset(self, name: str, found: list[SequenceScores]) -> dict[str, Any]:
        means = {metric.id: dataset_mean(found, metric.id, self.config) for metric in self.metrics}
        return {
            "dataset": name,
            "sequences": len(found),
            "scored": sum(len(one.frames) for one in found),
            "means": plain(means),
        }

    def _sequence(self, one: SequenceScores) -> dict[str, Any]:
        not_finite = {metric.id: one.not_finite(metric.id) for metric in self.metrics}
        interval = one.interval
        return {
            "dataset": one.dataset,
            "sequence": one.sequence,
            "path": str(one.path),
            "items": one.items,
            "predictions": one.predictions,
            "scored": len(one.frames),
            "unscored": dict(one.unscored),
            "scored_s": [value if math.isfinite(value) else None for value in interval[:2]],
            "scored_s_from": interval.origin or "whole sequence",
            "empty_windows": one.empty_windows,
            "share_outside_0_1": one.values_outside / one.values if one.values else None,
            "grey_references": one.grey_references,
            "not_finite": {name: count for name, count in not_finite.items() if count},
            "means": plain({metric.id: one.mean(metric.id, self.config) for metric in self.metrics}),
            "seconds": one.seconds,
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row a sequence and one a data set: names, counts and means by metric id."""
        rows = []
        for name, found in self.datasets().items():
            if len(found) > 1:
                rows += [self._row(name, one.sequence, self._sequence(one)) for one in found]
            whole = self._dataset(name, found)
            label = found[0].sequence if len(found) == 1 else f"mean over {self.config.average}"
            rows.append(self._row(name, label, whole))
        return rows

    def _row(self, dataset: str, sequence: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "method": self.method,
            "protocol": self.protocol,
            "preparation": self.config.preparation,
            "dataset": dataset,
            "sequence": sequence,
            "scored": numbers["scored"],
            **numbers["means"],
        }


def plain(values: Mapping[str, float | None]) -> dict[str, Any]:
    """Values that JSON can hold: those that are not finite become words."""
    return {
        name: value if value is None or math.isfinite(value) else str(value) for name, value in values.items()
    }


def text_table(evaluation: Evaluation) -> list[str]:
    """Lines of an aligned table, sequences by metrics; a dash where nothing was scored."""
    rows = evaluation.rows()
    columns = ["dataset", "sequence", "scored", *(metric.id for metric in evaluation.metrics)]
    cells = [columns, *([_cell(row[name]) for name in columns] for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(columns))]
    lines = []
    for row in cells:
        words = [cell.ljust(width) for cell, width in zip(row[:2], widths)]
        numbers = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:])]
        lines.append("  ".join(words + numbers).rstrip())
    return lines


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def table_csv(evaluation: Evaluation) -> str:
    """The table as CSV, means in full precision."""
    columns = ["method", "protocol", "preparation", "dataset", "sequence", "scored"]
    columns += [one.id for one in evaluation.metrics]
    return _csv(columns, ([row[name] for name in columns] for row in evaluation.rows()))


def frames_csv(evaluation: Evaluation) -> str:
    """One line for each scored frame, as CSV."""
    ids = [metric.id for metric in evaluation.metrics]
    rows = (
        [
            one.dataset,
            one.sequence,
            frame.index,
            frame.time_s,
            frame.name,
            *(frame.values[name] for name in ids),
        ]
        for one in evaluation.sequences
        for frame in one.frames
    )
    return _csv(["dataset", "sequence", "index", "time_s", "file", *ids], rows)


def summary_json(evaluation: Evaluation) -> str:
    """The summary as JSON."""
    return json.dumps(evaluation.summary(), indent=2, allow_nan=False) + "\n"


def _csv(columns: Sequence[str], rows: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return text.getvalue()


def metric_file(name: str) -> str:
    """The file of EVREAL's output tree that holds the scores of a metric."""
    return f"{re.sub(r'[^A-Za-z0-9.-]', '-', EVREAL_NAMES.get(name, name))}.txt"


def sequence_folder(root: Path, protocol: str, dataset: str, sequence: str, method: str) -> Path:
    """Where EVREAL's output tree has the results of a method on a sequence."""
    return root / protocol / dataset / sequence / method


def write_scores(folder: Path, scores: SequenceScores, metrics: Sequence[Metric]) -> None:
    """Write <metric>.txt for every metric into a folder: number and score of each scored prediction."""
    for metric in metrics:
        text = "".join(f"{frame.index} {frame.values[metric.id]:.5f}\n" for frame in scores.frames)
        (folder / metric_file(metric.id)).write_text(text, encoding="ascii")


def write_image(folder: Path, index: int, image: NDArray[np.float32]) -> None:
    """Write a prediction, float (H, W) or (H, W, 3) RGB, as frame_%010d.png, 8 bit, clipped and rounded.

    Raises RunError if it cannot be encoded.
    """
    codes = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    codes = codes if codes.ndim == 2 else codes[..., ::-1]  # OpenCV counts colours from blue
    encoded, content = cv2.imencode(".png", codes)
    if not encoded:
        raise RunError(f"{folder}: prediction {index} could not be encoded as PNG")
    (folder / f"frame_{index:010d}.png").write_bytes(content.tobytes())


class SequenceWriter:
    """Writes what EVREAL writes about one sequence into a folder that exists: frames and texts.

    frame_%010d.png (8 bit, rounded), timestamps.txt and event_rate.txt for every prediction, <metric>.txt for
    every scored one.
    """

    def __init__(self, folder: Path, *, images: bool) -> None:
        self.folder, self.images = folder, images
        self._times = (folder / "timestamps.txt").open("w", encoding="ascii")
        self._rates = (folder / "event_rate.txt").open("w", encoding="ascii")

    def keep(self, index: int, seconds: float, rate: float, image: NDArray[np.float32]) -> None:
        """Write one prediction, float (H, W) or (H, W, 3) RGB, clipped here.

        Raises RunError if it cannot be encoded.
        """
        self._times.write(f"{index} {seconds:.15f}\n")
        self._rates.write(f"{index} {rate:.5f}\n")
        if self.images:
            write_image(self.folder, index, image)

    def finish(self, scores: SequenceScores, metrics: Sequence[Metric]) -> None:
        """Write the scores."""
        write_scores(self.folder, scores, metrics)

    def __enter__(self) -> SequenceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._times.close()
        self._rates.close()


class RoleWriter:
    """Writes what was made of one sequence by interpolation, deblurring or flow into a folder that exists.

    frame_%010d.png, or flow_%010d.flo, and timestamps.txt for every prediction that has a time, <metric>.txt
    for every scored one. images: whether predictions are written.
    """

    def __init__(self, folder: Path, *, images: bool) -> None:
        self.folder, self.images = folder, images
        self._times: list[str] = []

    def keep(self, number: int, seconds: float | None, image: NDArray[np.float32]) -> None:
        """Write an image, float (H, W) or (H, W, 3) RGB, clipped. Raises RunError if it cannot be encoded."""
        if seconds is not None:
            self._times.append(f"{number} {seconds:.15f}\n")
        if self.images:
            write_image(self.folder, number, image)

    def keep_flow(self, number: int, flow: NDArray[np.float32]) -> None:
        """Write a flow, float32 (H, W, 2)."""
        if self.images:
            (self.folder / f"flow_{number:010d}.flo").write_bytes(flow_bytes(flow))

    def finish(self, scores: SequenceScores, metrics: Sequence[Metric]) -> None:
        """Write times and scores."""
        if self._times:
            (self.folder / "timestamps.txt").write_text("".join(self._times), encoding="ascii")
        write_scores(self.folder, scores, metrics)


def all_samples(evaluation: Evaluation) -> Iterator[tuple[SequenceScores, Any]]:
    """Pictures that are worth a look: of each sequence the worst and the best, once if they are the same."""
    for one in evaluation.sequences:
        seen = set()
        for label in ("worst", "best"):
            sample = one.samples.get(label)
            if sample is not None and sample.score.index not in seen:
                seen.add(sample.score.index)
                yield one, sample
