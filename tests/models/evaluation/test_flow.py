"""Evaluating flow estimators: metrics in closed form, the files of the benchmarks, pairs and their truth."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from evsim.errors import FormatError, InputError
from evsim.media.flow_files import flow_bytes, read_flow
from evsim.metrics.flow import FLOW_METRICS
from evsim.models.evaluation.flow import evaluate_flow
from evsim.models.evaluation.protocol import EvaluationConfig
from evsim.models.evaluation.scoring import Scorer, load_metrics
from evsim.models.evaluation.sequences import find_sequences

SIZE = (24, 20)


class Constant:
    """The same motion everywhere, whatever the images show."""

    def __init__(self, x: float, y: float) -> None:
        self.motion = (x, y)

    def flow(self, image0: NDArray[np.float32], image1: NDArray[np.float32]) -> NDArray[np.float32]:
        assert image0.dtype == np.float32
        assert image0.max() <= 1
        return constant(*self.motion)


def constant(x: float, y: float) -> NDArray[np.float32]:
    return np.tile(np.array([x, y], np.float32), (*SIZE[::-1], 1))


def write_pairs(folder: Path, truths: dict[int, NDArray[np.float32]], count: int = 4) -> Path:
    (folder / "flow").mkdir(parents=True)
    for k in range(count):
        cv2.imwrite(str(folder / f"{k:03d}.png"), np.full((*SIZE[::-1], 3), 60 * k, np.uint8))
    for k, truth in truths.items():
        (folder / "flow" / f"{k:03d}.flo").write_bytes(flow_bytes(truth))
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [("epe", 5.0), ("1pe", 100.0), ("2pe", 100.0), ("3pe", 100.0), ("fl:kitti", 100.0)],
)
def test_a_motion_of_three_and_four_against_rest(name: str, expected: float) -> None:
    assert FLOW_METRICS[name](constant(3, 4), constant(0, 0)) == pytest.approx(expected)


def test_an_error_of_few_percent_is_no_outlier_of_kitti() -> None:
    prediction, truth = constant(104, 0), constant(100, 0)
    assert FLOW_METRICS["3pe"](prediction, truth) == 100
    assert FLOW_METRICS["fl:kitti"](prediction, truth) == 0
    assert FLOW_METRICS["fl:kitti"](constant(106, 0), truth) == 100


def test_the_angular_error_is_that_of_the_directions_in_space_and_time() -> None:
    assert FLOW_METRICS["ae"](constant(1, 0), constant(0, 0)) == pytest.approx(45)
    expected = math.degrees(math.acos(1 / math.sqrt(26)))
    assert FLOW_METRICS["ae"](constant(3, 4), constant(0, 0)) == pytest.approx(expected)


def test_unknown_pixels_are_not_compared() -> None:
    truth = constant(0, 0)
    truth[:, : SIZE[0] // 4] = np.nan
    prediction = constant(0, 0)
    prediction[:, : SIZE[0] // 2, 1] = 2.5
    assert FLOW_METRICS["epe"](prediction, truth) == pytest.approx(2.5 / 3)
    assert FLOW_METRICS["2pe"](prediction, truth) == pytest.approx(100 / 3)
    with pytest.raises(InputError, match="known at no pixel"):
        FLOW_METRICS["epe"](prediction, np.full_like(truth, np.nan))
    with pytest.raises(InputError, match="NaN or infinite"):
        FLOW_METRICS["epe"](np.full_like(truth, np.nan), truth)
    with pytest.raises(InputError, match=r"expected \(H, W, 2\)"):
        FLOW_METRICS["epe"](prediction[:-1], truth)


def test_flow_files_are_read_as_the_benchmarks_write_them(tmp_path: Path) -> None:
    flow = np.random.default_rng(0).normal(0, 9, (*SIZE[::-1], 2)).astype(np.float32)
    flow[3, 5] = np.nan
    (tmp_path / "a.flo").write_bytes(flow_bytes(flow))
    assert np.array_equal(read_flow(tmp_path / "a.flo"), flow, equal_nan=True)
    for kind, steps in (("kitti", 64), ("dsec", 128)):
        known = np.isfinite(flow).all(-1)
        codes = np.rint(np.where(known[..., None], flow, 0).astype(np.float64) * steps + 2**15).astype(
            np.uint16
        )
        cv2.imwrite(str(tmp_path / f"{kind}.png"), np.dstack((known.astype(np.uint16), codes[..., ::-1])))
        read = read_flow(tmp_path / f"{kind}.png", kind)  # type: ignore[arg-type]
        assert np.array_equal(np.isfinite(read).all(-1), known)
        assert np.nanmax(np.abs(read - flow)) <= 0.5 / steps + 1e-6
    (tmp_path / "b.flo").write_bytes(flow_bytes(flow)[:-4])
    with pytest.raises(FormatError, match="expected those of 24x20 pixels"):
        read_flow(tmp_path / "b.flo")
    (tmp_path / "c.flo").write_bytes(b"PIEH")
    with pytest.raises(FormatError, match="does not begin"):
        read_flow(tmp_path / "c.flo")


def test_pairs_with_a_known_motion_are_scored(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "set" / "a", {0: constant(3, 4), 2: constant(0, 0)})
    sequence = find_sequences(folder)[0][0]
    kept: list[int] = []
    found = evaluate_flow(
        Constant(3, 4),
        sequence,
        Scorer(load_metrics(["epe", "3pe"], role="flow")),
        EvaluationConfig(),
        keep=lambda index, flow: kept.append(index),
    )
    assert kept == [frame.index for frame in found.frames] == [0, 2]
    assert found.scores("epe") == pytest.approx([0, 5])
    assert found.scores("3pe") == pytest.approx([0, 100])
    assert (found.items, found.unscored) == (3, {"without a true flow": 1})


def test_what_cannot_be_evaluated_is_named(tmp_path: Path) -> None:
    scorer = Scorer(load_metrics(["epe"], role="flow"))
    bare = find_sequences(write_pairs(tmp_path / "set" / "bare", {}))[0][0]
    with pytest.raises(InputError, match=r"has no true flow, expected files such as flow/000.flo"):
        evaluate_flow(Constant(0, 0), bare, scorer, EvaluationConfig())
    last = find_sequences(write_pairs(tmp_path / "set" / "last", {3: constant(0, 0)}))[0][0]
    with pytest.raises(InputError, match=r"003.flo belongs to no image"):
        evaluate_flow(Constant(0, 0), last, scorer, EvaluationConfig())
    with pytest.raises(InputError, match="unknown flow metric 'mse'"):
        load_metrics(["mse"], role="flow")
