"""Folders of predictions against ground truth: pairing, matching by time, means by convention, the verb."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from evreal_folders import write_evreal_folder

from evsim import models
from evsim.cli.conventions import Settings
from evsim.cli.evaluate import evaluate
from evsim.errors import FormatError, InputError
from evsim.metrics import METRICS, fit_scene_model, save_scene_model

Run = Callable[..., Any]


@pytest.fixture
def run() -> Run:
    """`evsim evaluate` with these arguments: the parsed JSON, or with code=2 what was said."""

    def call(*arguments: object, code: int = 0) -> Any:
        words = [str(argument) for argument in arguments]
        if code == 0:
            words.append("--json")
        result = CliRunner().invoke(evaluate, words, obj=Settings())
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if code == 0 else result.output

    return call


def write_images(folder: Path, images: np.ndarray, name: str = "frame_{}.png") -> Path:
    folder.mkdir(parents=True)
    for k, image in enumerate(images):
        cv2.imwrite(str(folder / name.format(k)), image if image.ndim == 2 else image[..., ::-1])
    return folder


def textures(count: int, seed: int = 0, shape: tuple[int, ...] = (24, 32, 3)) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (count, *shape)).astype(np.uint8)


def test_images_are_paired_in_natural_order(tmp_path: Path, run: Run) -> None:
    truth = textures(12)
    noise = np.arange(12, dtype=np.uint8)[:, None, None, None]
    predictions = np.where(truth < 128, truth + noise, truth - noise)
    write_images(tmp_path / "truth", truth, "{:03d}.png")
    write_images(tmp_path / "made", predictions, "frame_{}.png")
    said = run(tmp_path / "made", "--data", tmp_path / "truth", "--metrics", "ie:vfi,ssim:rgb")
    (sequence,) = said["sequences"]
    assert sequence["means"]["ie:vfi"] == pytest.approx(5.5)
    wanted = np.mean([METRICS["ssim:rgb"](a, b) for a, b in zip(predictions, truth)])
    assert sequence["means"]["ssim:rgb"] == pytest.approx(wanted, abs=1e-12)
    assert (said["method"], said["protocol"], sequence["scored"]) == ("made", "pairs", 12)


def test_a_missing_frame_is_an_error(tmp_path: Path, run: Run) -> None:
    truth = textures(6)
    write_images(tmp_path / "truth", truth)
    made = write_images(tmp_path / "made", truth)
    (made / "frame_2.png").unlink()
    with pytest.raises(InputError, match=r"holds 5 images and .* 6"):
        run(made, "--data", tmp_path / "truth", "--metrics", "mse")
    cv2.imwrite(str(made / "frame_6.png"), truth[5])
    with pytest.raises(InputError, match="frame_6 and frame_2 have no partner"):
        run(made, "--data", tmp_path / "truth", "--metrics", "mse")


def test_sizes_that_differ_name_both_files(tmp_path: Path, run: Run) -> None:
    write_images(tmp_path / "truth", textures(2))
    write_images(tmp_path / "made", textures(2, shape=(24, 30, 3)))
    with pytest.raises(InputError, match=r"made.frame_0\.png and .*truth.frame_0\.png: prediction has shape"):
        run(tmp_path / "made", "--data", tmp_path / "truth", "--metrics", "mse")


def test_means_over_frames_and_over_sequences_differ_as_their_names_say(tmp_path: Path, run: Run) -> None:
    for name, count, error in (("a", 2, 10), ("b", 6, 50)):
        write_images(tmp_path / "truth" / name, np.zeros((count, 8, 8), np.uint8))
        write_images(tmp_path / "made" / name, np.full((count, 8, 8), error, np.uint8))
    arguments = (tmp_path / "made", "--data", tmp_path / "truth", "--metrics", "ie:vfi")
    frames, sequences = run(*arguments), run(*arguments, "--average", "sequences")
    assert frames["datasets"][0]["means"]["ie:vfi"] == pytest.approx((2 * 10 + 6 * 50) / 8)
    assert sequences["datasets"][0]["means"]["ie:vfi"] == pytest.approx(30)
    assert (frames["average"], sequences["average"]) == ("frames", "sequences")


def test_only_inserted_frames_are_scored(tmp_path: Path, run: Run) -> None:
    truth = np.zeros((11, 8, 8), np.uint8)
    made = np.where(np.arange(11) % 4 == 0, 0, np.arange(11)).astype(np.uint8)[:, None, None] + truth
    write_images(tmp_path / "truth", truth)
    write_images(tmp_path / "made", made)
    said = run(tmp_path / "made", "--data", tmp_path / "truth", "--metrics", "ie:vfi", "--inserted", 4)
    (one,) = said["sequences"]
    assert one["unscored"] == {"inputs of the interpolation": 3, "after the last input": 2}
    assert one["means"]["ie:vfi"] == pytest.approx(np.mean([1, 2, 3, 5, 6, 7]))


def test_values_that_are_not_finite_are_kept_or_dropped_and_counted(tmp_path: Path, run: Run) -> None:
    truth = textures(3)
    made = truth.copy()
    made[1:] ^= 1
    write_images(tmp_path / "truth", truth)
    write_images(tmp_path / "made", made)
    arguments = (tmp_path / "made", "--data", tmp_path / "truth", "--metrics", "psnr:gem")
    kept, dropped = run(*arguments), run(*arguments, "--set", "not_finite=drop")
    assert kept["sequences"][0]["means"]["psnr:gem"] == "inf"
    assert dropped["sequences"][0]["means"]["psnr:gem"] == pytest.approx(20 * np.log10(255))
    assert kept["sequences"][0]["not_finite"] == dropped["sequences"][0]["not_finite"] == {"psnr:gem": 1}


def recording_with_frames(folder: Path, frames: np.ndarray) -> Path:
    times = np.arange(0, len(frames) / 10, 0.001)
    return write_evreal_folder(
        folder, times, np.ones((len(times), 2)), np.ones(len(times)), frames, np.arange(len(frames)) / 10
    )


@pytest.mark.parametrize("with_index", [True, False])
def test_predictions_of_a_recording_are_matched_by_time(tmp_path: Path, run: Run, with_index: bool) -> None:
    frames = textures(6, shape=(12, 16))
    recording_with_frames(tmp_path / "SET" / "a", frames)
    made = write_images(tmp_path / "made", frames[[1, 3, 3, 4]])
    times = [0.1, 0.3, 0.3505, 0.4005]
    lines = [f"{k} {t}" if with_index else f"{t}" for k, t in enumerate(times)]
    (made / "timestamps.txt").write_text("\n".join(lines))
    said = run(made, "--data", tmp_path / "SET" / "a", "--metrics", "mse")
    (one,) = said["sequences"]
    assert one["means"]["mse"] == 0
    assert (one["scored"], one["unscored"]) == (3, {"no reference image in time": 1})
    (made / "timestamps.txt").write_text("\n".join(lines[:3]))
    with pytest.raises(FormatError, match="3 lines for 4 images"):
        run(made, "--data", tmp_path / "SET" / "a", "--metrics", "mse")
    (made / "timestamps.txt").unlink()
    with pytest.raises(InputError, match=r"has no timestamps\.txt"):
        run(made, "--data", tmp_path / "SET" / "a", "--metrics", "mse")


def test_sequences_without_predictions_are_an_error_and_others_are_reported(tmp_path: Path, run: Run) -> None:
    for name in ("a", "b"):
        write_images(tmp_path / "truth" / name, textures(2))
        write_images(tmp_path / "made" / name / "ours", textures(2, seed=1))
    arguments = (tmp_path / "made", "--metrics", "mse", "--data")
    with pytest.raises(InputError, match="no images for 2 of 2 sequences: a, b"):
        run(*arguments, tmp_path / "truth")
    assert run(*arguments, tmp_path / "truth", "--method", "ours")["datasets"][0]["scored"] == 4
    with pytest.warns(UserWarning, match="1 folders of images belong to no sequence"):
        said = run(*arguments, tmp_path / "truth" / "a", "--method", "ours")
    assert [Path(path).parts[-2:] for path in said["left_out"]] == [("b", "ours")]


def test_results_are_written_as_json_csv_and_one_page(tmp_path: Path, run: Run) -> None:
    for name in ("a", "b"):
        write_images(tmp_path / "truth" / name, textures(3))
        write_images(tmp_path / "made" / name, textures(3, seed=1))
    arguments = (tmp_path / "made", "--data", tmp_path / "truth", "--metrics", "psnr:rgb,ssim:rgb")
    said = run(*arguments, "-o", tmp_path / "out")
    files = {name: Path(path) for name, path in said.pop("files").items()}
    assert {path.parent for path in files.values()} == {tmp_path / "out" / "pairs"}
    stored = json.loads(files["summary"].read_text())
    assert stored == said
    rows = list(csv.DictReader(files["table"].read_text().splitlines()))
    assert [row["sequence"] for row in rows] == ["a", "b", "mean over frames"]
    assert float(rows[-1]["psnr:rgb"]) == pytest.approx(stored["datasets"][0]["means"]["psnr:rgb"])
    frames = list(csv.DictReader(files["frames"].read_text().splitlines()))
    assert [row["file"] for row in frames[:3]] == ["frame_0.png", "frame_1.png", "frame_2.png"]
    page = files["page"].read_text()
    assert page.count("data:image/webp;base64,") == 2 * 2 * 3
    assert "http" not in page.replace("http-equiv", "")
    assert f"{stored['datasets'][0]['means']['ssim:rgb']:.4f}" in page
    assert "absolute difference" in page
    with pytest.raises(InputError, match="--overwrite"):
        run(*arguments, "-o", tmp_path / "out")
    run(*arguments, "-o", tmp_path / "out", "--overwrite")


def test_metrics_without_weights_refuse_and_say_what_to_leave_out(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVSIM_WEIGHTS", str(tmp_path / "none"))
    write_images(tmp_path / "made", textures(2))
    arguments = (tmp_path / "made", "--data", tmp_path / "made", "--metrics")
    with pytest.raises(InputError, match=r"leave lpips:alex out of --metrics"):
        run(*arguments, "mse,lpips:alex")
    with pytest.raises(InputError, match=r"leave niqe out of --metrics"):
        run(*arguments, "niqe", "--dry-run")
    with pytest.raises(InputError, match=r"leave flolpips:alex out of --metrics"):
        run(*arguments, "flolpips:alex")
    with pytest.raises(InputError, match=r"unknown metric 'ssim'"):
        run(*arguments, "ssim")
    with pytest.raises(InputError, match="asked for twice"):
        run(*arguments, "mse,mse")


def test_metrics_that_compare_need_data(tmp_path: Path, run: Run) -> None:
    write_images(tmp_path / "made", textures(2))
    with pytest.raises(InputError, match="pass its folder with --data"):
        run(tmp_path / "made", "--metrics", "mse")


def test_images_alone_are_scored_by_metrics_without_reference(tmp_path: Path, run: Run) -> None:
    images = textures(4, shape=(96, 192))
    save_scene_model(fit_scene_model(textures(3, 7, (192, 192))), tmp_path / "niqe_pris_params.npz")
    for name in ("a", "b"):
        write_images(tmp_path / "made" / name, images)
    said = run(tmp_path / "made", "--metrics", "niqe", "--metric-weights", tmp_path)
    assert [one["sequence"] for one in said["sequences"]] == ["a", "b"]
    assert said["datasets"][0]["scored"] == 8
    assert said["datasets"][0]["means"]["niqe"] > 0


def test_options_of_the_other_kind_are_refused(tmp_path: Path, run: Run) -> None:
    made = write_images(tmp_path / "made", textures(2))
    assert "--protocol is for networks" in run(made, "--metrics", "mse", "--protocol", "std", code=2)
    assert "--inserted is for folders" in run("firenet", "--metrics", "mse", "--inserted", 2, code=2)
    unknown = run("firenot", "--metrics", "mse", code=2)
    assert re.search(r"'firenot' is neither a network \(.*firenet.*\) nor a folder", unknown)
    with pytest.raises(InputError, match="no times"):
        run(made, "--data", made, "--metrics", "mse", "--start", 1)


def test_a_network_is_planned_then_evaluated(tmp_path: Path, run: Run) -> None:
    weights = tmp_path / "tiny.safetensors"
    models.save(models.create("firenet", channels=2, bins=2).eval(), weights)
    recording_with_frames(tmp_path / "SET" / "a", textures(6, shape=(12, 16)))
    arguments = ("firenet", "--weights", weights, "--data", tmp_path / "SET", "--metrics", "mse,ssim:evreal")
    output = ("--protocol", "kr0.9", "--device", "cpu", "-o", tmp_path / "out")
    plan = run(*arguments, *output, "--dry-run")
    assert plan["written"] == "nothing"
    assert plan["sequences"][0]["size"] == "16x12"
    assert plan["sequences"][0]["predictions"] == plan["sequences"][0]["scored"] == 4
    assert not (tmp_path / "out").exists()
    said = run(*arguments, *output)
    assert said["datasets"][0]["scored"] == 4
    assert (said["method"], said["network"], said["device"]) == ("tiny", "firenet", "cpu")
    folder = tmp_path / "out" / "kr0.9" / "SET" / "a" / "tiny"
    assert sorted(path.name for path in folder.iterdir()) == [
        "event_rate.txt", "mse.txt", "ssim.txt", "timestamps.txt",
    ]  # fmt: skip
    with pytest.raises(InputError, match="--overwrite"):
        run(*arguments, *output, "--dry-run")


def test_reconstructions_that_were_written_score_almost_the_same(tmp_path: Path, run: Run) -> None:
    weights = tmp_path / "tiny.safetensors"
    models.save(models.create("firenet", channels=2, bins=2).eval(), weights)
    recording_with_frames(tmp_path / "SET" / "a", textures(6, shape=(12, 16)))
    data = ("--data", tmp_path / "SET", "--metrics", "mse")
    made = run("firenet", "--weights", weights, *data, "-o", tmp_path / "out")
    read = run(tmp_path / "out" / "std" / "SET", "--method", "tiny", *data)
    assert read["sequences"][0]["scored"] == made["sequences"][0]["scored"] == 5
    assert read["datasets"][0]["means"]["mse"] == pytest.approx(
        made["datasets"][0]["means"]["mse"], abs=2 / 255
    )
