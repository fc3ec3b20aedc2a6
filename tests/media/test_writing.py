"""Frames written and read again: the same pixels, the same times, or nothing at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evsim.errors import InputError
from evsim.media import MediaWarning, Selection, open_source, open_writer

TIMES = [0, 33_366_667, 1_234_567_891, 1_605_537_493_718_345_001]


def frames(dtype: Any, channels: int, count: int = 4, size: tuple[int, int] = (16, 12)) -> np.ndarray:
    shape = (count, size[1], size[0]) if channels == 1 else (count, size[1], size[0], channels)
    rng = np.random.default_rng(channels)
    if np.dtype(dtype).kind == "f":
        return rng.random(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def left_over(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "dtype", "image_format"),
    [
        ("out", np.uint8, "png"),
        ("out", np.uint16, "png"),
        ("out", np.uint16, "npy"),
        ("out", np.float32, "npy"),
        ("out.npy", np.uint8, "png"),
        ("out.npy", np.uint16, "png"),
        ("out.npy", np.float32, "png"),
    ],
)
def test_round_trip_is_exact(tmp_path: Path, name: str, dtype: Any, image_format: Any, channels: int) -> None:
    images = frames(dtype, channels)
    with open_writer(tmp_path / name, image_format=image_format, size=(16, 12)) as writer:
        for image, t_ns in zip(images, TIMES):
            writer.write(image, t_ns)
    source = open_source(tmp_path / name)
    read = list(source)
    assert [frame.t_ns for frame in read] == TIMES
    np.testing.assert_array_equal([frame.image for frame in read], images)
    assert source.dtype == dtype
    sidecar = ["out.timestamps.txt"] if name.endswith(".npy") else []
    assert left_over(tmp_path) == [name, *sidecar]


def test_folder_layout(tmp_path: Path) -> None:
    with open_writer(tmp_path / "out", fps=30000 / 1001) as writer:
        for image in frames(np.uint8, 3, 2):
            writer.write(image)
    assert left_over(tmp_path / "out") == ["00000000.png", "00000001.png", "timestamps.txt"]
    assert (tmp_path / "out/timestamps.txt").read_text() == "0.000000000\n0.033366667\n"


def test_floats_become_sixteen_bit_png_with_a_count_of_clipped_values(tmp_path: Path) -> None:
    image = np.array([[0.0, 0.5], [1.0, 1.5]], np.float32)
    with (
        pytest.warns(MediaWarning, match=r"1 values outside \[0, 1\] were clipped"),
        open_writer(tmp_path / "out", fps=1) as writer,
    ):
        writer.write(image)
    read = next(iter(open_source(tmp_path / "out"))).image
    assert (read.dtype, read.tolist()) == (np.uint16, [[0, 32768], [65535, 65535]])


@pytest.mark.parametrize("name", ["a.avi", "a.mkv"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_video_round_trip(tmp_path: Path, name: str, channels: int) -> None:
    images = frames(np.uint8, channels, 7)
    with open_writer(tmp_path / name, fps=24) as writer:
        for image in images:
            writer.write(image)
    read = list(open_source(tmp_path / name))
    want = images if channels == 3 else np.repeat(images[..., None], 3, axis=3)
    np.testing.assert_array_equal([frame.image for frame in read], want)
    assert [frame.t_ns for frame in read] == [round(k * 1e9 / 24) for k in range(7)]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", None), ("a.mov", None), ("a.webm", None), ("a.webm", "VP80"), ("a.avi", "MJPG")],
)
def test_lossy_video_keeps_every_frame_and_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, codec: str | None
) -> None:
    shade = np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(48, 64)
    with open_writer(tmp_path / name, fps=25, codec=codec) as writer:
        for k in range(30):
            writer.write(np.roll(shade, k, axis=0))
    read = list(open_source(tmp_path / name))
    assert [frame.t_ns for frame in read] == [k * 40_000_000 for k in range(30)]
    assert np.mean(np.abs(read[0].image[..., 1] / 255 - shade)) < 0.05
    assert left_over(tmp_path) == [name]
    assert capfd.readouterr().err == ""


def test_video_says_when_times_are_lost(tmp_path: Path) -> None:
    image = frames(np.uint8, 3)[0]

    def write(*times: int) -> None:
        with open_writer(tmp_path / "a.avi", fps=10) as writer:
            for t_ns in times:
                writer.write(image, t_ns)

    with pytest.warns(MediaWarning, match=r"1 of 3 frames are not at k / 10 s"):
        write(10**9, 1_100_000_000, 1_250_000_000)


@pytest.mark.parametrize("name", ["out", "out.npy", "a.avi", "a.mp4"])
def test_nothing_is_left_when_the_block_raises(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyError), open_writer(tmp_path / name, fps=25) as writer:
        writer.write(frames(np.uint8, 3)[0])
        raise KeyError
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("name", ["out", "out.npy", "a.avi"])
def test_existing_output_needs_overwrite(tmp_path: Path, name: str) -> None:
    def write(value: int, overwrite: bool) -> None:
        with open_writer(tmp_path / name, fps=25, overwrite=overwrite) as writer:
            writer.write(np.full((12, 16), value, np.uint8))

    write(10, overwrite=False)
    with pytest.raises(InputError, match="exists; choose another output or pass --overwrite"):
        write(200, overwrite=False)
    assert next(iter(open_source(tmp_path / name))).image.max() == 10
    write(200, overwrite=True)
    assert next(iter(open_source(tmp_path / name))).image.min() == 200


FILL = """
import resource, sys
import numpy as np
from evsim.errors import RunError
from evsim.media import open_writer
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
try:
    with open_writer(sys.argv[1], fps=25) as writer:
        for _ in range(10):
            writer.write(noise)
