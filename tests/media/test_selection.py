"""The window in time and space on a clip."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest

from evsim.errors import InputError
from evsim.media import ArraySource, Selection, resize


def test_public_names_load_without_a_decoder() -> None:
    script = (
        "import sys, evsim.media as media\n"
        "media.Selection, media.Frame, media.open_source, media.ArraySource, media.MediaWarning\n"
        "assert not {'cv2', 'rawpy', 'torch', 'numba'} & set(sys.modules)\n"
        "assert all(hasattr(media, name) for name in media.__all__)\n"
        "assert not hasattr(media, 'nothing')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def frames(count: int = 10, height: int = 6, width: int = 8) -> np.ndarray:
    return np.arange(count * height * width, dtype=np.uint16).reshape(count, height, width)


def test_window_is_half_open() -> None:
    source = ArraySource(frames(), 10.0, selection=Selection(start_s=0.2, stop_s=0.5))
    assert [(f.source_index, f.t_ns) for f in source] == [
        (2, 200_000_000),
        (3, 300_000_000),
        (4, 400_000_000),
    ]
    assert source.frame_count == 3


def test_slow_motion_divides_times_after_the_window_is_chosen() -> None:
    source = ArraySource(frames(), 30.0, selection=Selection(start_s=0.1, slow_motion=8))
    assert [f.t_ns for f in source] == [round(k * 1e9 / 240) for k in range(3, 10)]
    assert source.fps == pytest.approx(240)


def test_fps_replaces_the_times_of_the_clip() -> None:
    source = ArraySource(frames(3), np.array([5, 6, 100]), selection=Selection(fps=1000))
    assert [f.t_ns for f in source] == [0, 1_000_000, 2_000_000]


def test_crop_cuts_left_right_top_bottom() -> None:
    stack = frames()
    source = ArraySource(stack, 10.0, selection=Selection(crop=(1, 2, 3, 0)))
    assert (source.width, source.height) == (5, 3)
    for index, frame in enumerate(source):
        np.testing.assert_array_equal(frame.image, stack[index, 3:, 1:-2])


def test_shrinking_averages_by_area() -> None:
    source = ArraySource(np.array([[[10, 30], [50, 70]]], np.uint8), 1.0, selection=Selection(size=(1, 1)))
    assert next(iter(source)).image.tolist() == [[40]]


def test_growing_is_bilinear() -> None:
    image = np.array([[0, 100]], np.float32)
    np.testing.assert_allclose(resize(image, (4, 1)), [[0, 25, 75, 100]])


def test_each_axis_is_resized_by_its_own_rule() -> None:
    image = np.random.default_rng(0).random((4, 8, 3)).astype(np.float32)
    narrow = cv2.resize(image, (4, 4), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(resize(image, (4, 8)), cv2.resize(narrow, (4, 8)))


def test_crop_comes_before_resizing() -> None:
    source = ArraySource(frames(), 10.0, selection=Selection(crop=(0, 4, 0, 2), size=(2, 2)))
    np.testing.assert_array_equal(next(iter(source)).image, resize(frames()[0, :4, :4], (2, 2)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"start_s": 2.0, "stop_s": 2.0}, "stop_s = 2.0, expected more than start_s"),
        ({"start_s": float("nan")}, "start_s = nan, expected seconds"),
        ({"crop": (1, 2, 3)}, "expected four pixel counts"),
        ({"crop": (-1, 0, 0, 0)}, "expected four pixel counts"),
        ({"size": (0, 4)}, r"expected \(width, height\)"),
        ({"size": (4.5, 4)}, r"expected \(width, height\)"),
        ({"fps": 0}, "fps = 0, expected a positive number"),
        ({"slow_motion": float("inf")}, "slow_motion = inf, expected a positive number"),
        ({"slow_motion": None}, "slow_motion = None"),
    ],
)
def test_impossible_values_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Selection(**wrong)


def test_crop_that_leaves_nothing_names_both_sizes() -> None:
    with pytest.raises(InputError, match=r"clip: crop 4,4,0,0 .* leaves nothing of 8x6 pixels"):
        ArraySource(frames(), 10.0, name="clip", selection=Selection(crop=(4, 4, 0, 0)))


def test_empty_window_says_where_the_frames_are() -> None:
    with pytest.raises(InputError, match=r"no frame from 7 s to before the end; .* 0\.000000000 to 0\.9"):
        ArraySource(frames(), 10.0, selection=Selection(start_s=7.0))
