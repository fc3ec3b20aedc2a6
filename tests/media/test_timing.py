"""Exact frame times, container clocks, timing files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsim.errors import InputError
from evsim.media.timing import (
    find_grid,
    folder_timing,
    format_seconds,
    rational_rate,
    read_timestamps,
    regular_times_ns,
)

NAMES = ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (25.0, Fraction(25)),
        (29.97002997002997, Fraction(30000, 1001)),
        (29.97, Fraction(2997, 100)),
        (23.976023976023978, Fraction(24000, 1001)),
        (1e6 / 66667, Fraction(10**6, 66667)),
        (0.5, Fraction(1, 2)),
    ],
)
def test_the_rate_that_was_meant(fps: float, rate: Fraction) -> None:
    assert rational_rate(fps) == rate


def test_times_are_rounded_once() -> None:
    times = regular_times_ns(100_001, 30000 / 1001)
    assert times.dtype == np.int64
    assert times[[0, 1, 3, 100_000]].tolist() == [0, 33366667, 100100000, 3336666666667]


@given(
    fps=st.sampled_from([24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 60000 / 1001, 120.0, 240.0]),
    ticks=st.sampled_from([600, 1000, 90_000, 10**6, 10**9]),
    gaps=st.lists(st.integers(1, 20), min_size=3, max_size=60),
)
def test_rounding_of_a_container_clock_is_undone(fps: float, ticks: int, gaps: list[int]) -> None:
    rate = rational_rate(fps)
    indices = np.cumsum([0, *gaps])
    exact = [Fraction(int(k)) / rate for k in indices]
    ticked = [float(Fraction(round(t * ticks), ticks) * 10**9) for t in exact]
    grid = find_grid(ticked, fps)
    if (
        grid is not None
    ):  # ticks that happen to suit a coarser clock may lie on another grid: never a wrong one
        got = [round(grid.snap(t)) for t in ticked]
        assert max(abs(g - float(t) * 1e9) for g, t in zip(got, exact)) <= 0.51e9 / ticks
        if ticks >= 1000 and len(set(gaps)) > 1 and grid.rate == rate:
            assert got == [round(t * 10**9) for t in exact]


def test_millisecond_clock_of_matroska() -> None:
    grid = find_grid([t * 1e6 for t in (0, 33, 67, 100, 133, 167, 200)], 29.97002997002997)
    assert grid is not None
    assert [round(grid.snap(t * 1e6)) for t in (33, 67, 234)] == [33366667, 66733333, 233566667]


def test_variable_rate_has_no_grid() -> None:
    assert find_grid([0, 30e6, 71e6, 95e6, 140e6], 29.3) is None


def test_two_frames_never_snap_to_one_instant() -> None:
    grid = find_grid([0, 1e6, 2e6, 3e6], 1000.0)
    assert grid is not None
    assert len({grid.snap(t * 1e6) for t in range(100)}) == 100


@given(st.integers(-(2**62), 2**62))
def test_seconds_are_written_exactly(t_ns: int) -> None:
    assert round(Fraction(format_seconds(t_ns)) * 10**9) == t_ns


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")


def test_timestamps_are_seconds_one_per_line(tmp_path: Path) -> None:
    write(tmp_path, "timestamps.txt", "# seconds\n0.1\n\n1605537493.718345001\n1.7e9\n")
    timing = folder_timing(tmp_path, NAMES, None)
    assert list(timing.t_ns) == [100_000_000, 1605537493718345001, 1700000000000000000]
    assert timing.source.endswith("timestamps.txt")


def test_timestamps_with_names_follow_the_names(tmp_path: Path) -> None:
    write(tmp_path, "timestamps.txt", "imgs/b.png 0.2\nimgs/a.png 0.1\nimgs/c.png 0.3\n")
    assert list(folder_timing(tmp_path, NAMES, None).t_ns) == [100_000_000, 200_000_000, 300_000_000]


def test_info_holds_names_and_microseconds(tmp_path: Path) -> None:
    write(tmp_path, "info.txt", "a.png 000000013767\nb.png 18173.5\nc.png 22580\n")
    assert list(folder_timing(tmp_path, NAMES, None).t_ns) == [13_767_000, 18_173_500, 22_580_000]


@pytest.mark.parametrize("beside", [False, True])
def test_fps_file_in_the_folder_or_beside_it(tmp_path: Path, beside: bool) -> None:
    folder = tmp_path / "imgs"
    folder.mkdir()
    write(tmp_path if beside else folder, "fps.txt", "29.97\n")
    assert [round(t) for t in folder_timing(folder, NAMES, None).t_ns] == [0, 33366700, 66733400]


def test_fps_option_comes_before_every_file(tmp_path: Path) -> None:
    write(tmp_path, "timestamps.txt", "nonsense\n")
    assert list(folder_timing(tmp_path, NAMES, 10.0).t_ns) == [0, 100_000_000, 200_000_000]


def test_timestamps_come_before_fps(tmp_path: Path) -> None:
    write(tmp_path, "timestamps.txt", "0\n1\n2\n")
    write(tmp_path, "fps.txt", "30")
    assert list(folder_timing(tmp_path, NAMES, None).t_ns)[1] == 10**9


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("timestamps.txt", "0\n1\n", r"holds 2 times for 3 frames"),
        ("timestamps.txt", "0\n1\nx\n", r"timestamps\.txt line 3: 'x', expected a time in seconds"),
        ("timestamps.txt", "0\nnan\n2\n", r"line 2: 'nan'"),
        ("timestamps.txt", "0\n1e300\n2\n", r"line 2: '1e300'"),
        ("timestamps.txt", "0\n2\n1\n", r"c\.png is at 1\.000000000 s, not after b\.png at 2\.000000000 s"),
        ("timestamps.txt", "0\n1\n1\n", r"must strictly increase"),
        ("timestamps.txt", "a.png 0\n1\n", r"line 2: '1', expected a file name and a time"),
        ("timestamps.txt", "0\nb.png 1\n", r"line 2: 'b\.png 1', expected one time"),
        ("info.txt", "a.png 1\nb.png 2\n", r"c\.png has no time"),
        ("info.txt", "a.png 1\nb.png 2\nc.png 3\nd.png 4\n", r"d\.png is not in the folder"),
        ("info.txt", "a.png 1\na.png 2\nc.png 3\n", r"line 2: a\.png is listed twice"),
        ("info.txt", "just a note\n", r"info\.txt line 1: 'note', expected a time in microseconds"),
        ("fps.txt", "fast\n", r"fps\.txt line 1: 'fast', expected one positive number"),
        ("fps.txt", "0", r"expected one positive number"),
        ("fps.txt", "", r"expected one positive number"),
    ],
)
def test_unusable_timing_files_name_the_place(tmp_path: Path, file: str, text: str, words: str) -> None:
    write(tmp_path, file, text)
    with pytest.raises(InputError, match=words):
        folder_timing(tmp_path, NAMES, None)


def test_without_times_the_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing says when its 3 images were taken; pass --fps"):
        folder_timing(tmp_path, NAMES, None)


def test_binary_timing_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="cannot read"):
        read_timestamps(tmp_path / "t.txt", 1, 1)
