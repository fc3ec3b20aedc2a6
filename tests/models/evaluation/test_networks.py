"""Evaluating a network on recordings: published runs, EVREAL's output tree, what is left out and counted."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from evreal_folders import from_scene, write_evreal_folder

from evsim import models
from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats import NativeWriter
from evsim.metrics import Metric, normalise_image
from evsim.models.evaluation.network import evaluate_sequence
from evsim.models.evaluation.protocol import EvaluationConfig
from evsim.models.evaluation.scoring import Scorer, load_metrics
from evsim.models.evaluation.sequences import find_sequences
from evsim.models.perceptual import Lpips, with_network
from evsim.models.prediction.parts import predictor_of
from evsim.models.prediction.predictor import Predictor
from evsim.models.prediction.windows import WindowPredictor
from evsim.pipelines.evaluation import evaluate_network, gather_sequences

SCORER = Scorer(load_metrics(["mse", "ssim:evreal"]))


class Grey(WindowPredictor):
    """A recurrent network that sees nothing: every image is of one value, and calls are counted."""

    def __init__(self, value: float = 0.5) -> None:
        super().__init__(self)
        self.value, self.resets, self.lengths = value, 0, list[int]()

    def reset(self) -> None:
        self.resets += 1

    def step(self, events: Events) -> np.ndarray:
        self.lengths.append(len(events))
        return np.full((events.height, events.width), self.value, np.float32)


def scene(folder: Path, *, frames: int = 31, seconds: float = 30.0) -> Path:
    """An EVREAL folder with an event every 0.1 s and a grey image every second, k in image k."""
    times = np.arange(0, seconds, 0.1)
    xy = np.stack((np.arange(len(times)) % 16, np.arange(len(times)) % 12), 1)
    images = np.tile(np.arange(frames, dtype=np.uint8)[:, None, None], (1, 12, 16))
    return write_evreal_folder(
        folder, times, xy, np.ones(len(times)), images, np.linspace(0, seconds, frames)
    )


@pytest.fixture(scope="module")
def firenet_plus(data: Path) -> Predictor:
    return predictor_of(models.load("firenet", data / "firenet_plus_state_dict.pth"))


@pytest.mark.needs_parity
@pytest.mark.needs_data
@pytest.mark.parametrize("number", [0, 2, 3, 4])
def test_published_runs_are_reproduced(
    number: int, parity: Path, firenet_plus: Predictor, tmp_path: Path
) -> None:
    run = json.loads((parity / "evreal_run_firenet.json").read_text())["runs"][number]
    name = Path(run["dataset_from"]).stem
    from_scene(tmp_path / "SCENES" / name, np.load(parity / run["dataset_from"]))
    sequences, _ = gather_sequences([tmp_path / "SCENES"])
    config = EvaluationConfig(protocol=run["eval_config"], event_rate="events")
    found = evaluate_network(
        firenet_plus, sequences, SCORER, config, method=run["method"], output=tmp_path / "outputs"
    )
    (one,) = found.sequences
    assert len(one.frames) == run["num_evaluated"]
    folder = tmp_path / "outputs" / run["eval_config"] / "SCENES" / name / run["method"]
    files = sorted(path.name for path in folder.iterdir())
    assert len(files) == run["n_files"]
    assert set(files) >= set(run["files"]) - {"..."}
    for column in ("mse", "ssim", "event_rate", "timestamps"):
        text = (folder / f"{column}.txt").read_text()
        written = np.array([line.split() for line in text.splitlines()], float).reshape(-1, 2)
        wanted = np.array(run[column], float).reshape(-1, 2)
        # Four decimals of the published scores hold, of which float32 convolutions decide the last.
        tolerance = {"mse": 2e-5, "ssim": 2e-5, "event_rate": 1e-5, "timestamps": 1e-14}[column]
        np.testing.assert_allclose(written, wanted, rtol=0, atol=tolerance)
    times = (folder / "timestamps.txt").read_text().splitlines()
    assert times[:2] == run["first_lines"]["timestamps.txt"]
    if run["num_evaluated"]:
        assert one.mean("mse", config) == pytest.approx(run["mean"]["mse"], abs=2e-6)
        assert one.mean("ssim:evreal", config) == pytest.approx(run["mean"]["ssim"], abs=2e-6)
    else:
        assert one.mean("mse", config) is None
        assert one.unscored == {"no reference image in time": one.items}


@pytest.mark.needs_parity
@pytest.mark.parametrize("equalise", ["none", "global", "local", "clahe"])
@pytest.mark.parametrize("normalize", ["none", "standard", "robust", "exprobust"])
def test_normalised_and_equalised_pairs_score_as_published(
    equalise: str, normalize: str, parity: Path
) -> None:
    arrays = np.load(parity / "evreal_metrics_a.npz")
    scorer = Scorer(SCORER.metrics, equalise)  # type: ignore[arg-type]
    for k, (prediction, reference) in enumerate(zip(arrays["pred"], arrays["ref"])):
        values = scorer(normalise_image(prediction, normalize), reference, "pair")  # type: ignore[arg-type]
        # A rounding tie of the 8-bit equalisations moves a few pixels by one code.
        tolerance = 1e-5 if equalise in ("none", "global") else 2e-4
        for name, key in (("mse", "mse"), ("ssim:evreal", "ssim")):
            assert values[name] == pytest.approx(arrays[f"{key}_{normalize}_{equalise}"][k], abs=tolerance)


def test_only_the_scored_interval_and_its_lead_are_inferred(tmp_path: Path) -> None:
    sequence = find_sequences(scene(tmp_path / "ECD" / "a"))[0][0]
    network = Grey()
    config = EvaluationConfig(start_s=15, stop_s=20)
    one = evaluate_sequence(network, sequence, SCORER, config)
    assert [frame.index for frame in one.frames] == [15, 16, 17, 18, 19, 20]
    assert network.resets == 1
    assert one.predictions == len(network.lengths) == 16
    assert one.unscored == {"not inferred": 14, "before the scored interval": 10}
    assert one.items == len(one.frames) + sum(one.unscored.values()) == 30
    everything = EvaluationConfig(protocol="std_all", start_s=15, stop_s=20)
    one = evaluate_sequence(network, sequence, SCORER, everything)
    assert one.predictions == 30
    assert one.unscored == {"before the scored interval": 15, "after the scored interval": 9}


def test_scores_compare_each_item_with_its_own_frame(tmp_path: Path) -> None:
    sequence = find_sequences(scene(tmp_path / "ECD" / "a"))[0][0]
    one = evaluate_sequence(Grey(1.25), sequence, SCORER, EvaluationConfig(all_frames=True))
    wanted = [(1 - k / 255) ** 2 for k in range(1, 31)]
    np.testing.assert_allclose(one.scores("mse"), wanted, rtol=1e-6)
    assert one.values_outside == one.values == 30 * 12 * 16
    assert (one.samples["worst"].score.index, one.samples["best"].score.index) == (1, 30)


def test_windows_by_time_are_scored_where_a_frame_is_near_enough(tmp_path: Path) -> None:
    sequence = find_sequences(scene(tmp_path / "ECD" / "a"))[0][0]
    strict = evaluate_sequence(Grey(), sequence, SCORER, EvaluationConfig(protocol="t1000ms"))
    assert not strict.frames
    assert strict.unscored == {"no reference image in time": 29}
    loose = EvaluationConfig(protocol="t1000ms", tolerance_ms=101)
    assert len(evaluate_sequence(Grey(), sequence, SCORER, loose).frames) == 29


def test_colour_frames_of_any_format_are_compared_as_luma_and_counted(tmp_path: Path) -> None:
    with NativeWriter(tmp_path / "clip.h5", 16, 12) as writer:
        t = np.arange(1, 90_000, 100)
        x, y = (t % 16).astype(np.uint16), (t % 12).astype(np.uint16)
        writer.append(Events(t, x, y, np.ones(len(t), np.uint8), 16, 12))
        for k in range(4):
            writer.append_image(np.full((12, 16, 3), (0, 255, 0), np.uint8), 30_000.0 * k)
    (sequence,), _ = find_sequences(tmp_path / "clip.h5")
    network = Grey(0.0)
    one = evaluate_sequence(network, sequence, SCORER, EvaluationConfig(all_frames=True))
    assert (one.sequence, one.grey_references, len(one.frames)) == ("clip", 3, 3)
    np.testing.assert_allclose(one.scores("mse"), (150 / 255) ** 2)
    # As EVREAL has it, the last event before a frame belongs to the window after it.
    assert network.lengths == [299, 300, 300]


def test_a_recording_without_frames_needs_metrics_without_reference(tmp_path: Path) -> None:
    times = np.arange(0, 1, 0.01)
    folder = write_evreal_folder(tmp_path / "NIGHT" / "a", times, np.ones((100, 2)), np.ones(100))
    (sequence,), _ = find_sequences(folder)
    config = EvaluationConfig(protocol="t100ms")
    with pytest.raises(InputError, match="no images to compare with; ask only for metrics without"):
        evaluate_sequence(Grey(), sequence, SCORER, config)


def test_metrics_without_reference_score_windows_near_no_frame(tmp_path: Path) -> None:
    times = np.arange(0, 1, 0.01)
    folder = write_evreal_folder(tmp_path / "NIGHT" / "a", times, np.ones((100, 2)), np.ones(100))
    brightness = Metric(
        id="brightness",
        definition="mean value",
        higher_is_better=True,
        inputs="image",
        function=lambda image: float(image.mean()),
    )
    (sequence,), _ = find_sequences(folder)
    one = evaluate_sequence(Grey(0.25), sequence, Scorer((brightness,)), EvaluationConfig(protocol="t100ms"))
    assert one.mean("brightness", EvaluationConfig()) == 0.25
    assert len(one.frames) == one.items == 9
    assert one.samples["best"].reference is None


def test_perceptual_metrics_take_grey_predictions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    scorer = Scorer((with_network("lpips:alex", Lpips("alex").eval()),))
    image = np.random.RandomState(0).rand(64, 64).astype(np.float32)
    codes = np.random.RandomState(1).randint(0, 256, (64, 64)).astype(np.uint8)
    assert scorer(image, codes, "pair")["lpips:alex"] != 0
    assert scorer(codes, codes, "pair")["lpips:alex"] == 0


def test_an_image_that_cannot_be_scored_names_its_item(tmp_path: Path) -> None:
    sequence = find_sequences(scene(tmp_path / "ECD" / "a"))[0][0]
    with pytest.raises(InputError, match=r"item 0: image holds 192 values that are not finite"):
        evaluate_sequence(Grey(float("nan")), sequence, SCORER, EvaluationConfig())


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("image_event_indices", [0, 9, 5, 20], "do not decrease"),
        ("image_event_indices", [0, 9, 15, 31], "from 0 to 30"),
        ("images_ts", [0.0, 2.0, 1.0, 3.0], "image 2 is earlier"),
    ],
)
def test_images_out_of_order_are_a_damaged_recording(
    name: str, values: list[float], message: str, tmp_path: Path
) -> None:
    folder = scene(tmp_path / "SET" / "a", frames=4, seconds=3)
    np.save(folder / f"{name}.npy", np.array(values)[:, None])
    with pytest.raises(FormatError, match=message):
        evaluate_sequence(Grey(), find_sequences(folder)[0][0], SCORER, EvaluationConfig())


def test_images_are_those_that_were_scored_in_8_bit(tmp_path: Path) -> None:
    scene(tmp_path / "SET" / "a", frames=4, seconds=3)
    sequences, _ = gather_sequences([tmp_path / "SET"])
    output = tmp_path / "out"
    evaluate_network(
        Grey(0.3), sequences, SCORER, EvaluationConfig(all_frames=True), method="m", output=output
    )
    folder = output / "std" / "SET" / "a" / "m"
    assert [path.name for path in sorted(folder.glob("*.png"))] == [f"frame_{k:010d}.png" for k in (1, 2, 3)]
    assert (cv2.imread(str(folder / "frame_0000000003.png"), cv2.IMREAD_UNCHANGED) == 76).all()


def test_an_existing_result_is_found_before_anything_is_computed(tmp_path: Path) -> None:
    scene(tmp_path / "SET" / "a", frames=4, seconds=3)
    sequences, _ = gather_sequences([tmp_path / "SET"])
    (tmp_path / "out/std/SET/a/m").mkdir(parents=True)
    network = Grey()
    with pytest.raises(InputError, match="--overwrite"):
        evaluate_network(network, sequences, SCORER, EvaluationConfig(), method="m", output=tmp_path / "out")
    assert not network.lengths


def test_the_same_sequence_twice_is_an_error(tmp_path: Path) -> None:
    scene(tmp_path / "x" / "SET" / "a", frames=4, seconds=3)
    scene(tmp_path / "y" / "SET" / "a", frames=4, seconds=3)
    with pytest.raises(InputError, match="both sequence a of data set SET"):
        gather_sequences([tmp_path / "x" / "SET", tmp_path / "y" / "SET"])


def test_strays_in_a_data_set_are_named_and_left(tmp_path: Path) -> None:
    for name in ("s10", "s9"):
        scene(tmp_path / "SET" / name, frames=4, seconds=3)
    (tmp_path / "SET" / "readme.md").write_text("words")
    (tmp_path / "SET" / ".hidden").write_text("")
    with pytest.warns(UserWarning, match=r"1 entries are no sequence and are left out: readme\.md"):
        sequences, strays = gather_sequences([tmp_path / "SET"])
    assert [one.name for one in sequences] == ["s9", "s10"]
    assert [Path(path).name for path in strays] == ["readme.md"]
