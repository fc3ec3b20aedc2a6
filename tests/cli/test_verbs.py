"""Every verb through the entry point: what it writes, prints and returns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import yaml

from evsim.formats import open_events
from evsim.isp import IspConfig, draw_parameters

ROOT = Path(__file__).resolve().parent.parent.parent
Run = Callable[..., Any]
BLOSC = 32001
"""Its number among HDF5 filters."""


def contents(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_video_becomes_an_event_file_with_frames_and_configuration(
    evsim: Run, video: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out" / "clip.h5"
    done = evsim("simulate", "video", video, "-o", output, "--preset", "ideal", "--factor", 2, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert contents(output.parent) == ["clip.config.yaml", "clip.h5"]
    with open_events(output) as recording:
        assert (recording.width, recording.height) == (48, 36)
        assert len(recording) == result["events"] > 0
        assert recording.image_count == 6
        assert recording.events().validate().t[-1] <= 5e6 / 30
    assert (result["source_frames"], result["frames"], result["intervals"]) == (6, 11, 10)


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".npy", ".txt", ""])
def test_every_output_format_holds_the_same_events(
    suffix: str, evsim: Run, folder: Path, tmp_path: Path
) -> None:
    reference, output = tmp_path / "reference.h5", tmp_path / f"events{suffix}"
    for path in (reference, output):
        done = evsim(
            "simulate", "video", folder, "-o", path, "--preset", "v2e-noisy", "--factor", 1, "--overwrite"
        )
        assert done.code == 0, done.err
    size = {"size": (48, 36)} if suffix in (".npy", ".txt") else {}
    unit = {"unit": "us"} if suffix == ".npy" else {"unit": "s"} if suffix == ".txt" else {}
    with open_events(reference) as wanted, open_events(output, **size, **unit) as found:
        for name in "txyp":
            assert np.array_equal(getattr(wanted.events(), name), getattr(found.events(), name))


def test_the_written_configuration_gives_the_same_bytes_again(
    evsim: Run, folder: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.h5", tmp_path / "second.h5"
    options = ["--set", "sensor.contrast_threshold_on=uniform(0.15,0.2)", "--set", "isp.low_light_factor=2"]
    assert evsim("simulate", "video", folder, "-o", first, "--seed", 7, "--stop", 0.15, *options).code == 0
    config = tmp_path / "first.config.yaml"
    assert 0.15 <= yaml.safe_load(config.read_text())["sensor"]["contrast_threshold_on"] <= 0.2
    assert evsim("simulate", "video", folder, "-o", second, "--config", config).code == 0
    assert first.read_bytes() == second.read_bytes()


def test_threads_do_not_change_a_byte(evsim: Run, folder: Path, tmp_path: Path) -> None:
    for threads in (1, 2):
        assert (
            evsim("simulate", "video", folder, "-o", tmp_path / f"{threads}.h5", "--threads", threads).code
            == 0
        )
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_a_dry_run_prints_the_plan_and_writes_nothing(evsim: Run, folder: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    done = evsim("simulate", "video", folder, "-o", tmp_path / "x.h5", "--dry-run", "--factor", 4, "--json")
    plan = json.loads(done.out)
    assert plan["upsampled_frames"] == 21
    assert plan["estimated_events"] > 0
    assert contents(tmp_path) == before


def test_a_still_image_moves(evsim: Run, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "still.h5"
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), np.random.RandomState(0).randint(0, 255, (120, 160, 3), np.uint8))
    shape = ["--size", "40x30", "--duration", 0.2, "--fps", 20, "--motion", "pan"]
    done = evsim(
        "simulate", "image", picture, "-o", output, *shape, "--preset", "ideal", "--factor", 2, "--json"
    )
    assert done.code == 0, done.err
    assert json.loads(done.out)["events"] > 100


def test_upsample_keeps_source_frames_and_writes_their_times(
    evsim: Run, folder: Path, tmp_path: Path
) -> None:
    done = evsim("upsample", folder, "-o", tmp_path / "dense", "--factor", 4)
    assert done.code == 0, done.err
    pictures = sorted((tmp_path / "dense").glob("*.png"))
    assert len(pictures) == 21
    assert np.array_equal(cv2.imread(str(pictures[4])), cv2.imread(str(folder / "001.png")))
    assert evsim("info", tmp_path / "dense").code == 0


def test_unprocess_darkens(evsim: Run, folder: Path, tmp_path: Path) -> None:
    done = evsim("unprocess", folder, "-o", tmp_path / "raw", "--low-light-factor", 8, "--bit-depth", 16)
    assert done.code == 0, done.err
    raw = cv2.imread(str(tmp_path / "raw" / "00000000.png"), cv2.IMREAD_UNCHANGED)
    assert raw.dtype == np.uint16
    assert 0 < raw.mean() / 65535 < 0.2 * cv2.imread(str(folder / "000.png")).mean() / 255


def test_stages_write_their_configuration_and_take_it_back(evsim: Run, folder: Path, tmp_path: Path) -> None:
    assert evsim("unprocess", folder, "-o", tmp_path / "raw", "--seed", 5).code == 0
    text = (tmp_path / "raw.config.yaml").read_text()
    drawn = yaml.safe_load(text.partition("# Drawn once for this clip:\n")[2].replace("# ", ""))
    camera = draw_parameters(IspConfig(variant="sim2real"), 5, "")
    assert drawn["isp_parameters"]["rgb_gain"] == camera.rgb_gain
    assert np.array_equal(drawn["isp_parameters"]["rgb2cam"], camera.rgb2cam)
    config = tmp_path / "raw.config.yaml"
    assert evsim("unprocess", folder, "-o", tmp_path / "again", "--config", config).code == 0
    assert picture_bytes(tmp_path / "raw") == picture_bytes(tmp_path / "again")
    options = ["--set", "upsample.factor=3", "--set", "upsample.interpolated_dtype=float32"]
    assert evsim("upsample", folder, "-o", tmp_path / "dense.npy", *options).code == 2
    assert evsim("upsample", folder, "-o", tmp_path / "dense", "--set", "upsample.factor=3").code == 0
    config = tmp_path / "dense.config.yaml"
    assert evsim("upsample", folder, "-o", tmp_path / "denser", "--config", config).code == 0
    assert len(picture_bytes(tmp_path / "dense")) == 16
    assert picture_bytes(tmp_path / "dense") == picture_bytes(tmp_path / "denser")


def picture_bytes(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.png"))]


@pytest.mark.filterwarnings("default:frames come every")
def test_options_of_the_chain_reach_the_events(evsim: Run, folder: Path, tmp_path: Path) -> None:
    options = [
        "--bit-depth",
        8,
        "--low-light-factor",
        2,
        "--no-substep",
        "--factor",
        2,
        "--compression",
        "blosc",
    ]
    done = evsim("simulate", "video", folder, "-o", tmp_path / "e.h5", *options)
    assert done.code == 0, done.err
    assert "1920 Hz" in done.err
    config = yaml.safe_load((tmp_path / "e.config.yaml").read_text())
    assert (config["isp"]["bit_depth"], config["isp"]["low_light_factor"]) == (8, 2.0)
    assert (config["sensor"]["substep"], config["upsample"]["factor"]) == (False, 2)
    with h5py.File(tmp_path / "e.h5") as file:
        stored = file["events/xs"].id.get_create_plist()
        assert BLOSC in [stored.get_filter(index)[0] for index in range(stored.get_nfilters())]
    done = evsim("simulate", "video", folder, "-o", tmp_path / "e.txt", "--compression", "blosc")
    assert (done.code, "no option 'compression'" in done.err) == (2, True)


def test_convert_info_and_view_read_what_simulate_wrote(evsim: Run, folder: Path, tmp_path: Path) -> None:
    events = tmp_path / "e.h5"
    assert evsim("simulate", "video", folder, "-o", events, "--preset", "v2e-noisy").code == 0
    assert evsim("convert", events, tmp_path / "e.npz").code == 0
    info = json.loads(evsim("info", events, "--json").out)
    assert json.loads(evsim("info", tmp_path / "e.npz", "--json").out)["events"] == info["events"]
    assert (info["width"], info["height"], info["images"]) == (48, 36, 6)
    assert evsim("view", events, "-o", tmp_path / "sheet.png", "--panels", 3).code == 0
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.std() > 10
    assert evsim("view", events, "-o", tmp_path / "film.webm").code == 0
    assert cv2.VideoCapture(str(tmp_path / "film.webm")).read()[0]
    assert evsim("view", events, "-o", tmp_path / "rate.png", "--rate").code == 0


def test_pack_writes_memmap_folders_and_both_lists(evsim: Run, folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert evsim("simulate", "video", folder, "-o", tmp_path / "events" / f"{name}.h5").code == 0
    done = evsim("pack", "rled", tmp_path / "events", "-o", tmp_path / "packed", "--memmap", "--json")
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    assert (summary["sequences"], summary["train"], summary["validation"]) == (2, 1, 1)
    assert {"train_memmap.txt", "val_memmap.txt"} <= set(contents(tmp_path / "packed"))


def test_results_are_on_stdout_and_messages_on_stderr(evsim: Run, folder: Path, tmp_path: Path) -> None:
    done = evsim("simulate", "video", folder, "-o", tmp_path / "e.h5", "--json")
    json.loads(done.out)
    assert "{" not in done.err


ARRAYS = {
    "nan": np.full((3, 8, 8), np.nan, np.float32),
    "negative": np.full((3, 8, 8), -1.0, np.float32),
    "single": np.zeros((1, 8, 8), np.uint8),
    "shape": np.zeros((3, 8), np.uint8),
}


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A zoo of inputs that cannot be used."""
    zoo = tmp_path / "bad"
    zoo.mkdir()
    (zoo / "empty.mp4").touch()
    (zoo / "garbage.mp4").write_bytes(os.urandom(5000))
    (zoo / "empty").mkdir()
    for name, array in ARRAYS.items():
        np.save(zoo / f"{name}.npy", array)
    for name, sizes in (
        ("sizes", [(8, 8), (8, 9)]),
        ("untimed", [(8, 8), (8, 8)]),
        ("backwards", [(8, 8), (8, 8)]),
    ):
        (zoo / name).mkdir()
        for index, size in enumerate(sizes):
            cv2.imwrite(str(zoo / name / f"{index}.png"), np.zeros(size, np.uint8))
    (zoo / "sizes" / "fps.txt").write_text("30")
    (zoo / "backwards" / "timestamps.txt").write_text("1.0\n0.5\n")
    with h5py.File(zoo / "no_events.h5", "w") as file:
        file["something"] = 1
    (zoo / "garbage.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + os.urandom(500))
    (zoo / "outside.txt").write_text("8 6\n0.1 9 0 1\n")
    (zoo / "unsorted.txt").write_text("8 6\n0.2 1 0 1\n0.1 1 0 1\n")
    (zoo / "picture.png").write_bytes((zoo / "sizes" / "0.png").read_bytes())
    return zoo


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.mp4", "missing.mp4"),
        ("empty.mp4", "empty"),
        ("garbage.mp4", "garbage.mp4"),
        ("empty", "no image"),
        ("nan.npy", "nan"),
        ("negative.npy", "negative"),
        ("single.npy", "at least 2"),
        ("shape.npy", "shape"),
        ("sizes", "8x9|9x8"),
        ("untimed", "--fps"),
        ("backwards", "backwards"),
        ("picture.png", "simulate image"),
    ],
)
def test_bad_footage_is_one_line_and_code_2(
    name: str, words: str, evsim: Run, bad: Path, tmp_path: Path
) -> None:
    fps = ["--fps", 10] if name.endswith(".npy") else []
    done = evsim("simulate", "video", bad / name, "-o", tmp_path / "out" / "e.h5", *fps)
    assert done.code == 2, done.err
    errors = [line for line in done.err.splitlines() if not line.startswith("evsim: warning:")]
    assert len(errors) == 1, done.err
    assert errors[0].startswith("evsim: error: ")
    assert any(word.lower() in errors[0].lower() for word in words.split("|")), done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists() or contents(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_events.h5", "events"),
        ("garbage.h5", "garbage.h5"),
        ("outside.txt", "outside"),
        ("unsorted.txt", "sorted"),
    ],
)
def test_bad_event_files_are_one_line_and_code_2(
    name: str, words: str, evsim: Run, bad: Path, tmp_path: Path
) -> None:
    done = evsim("convert", bad / name, tmp_path / "e.npz", "--unit", "s")
    assert done.code == 2, done.err
    assert done.err.startswith("evsim: error: ")
    assert len(done.err.splitlines()) == 1, done.err
    assert words in done.err
    assert not (tmp_path / "e.npz").exists()


