"""Evaluating interpolation and deblurring: what is given, what is asked for, and scores in closed form."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from evreal_folders import write_evreal_folder
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.formats import NativeWriter
from evsim.models.blend.prediction import Blend
from evsim.models.evaluation.frames import evaluate_frames
from evsim.models.evaluation.protocol import EvaluationConfig
from evsim.models.evaluation.scoring import Scorer, load_metrics
from evsim.models.evaluation.sequences import find_sequences
from evsim.models.prediction.frames import ExposurePredictor, FramePredictor
from evsim.timed_image import TimedImage

SCORER = Scorer(load_metrics(["mae", "mse"]))
EVERY_SECOND = EvaluationConfig(inserted=2)


class BlendOfEvents(Blend):
    """Blends, and keeps the events that it was given."""

    def __init__(self) -> None:
        self.given: list[NDArray[np.int64]] = []

    def between(
        self,
        frame0: NDArray[np.float32],
        frame1: NDArray[np.float32],
        fractions: NDArray[np.float64],
        events: Events | None,
    ) -> NDArray[np.float32]:
        assert events is not None
        self.given.append(events.t)
        return super().between(frame0, frame1, fractions, events)


class Unchanged:
    """Takes the blurry image for the sharp one; keeps the times that it was asked for."""

    def __init__(self) -> None:
        self.times: list[list[float]] = []

    def sharp(
        self, blurry: TimedImage, events: Events | None, times_us: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        self.times.append(times_us.tolist())
        return np.stack([blurry.image.astype(np.float32) / np.float32(255)] * len(times_us))


def flat(value: int, size: tuple[int, int] = (16, 12)) -> NDArray[np.uint8]:
    return np.full(size[::-1], value, np.uint8)


def write_folder(folder: Path, values: list[int], seconds: list[float] | None = None) -> Path:
    folder.mkdir(parents=True)
    for k, value in enumerate(values):
        cv2.imwrite(str(folder / f"{k:04d}.png"), flat(value))
    if seconds is not None:
        (folder / "timestamps.txt").write_text("".join(f"{second!r}\n" for second in seconds))
    return folder


def write_recording(path: Path, images: list[TimedImage], size: tuple[int, int] = (16, 12)) -> Path:
    """A recording of these images, with an event every millisecond from 1 ms to 200 ms."""
    t = np.arange(1, 201, dtype=np.int64) * 1000
    zeros = np.zeros(len(t), np.uint16)
    with NativeWriter(path, *size) as writer:
        writer.append(Events(t, zeros, zeros, zeros.astype(np.uint8), *size))
        for image in images:
            writer.append_image(image.image, image.t_us, exposure_us=image.exposure_us, kind=image.kind)
    return path


@pytest.mark.parametrize(("every", "error"), [(2, 1), (3, 2)])
def test_squares_are_missed_by_what_a_chord_misses(every: int, error: int, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "set" / "squares", [k * k for k in range(14)])
    sequence = find_sequences(folder)[0][0]
    found = evaluate_frames(
        FramePredictor(Blend()), "interpolate", sequence, SCORER, EvaluationConfig(inserted=every)
    )
    kept = range(0, 14, every)
    asked = [k for k in range(kept[-1]) if k % every]
    assert [frame.index for frame in found.frames] == asked
    assert found.scores("mae") == pytest.approx(error / 255, abs=1e-7)
    assert found.scores("mse") == pytest.approx((error / 255) ** 2, abs=1e-8)
    beyond = 13 - kept[-1]
    reasons = {"inputs of the interpolation": len(kept), "after the last input": beyond}
    assert found.unscored == {reason: count for reason, count in reasons.items() if count}
    assert (found.items, found.predictions) == (14, len(asked))


def test_images_are_asked_for_at_their_own_times(tmp_path: Path) -> None:
    seconds = [0.0, 0.1, 0.4, 0.7, 0.8]
    folder = write_folder(tmp_path / "set" / "ramp", [round(250 * second) for second in seconds], seconds)
    sequence = find_sequences(folder)[0][0]
    found = evaluate_frames(FramePredictor(Blend()), "interpolate", sequence, SCORER, EVERY_SECOND)
    assert found.scores("mae") == pytest.approx(0, abs=1e-6)
    assert [frame.time_s for frame in found.frames] == [0.1, 0.7]
    inside = EvaluationConfig(inserted=2, start_s=0.5)
    late = evaluate_frames(FramePredictor(Blend()), "interpolate", sequence, SCORER, inside)
    assert [frame.index for frame in late.frames] == [3]
    assert late.unscored["before the scored interval"] == 1


def predictions(path: Path, predictor: FramePredictor) -> list[bytes]:
    sequence = find_sequences(path)[0][0]
    kept: list[bytes] = []
    evaluate_frames(
        predictor,
        "interpolate",
        sequence,
        SCORER,
        EVERY_SECOND,
        keep=lambda index, seconds, image: kept.append(image.tobytes()),
    )
    return kept


@pytest.mark.parametrize("kind", ["folder", "recording"])
def test_frames_that_are_asked_for_are_never_looked_at(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (12, 16), np.uint8) for _ in range(7)]
    noisy = [rng.integers(0, 256, (12, 16), np.uint8) if k % 2 else image for k, image in enumerate(images)]
    found = []
    for name, frames in (("as they are", images), ("noise", noisy)):
        if kind == "folder":
            path = write_folder(tmp_path / name / "s", [0] * 7)
            for k, frame in enumerate(frames):
                cv2.imwrite(str(path / f"{k:04d}.png"), frame)
            predictor = FramePredictor(Blend())
        else:
            timed = [TimedImage(frame, 25_000.0 * (k + 1)) for k, frame in enumerate(frames)]
            path = write_recording(tmp_path / f"{name}.h5", timed)
            predictor = FramePredictor(BlendOfEvents(), events=True)
        found.append(predictions(path, predictor))
    assert len(found[0]) == 3
    assert found[0] == found[1]


def test_no_predictor_finds_an_image_beside_those_it_is_given(tmp_path: Path) -> None:
    images = [TimedImage(flat(k), 25_000.0 * (k + 1)) for k in range(5)]
    path = write_recording(tmp_path / "a.h5", images)

    class Curious(FramePredictor):
        def images(self, scene, times_us, *, report=None):  # type: ignore[no-untyped-def]
            assert scene.recording is not None
            assert scene.recording.image_count == 0
            assert not list(scene.recording.images())
            assert len(scene.recording) == 200
            assert [int(frame.image[0, 0]) for frame in scene.frames()] == [0, 2, 4]
            return super().images(scene, times_us, report=report)

    assert len(predictions(path, Curious(Blend(), events=False))) == 2


def test_events_between_the_given_frames_are_handed_over(tmp_path: Path) -> None:
    images = [TimedImage(flat(10 * k), 25_000.0 * (k + 1)) for k in range(5)]
    path = write_recording(tmp_path / "a.h5", images)
    blend = BlendOfEvents()
    predictions(path, FramePredictor(blend, events=True))
    assert [(int(t[0]), int(t[-1]), len(t)) for t in blend.given] == [
        (26_000, 75_000, 50),
        (76_000, 125_000, 50),
    ]


def test_sharp_images_are_asked_for_within_their_exposures(tmp_path: Path) -> None:
    size = (32, 24)
    blurry = [TimedImage(flat(v, size), t, 40_000.0, "blurry") for v, t in ((100, 60_000.0), (50, 160_000.0))]
    sharp = [
        TimedImage(flat(value, size), t, 0.0, "sharp")
        for value, t in ((102, 20_000.0), (100, 30_000.0), (96, 60_000.0), (9, 90_000.0), (51, 140_000.0))
    ]
    images = sorted([*blurry, *sharp], key=lambda image: (image.t_us, image.kind))
    path = write_recording(tmp_path / "a.h5", images)
    sequence = find_sequences(path)[0][0]
    deblurrer = Unchanged()
    found = evaluate_frames(ExposurePredictor(deblurrer), "deblur", sequence, SCORER, EvaluationConfig())
    assert deblurrer.times == [[20_000.0, 30_000.0, 60_000.0], [140_000.0]]
    assert found.scores("mae") * 255 == pytest.approx([2, 0, 4, 1], abs=1e-4)
    assert [frame.time_s for frame in found.frames] == [0.02, 0.03, 0.06, 0.14]
    assert found.unscored == {
        "inputs of the deblurring": 2,
        "sharp images outside of every exposure": 1,
    }


def test_what_cannot_be_evaluated_is_named(tmp_path: Path) -> None:
    few = find_sequences(write_folder(tmp_path / "set" / "few", [1, 2]))[0][0]
    blend = FramePredictor(Blend())
    with pytest.raises(InputError, match="holds 2 frames, expected at least 3"):
        evaluate_frames(blend, "interpolate", few, SCORER, EVERY_SECOND)
    with pytest.raises(InputError, match="inserted = 1 gives every frame"):
        evaluate_frames(blend, "interpolate", few, SCORER, EvaluationConfig())
    with pytest.raises(InputError, match="without events"):
        evaluate_frames(FramePredictor(Blend(), events=True), "interpolate", few, SCORER, EVERY_SECOND)
    path = write_recording(tmp_path / "a.h5", [TimedImage(flat(1), 10_000.0)])
    plain = find_sequences(path)[0][0]
    with pytest.raises(InputError, match="0 blurry and 0 sharp images"):
        evaluate_frames(ExposurePredictor(Unchanged()), "deblur", plain, SCORER, EvaluationConfig())
    images = [TimedImage(flat(1), 10_000.0, 0.0, "sharp"), TimedImage(flat(1), 20_000.0, 0.0, "blurry")]
    unexposed = find_sequences(write_recording(tmp_path / "b.h5", images))[0][0]
    with pytest.raises(InputError, match="image 1 has no exposure time"):
        evaluate_frames(ExposurePredictor(Unchanged()), "deblur", unexposed, SCORER, EvaluationConfig())


def test_sequences_of_evreal_count_time_as_their_files_do(tmp_path: Path) -> None:
    times = np.arange(0, 3, 0.01) + 1e9
    xy = np.zeros((len(times), 2))
    images = np.tile(np.arange(4, dtype=np.uint8)[:, None, None] * 10, (1, 12, 16))
    folder = write_evreal_folder(
        tmp_path / "set" / "s", times, xy, np.ones(len(times)), images, 1e9 + np.arange(4.0) / 2 + 0.5
    )
    sequence = find_sequences(folder)[0][0]
    found = evaluate_frames(FramePredictor(Blend()), "interpolate", sequence, SCORER, EVERY_SECOND)
    assert [frame.time_s for frame in found.frames] == [1e9 + 1.0]
    assert found.scores("mae") == pytest.approx(0, abs=1e-6)
