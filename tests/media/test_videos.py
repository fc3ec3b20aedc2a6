"""Video files: honest times, colours, and one clear line for what cannot be read."""

from __future__ import annotations

import struct
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from evsim.errors import InputError
from evsim.media import MediaWarning, Selection, VideoSource, open_source

SIZE = (32, 24)


def write_video(path: Path, count: int = 12, fps: float = 25.0, code: str = "FFV1") -> np.ndarray:
    """A clip of `count` smooth colour images; returns them as RGB."""
    rng = np.random.default_rng(count)
    coarse = rng.integers(0, 256, (count, 3, 4, 3), np.uint8)
    frames = np.stack([cv2.resize(image, SIZE, interpolation=cv2.INTER_CUBIC) for image in coarse])
    encoder = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), fps, SIZE)
    assert encoder.isOpened()
    for image in frames:
        encoder.write(image[..., ::-1].copy())
    encoder.release()
    return frames


def retime(path: Path, milliseconds: list[int]) -> None:
    """Rewrite the block times of a Matroska file of 25 frames/s, which are 40 ms apart."""
    content = bytearray(path.read_bytes())
    at = 0
    for k, t_ms in enumerate(milliseconds):
        # A SimpleBlock: 0xA3, its length, track number 1, time as a big-endian int16, flags.
        at = content.index(b"\x81" + struct.pack(">h", 40 * k), content.index(b"\xa3", at))
        content[at + 1 : at + 3] = struct.pack(">h", t_ms)
        at += 4
    path.write_bytes(content)


def times(source: VideoSource) -> list[int]:
    return [frame.t_ns for frame in source]


def test_lossless_video_gives_its_frames_in_rgb(tmp_path: Path) -> None:
    frames = write_video(tmp_path / "a.avi")
    read = list(open_source(tmp_path / "a.avi"))
    np.testing.assert_array_equal([frame.image for frame in read], frames)
    assert [frame.source_index for frame in read] == list(range(12))
    assert not any(frame.cut for frame in read)


@pytest.mark.parametrize("fps", [10.0, 25.0, 29.97, 30000 / 1001, 60.0, 240.0])
@pytest.mark.parametrize(("suffix", "code"), [(".avi", "MJPG"), (".mp4", "mp4v"), (".mkv", "FFV1")])
def test_constant_rate_gives_k_over_fps_exactly(tmp_path: Path, suffix: str, code: str, fps: float) -> None:
    # Matroska rounds to milliseconds, MPEG-4 and AVI keep the rate; 240 frames/s is 4.1667 ms.
    path = tmp_path / f"a{suffix}"
    write_video(path, 12, fps, code)
    source = VideoSource(path)
    read = times(source)
    rate = source.container_fps
    assert rate == pytest.approx(fps, rel=1e-3)
    assert read == [round(k * 1e9 / rate) for k in range(12)]
    assert source.fps == pytest.approx(fps, rel=1e-3)


def test_a_stream_without_container_gets_its_rate(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 24, 32, 3), np.uint8)
    (tmp_path / "a.mjpeg").write_bytes(b"".join(cv2.imencode(".jpg", i)[1].tobytes() for i in images))
    assert times(VideoSource(tmp_path / "a.mjpeg")) == [k * 40_000_000 for k in range(5)]


