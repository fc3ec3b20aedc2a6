"""Voxel grids against closed forms, for every rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import random_stream, stream

from evsim.errors import InputError
from evsim.events import Events
from evsim.represent import event_frame, integrate, polarity_frames, voxel_grid


def test_voxel_grid_of_events_by_hand() -> None:
    grid = voxel_grid(stream([(0, 0, 0, 1), (25, 1, 0, 0), (50, 3, 2, 1), (100, 0, 0, 1)]), 3)
    wanted = np.zeros((3, 3, 4), np.float32)
    wanted[0, 0, 0] = wanted[2, 0, 0] = 1
    wanted[0, 0, 1] = wanted[1, 0, 1] = -0.5
    wanted[1, 2, 3] = 1
    np.testing.assert_array_equal(grid, wanted)
    assert grid.dtype == np.float32


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(0, 300),
    bins=st.integers(1, 12),
    seed=st.integers(0, 100),
    span=st.sampled_from([1, 3, 9999]),
)
def test_every_event_weighs_one_and_backends_agree(n: int, bins: int, seed: int, span: int) -> None:
    events = random_stream(n, seed, span)
    signed, split = voxel_grid(events, bins), voxel_grid(events, bins, polarity="split")
    assert np.isfinite(signed).all()
    np.testing.assert_allclose(split[:bins] - split[bins:], signed, atol=1e-4)
    np.testing.assert_allclose(split.sum(), n, rtol=1e-5)
    for kind, grid in (("signed", signed), ("split", split)):
        reference = voxel_grid(events, bins, polarity=kind, backend="reference")  # type: ignore[arg-type]
        np.testing.assert_allclose(reference, grid, atol=1e-5)


def test_a_window_sets_the_ends_of_the_bins() -> None:
    events = stream([(25, 0, 0, 1), (100, 1, 0, 1)])
    grid = voxel_grid(events, 3, window=(0, 100))
    np.testing.assert_array_equal(grid[:, 0, 0], [0.5, 0.5, 0])
    np.testing.assert_array_equal(grid[:, 0, 1], [0, 0, 1])
    with pytest.raises(InputError, match="window"):
        voxel_grid(events, 3, window=(0, 99))


def test_unusable_events_and_options_are_refused() -> None:
    outside = stream([(0, 4, 0, 1)])
    sub_pixel = Events(
        np.zeros(1, np.int64), np.zeros(1, np.float32), np.zeros(1, np.float32), np.ones(1, np.uint8), 4, 3
    )
    for represent in (
        lambda events: voxel_grid(events, 3),
        event_frame,
        lambda events: polarity_frames(events, [0, 1]),
        lambda events: integrate(events, [1], contrast_threshold_on=1, contrast_threshold_off=1),
    ):
        with pytest.raises(InputError, match="outside the sensor"):
            represent(outside)
        with pytest.raises(InputError, match="sub-pixel"):
            represent(sub_pixel)
    fine = stream([(0, 0, 0, 1)])
    with pytest.raises(InputError, match="did you mean 'e2vid'"):
        voxel_grid(fine, 3, rule="e2vd")
    with pytest.raises(InputError, match="bins"):
        voxel_grid(fine, 0)
    with pytest.raises(InputError, match="increasing"):
        polarity_frames(fine, [3, 3])
