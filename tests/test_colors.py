"""Events of a sensor under a Bayer filter array: which colour each one saw, in memory and in a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evsim.chain import simulate
from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats import open_events, save_events

BAYER = ["isp.grey=bayer"]
SITES = {(0, 0): 0, (1, 0): 1, (0, 1): 1, (1, 1): 2}
"""Colour of the pixel at (x, y) within a cell."""


def flash(channel: int) -> np.ndarray:
    """uint8 (2, 6, 8, 3): one colour becomes brighter."""
    frames = np.full((2, 6, 8, 3), 60, np.uint8)
    frames[1, ..., channel] = 180
    return frames


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_only_the_filters_of_a_colour_see_its_light(channel: int) -> None:
    events = simulate(flash(channel), 100.0, preset="ideal", overrides=BAYER)
    assert events.color_pattern == "RGGB"
    seen = {(int(x), int(y)) for x, y in zip(events.x, events.y)}
    assert seen == {(x, y) for x in range(8) for y in range(6) if SITES[x % 2, y % 2] == channel}
    assert set(events.colors()) == {channel}
    np.testing.assert_array_equal(events[3:7].colors(), [channel] * 4)


def test_a_camera_s_mosaic_has_a_pattern_too() -> None:
    events = simulate(flash(1), 100.0, preset="ideal", overrides=["isp.variant=brooks"])
    assert events.color_pattern == "RGGB"


@pytest.mark.parametrize("frames", [flash(0), flash(0)[..., 0]], ids=["colour", "grey"])
def test_sensors_without_filters_have_no_colours(frames: np.ndarray) -> None:
    overrides = [] if frames.ndim == 4 else BAYER
    events = simulate(frames, 100.0, preset="ideal", overrides=overrides)
    assert events.color_pattern is None
    with pytest.raises(InputError, match="colour pattern"):
        events.colors()


def test_a_native_file_keeps_the_pattern(tmp_path: Path) -> None:
    events = simulate(flash(2), 100.0, preset="ideal", overrides=BAYER)
    save_events(events, tmp_path / "a.h5")
    with open_events(tmp_path / "a.h5") as recording:
        again = recording.events()
    assert again.color_pattern == "RGGB"
    np.testing.assert_array_equal(again.colors(), events.colors())


def test_an_unknown_pattern_in_a_file_is_refused(tmp_path: Path) -> None:
    import h5py

    save_events(simulate(flash(2), 100.0, preset="ideal", overrides=BAYER), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["color_pattern"] = "XTRANS"
    with pytest.raises(FormatError, match="XTRANS"):
        open_events(tmp_path / "a.h5")


def test_parts_with_and_without_filters_do_not_join() -> None:
    colored = simulate(flash(0), 100.0, preset="ideal", overrides=BAYER)
    plain = replace(colored[:5], color_pattern=None)
    with pytest.raises(InputError, match="colour pattern"):
        Events.concatenate([plain, colored[5:]])
    assert Events.concatenate([Events.empty(8, 6, labels=True), colored]).color_pattern == "RGGB"