def test_an_existing_output_is_refused_unless_told(evsim: Run, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "e.h5"
    output.write_text("precious")
    done = evsim("simulate", "video", folder, "-o", output)
    assert done.code == 2
    assert "--overwrite" in done.err
    assert output.read_text() == "precious"
    assert evsim("simulate", "video", folder, "-o", output, "--overwrite").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "sim2rael"], "did you mean 'sim2real'"),
        (["--set", "sensor.cutof_hz=3"], "did you mean 'cutoff_hz'"),
        (["--set", "sensor.contrast_threshold_on=-1"], "contrast_threshold_on"),
        (["--size", "12"], "346x260"),
        (["--factor", "0"], "--factor"),
        (["--stop", "-1"], "-1"),
        (["--crop", "40,40,0,0"], "crop"),
        (["--crop", "40,40"], "four pixel counts"),
        (["--sed", "3"], "evsim simulate video --help"),
        (["--seed", str(2**63)], "seed"),
    ],
)
def test_a_wrong_option_is_explained(
    arguments: list[str], words: str, evsim: Run, folder: Path, tmp_path: Path
) -> None:
    done = evsim("simulate", "video", folder, "-o", tmp_path / "e.h5", *arguments)
    assert done.code == 2
    assert words in done.err
    assert done.err.startswith("evsim: error: ")
    assert len(done.err.splitlines()) == 1, done.err
    assert not (tmp_path / "e.h5").exists()