def test_irregular_times_are_kept_as_the_container_has_them(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", 7)
    irregular = [0, 31, 70, 95, 140, 150, 203]
    retime(tmp_path / "a.mkv", irregular)
    source = VideoSource(tmp_path / "a.mkv")
    assert times(source) == [t * 10**6 for t in irregular]
    assert source.timing == "presentation times, irregular"
    assert source.fps == pytest.approx(1000 / 35)


def test_times_that_run_backwards_name_the_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", 4)
    retime(tmp_path / "a.mkv", [0, 80, 40, 120])
    words = r"frame 2 is at 0\.040000000 s, not after frame 1 at 0\.080000000 s.*pass --fps"
    with pytest.raises(InputError, match=words):
        times(VideoSource(tmp_path / "a.mkv"))
    assert len(times(VideoSource(tmp_path / "a.mkv", selection=Selection(fps=25)))) == 4


def test_a_file_without_times_gets_the_rate_of_its_container(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", 4)
    retime(tmp_path / "a.mkv", [0, 0, 0, 0])
    source = VideoSource(tmp_path / "a.mkv")
    assert times(source) == [0, 40_000_000, 80_000_000, 120_000_000]
    assert "which has no times" in source.timing


def test_fps_option_overrides_the_container(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", 4)
    source = VideoSource(tmp_path / "a.avi", selection=Selection(fps=1000, slow_motion=2))
    assert times(source) == [0, 500_000, 1_000_000, 1_500_000]
    assert source.fps == 2000


def test_window_and_size_apply(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi")
    source = VideoSource(
        tmp_path / "a.avi", selection=Selection(start_s=0.08, stop_s=0.2, crop=(2, 2, 4, 0), size=(14, 10))
    )
    read = list(source)
    assert [frame.source_index for frame in read] == [2, 3, 4]
    assert {frame.image.shape for frame in read} == {(10, 14, 3)}
    assert (source.width, source.height, source.frames_expected) == (14, 10, 3)


def test_description_is_plain_and_complete(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi")
    assert VideoSource(tmp_path / "a.avi").describe() == {
        "name": str(tmp_path / "a.avi"),
        "kind": "video",
        "width": 32,
        "height": 24,
        "channels": 3,
        "dtype": "uint8",
        "bit_depth": 8,
        "frame_count": None,
        "frames_expected": 12,
        "duration_s": pytest.approx(0.44),
        "fps": pytest.approx(25.0),
        "transfer": "srgb",
        "timing": "presentation times at 25 frames/s",
    }


def test_a_clip_can_be_read_again_and_left_early(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi")
    source = VideoSource(tmp_path / "a.avi")
    early = iter(source)
    next(early)
    descriptors = Path("/proc/self/fd")
    open_before = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    early.close()  # type: ignore[attr-defined]
    assert not descriptors.exists() or len(list(descriptors.iterdir())) < open_before
    assert times(source) == times(source)


def test_a_cut_off_file_is_reported_with_both_counts(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", 40, code="MJPG")
    content = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "b.avi").write_bytes(content[: len(content) // 2])
    with pytest.warns(MediaWarning, match=r"claims 40 frames \(1\.600 s\), \d+ decoded \(0\.\d+ s\)"):
        read = times(VideoSource(tmp_path / "b.avi"))
    assert 0 < len(read) < 40


def test_window_before_the_cut_does_not_warn(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", 40, code="MJPG")
    content = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "b.avi").write_bytes(content[: len(content) // 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(times(VideoSource(tmp_path / "b.avi", selection=Selection(stop_s=0.2)))) == 5


@pytest.mark.parametrize("kind", ["missing", "empty", "garbage", "text", "folder", "head only"])
def test_what_is_no_video_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.mp4"
    if kind == "empty":
        path.touch()
    elif kind == "garbage":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "text":
        path.write_text("not a film\n" * 100)
    elif kind == "folder":
        path.mkdir()
    elif kind == "head only":
        write_video(path, code="mp4v")
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"a\.mp4") as raised:
        VideoSource(path)
    assert "\n" not in str(raised.value)


def test_garbage_leaves_stderr_and_environment_alone(tmp_path: Path) -> None:
    # In a process of its own: FFmpeg's level is settled when the first file is opened.
    (tmp_path / "a.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "a.avi").write_bytes(b"RIFF....AVI garbage" * 9)
    script = (
        "import os\nfrom evsim.errors import InputError\nfrom evsim.media import VideoSource\n"
        "before = dict(os.environ)\n"
        f"for name in ('a.mp4', 'a.avi'):\n    try: VideoSource(r'{tmp_path}/' + name)\n"
        "    except InputError: pass\n    else: raise SystemExit(1)\n"
        "raise SystemExit(0 if before == dict(os.environ) else 2)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_empty_window_says_where_the_frames_are(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi")
    with pytest.raises(InputError, match=r"no frame from 9 s .* at 0\.000000000 to 0\.440000000 s"):
        list(VideoSource(tmp_path / "a.avi", selection=Selection(start_s=9)))


@pytest.mark.needs_data
def test_tree_keeps_its_irregular_times(data: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # 444 frames are claimed and 68 exist, but the duration is kept
        source = VideoSource(data / "clips/tree.avi")
        read = times(source)
    assert len(read) == source.frames_expected == 68
    assert [t // 10**6 for t in read[:3]] == [0, 733, 1133]
    assert read[-1] // 10**6 == 29533
    # The container counts in 66667 us; every time is a whole number of them.
    assert all(t % 66_667_000 == 0 for t in read)
    assert "gaps" in source.timing


@pytest.mark.needs_data
@pytest.mark.parametrize(
    ("clip", "count", "fps", "size"),
    [
        ("bikes.mp4", 250, 25, (640, 272)),
        ("bigbuckbunny.mp4", 132, 25, (1280, 720)),
        ("vid2e_street_346x260/video.mp4", 9, 25, (346, 260)),
        ("pedestrians.avi", 795, 10, (768, 576)),
    ],
)
def test_real_clips_are_at_k_over_fps(
    data: Path, clip: str, count: int, fps: int, size: tuple[int, int]
) -> None:
    source = VideoSource(data / "clips" / clip)
    assert (source.width, source.height) == size
    assert source.frames_expected == count
    read = times(VideoSource(data / "clips" / clip, selection=Selection(stop_s=3)))
    assert read == [k * 10**9 // fps for k in range(min(count, 3 * fps))]
    assert all(a < b for a, b in pairwise(read))


@pytest.mark.needs_data
def test_the_real_clip_that_is_cut_off_is_reported(data: Path, tmp_path: Path) -> None:
    content = (data / "clips/pedestrians.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: len(content) // 20])
    with pytest.warns(MediaWarning, match=r"claims 795 frames \(79\.500 s\)"):
        times(VideoSource(tmp_path / "cut.avi"))