except RunError as error:
    raise SystemExit(0 if "nothing was kept" in str(error) else 3)
raise SystemExit(1)
"""


@pytest.mark.parametrize("name", ["out", "out.npy", "a.avi", "a.mp4"])
def test_a_refusing_disk_is_a_run_error_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path / name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.xyz", {}, "cannot write frames as .xyz; expected no suffix"),
        ("a.avi", {}, "a video needs a frame rate; pass --fps"),
        ("a.npy", {"codec": "MJPG"}, "codec = 'MJPG' is for video"),
        ("out", {"fps": -1}, "fps = -1, expected a positive number"),
        ("out", {"image_format": "gif"}, "image_format = 'gif'"),
        ("a.avi", {"fps": 5, "codec": "H"}, "a code of four letters"),
    ],
)
def test_unusable_options_are_refused(tmp_path: Path, name: str, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words), open_writer(tmp_path / name, **options) as writer:
        writer.write(frames(np.uint8, 3)[0])
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "images", "words"),
    [
        ("out", [], "no frame was written"),
        ("a.avi", [], "no frame was written"),
        ("out.npy", [], "no frame was written"),
        ("out", [np.zeros((4, 6), np.uint8), np.zeros((4, 8), np.uint8)], "frame 1 is uint8 of shape"),
        ("out", [np.zeros((4, 6), np.int32)], "is int32, expected uint8"),
        ("a.avi", [np.zeros((5, 8), np.uint8)], "needs an even width and height, got 8x5; pass --size 8x4"),
        ("a.avi", [np.zeros((4, 8), np.uint16)], "a video holds 8-bit frames, got uint16"),
    ],
)
def test_unusable_frames_are_refused(tmp_path: Path, name: str, images: list, words: str) -> None:
    with pytest.raises(InputError, match=words), open_writer(tmp_path / name, fps=25) as writer:
        for image in images:
            writer.write(image)
    assert left_over(tmp_path) == []


def test_times_must_be_known_and_increase(tmp_path: Path) -> None:
    image = frames(np.uint8, 3)[0]
    with pytest.raises(InputError, match="frame 0 has no time"), open_writer(tmp_path / "out") as writer:
        writer.write(image)
    with pytest.raises(InputError, match="strictly increase"), open_writer(tmp_path / "out") as writer:
        writer.write(image, 5)
        writer.write(image, 5)


def test_expected_size_is_held_to(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="frame 0 is 16x12 pixels, expected 8x8"),
        open_writer(tmp_path / "out", fps=1, size=(8, 8)) as writer,
    ):
        writer.write(frames(np.uint8, 3)[0])


def test_written_footage_reads_with_a_selection(tmp_path: Path) -> None:
    with open_writer(tmp_path / "out", fps=10) as writer:
        for image in frames(np.uint8, 3):
            writer.write(image)
    source = open_source(tmp_path / "out", selection=Selection(start_s=0.2))
    assert [frame.source_index for frame in source] == [2, 3]