def test_an_output_below_a_file_is_refused_by_name(evsim: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    done = evsim("simulate", "video", folder, "-o", tmp_path / "notes" / "deep" / "e.h5")
    assert done.code == 2
    assert f"{tmp_path / 'notes'} is a file, expected a folder" in done.err


def test_light_beyond_full_scale_names_the_clip_and_the_time(evsim: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "bright.npy", np.full((3, 8, 8), 255.0, np.float32))
    done = evsim("simulate", "video", tmp_path / "bright.npy", "-o", tmp_path / "e.h5", "--fps", 10)
    assert done.code == 2
    assert "bright.npy at 0 s: 64 of 64 float values" in done.err


def test_info_says_why_an_event_file_is_none(evsim: Run, bad: Path) -> None:
    done = evsim("info", bad / "no_events.h5")
    assert done.code == 2
    assert "is an HDF5 file without event columns" in done.err
    assert len(done.err.splitlines()) == 1


def test_debug_shows_where_an_error_came_from(evsim: Run, tmp_path: Path) -> None:
    done = evsim("info", tmp_path / "missing.h5", "--debug")
    assert done.code == 2
    assert "Traceback" in done.err


def long_job(folder: Path, output: Path) -> list[str]:
    command = [sys.executable, "-m", "evsim", "simulate", "video", str(folder), "-o", str(output)]
    return [*command, "--fps", "0.5", "--set", "upsample.factor=2000", "--set", "sensor.step_rate_hz=null"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_job_leaves_nothing(number: int, code: int, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "e.h5"
    with subprocess.Popen(long_job(folder, output), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (output.parent.exists() and contents(output.parent)) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert contents(output.parent) == []
    assert "Traceback" not in err


def test_a_full_disk_is_one_line_and_leaves_nothing(evsim: Run, folder: Path, tmp_path: Path) -> None:
    # What it compiles is kept before files may no longer grow, so that none of those is cut short.
    warm = long_job(folder, tmp_path / "warm.h5")[3:]
    assert evsim(*warm, "--set", "upsample.factor=200").code == 0
    output = tmp_path / "out" / "e.h5"
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
        f"sys.argv = ['evsim', *{long_job(folder, output)[3:]!r}];"
        "from evsim.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line]
    assert len(errors) == 1, done.stderr
    assert "file too large" in errors[0]
    assert contents(output.parent) == []
