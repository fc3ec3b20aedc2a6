"""Voxel grids against closed forms, for every rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import random_stream, stream

from evsim.errors import InputError
from evsim.events import Events
from evsim.represent import (
    NORMALIZATIONS,
    VOXEL_RULES,
    event_frame,
    integrate,
    normalize,
    polarity_frames,
    voxel_grid,
    voxel_grids,
)


def test_voxel_grid_of_events_by_hand() -> None:
    grid = voxel_grid(stream([(0, 0, 0, 1), (25, 1, 0, 0), (50, 3, 2, 1), (100, 0, 0, 1)]), 3)
    wanted = np.zeros((3, 3, 4), np.float32)
    wanted[0, 0, 0] = wanted[2, 0, 0] = 1
    wanted[0, 0, 1] = wanted[1, 0, 1] = -0.5
    wanted[1, 2, 3] = 1
    np.testing.assert_array_equal(grid, wanted)
    assert grid.dtype == np.float32


def bin_coordinate(rule: str, t: float, bins: int, first: float, last: float) -> float:
    """The rules once more, as a table of formulas."""
    n = (t - first) / (last - first)
    return {
        "e2vid": n * (bins - 1),
        "ner": n * (bins - 1),
        "dsec": n * (bins - 1),
        "rpg": n * (bins - 1),
        "tonic": n * bins,
        "openeb": n * bins - 0.5,
        "openeb_torch": n * bins - 0.5,
        "timelens": (t - first) * (bins - 1) / (last - first + 1),
        "timelens_xl": (t - first) * bins / (last - first + 1),
        "stacked_histogram": n * bins,
    }[rule]


def shares(rule: str, tau: float, bins: int) -> dict[int, float]:
    """What each bin gets of an event."""
    low = int(np.floor(tau))
    if rule in ("timelens_xl", "stacked_histogram"):
        return {min(low, bins - 1): 1.0}
    if rule == "openeb_torch" and low < 0:
        return {0: 1.0 + tau, min(1, bins - 1): -tau} if bins > 1 else {0: 1.0}
    if rule == "openeb_torch" and low >= bins - 1:
        return {bins - 1: 1.0}
    return {b: weight for b, weight in ((low, 1 - (tau - low)), (low + 1, tau - low)) if 0 <= b < bins}


@pytest.mark.parametrize("window", [None, (10**15 - 300, 10**15 + 10_400)], ids=["events", "window"])
@pytest.mark.parametrize("bins", [1, 2, 5, 16])
@pytest.mark.parametrize("rule", VOXEL_RULES)
def test_every_rule_follows_its_formula(rule: str, bins: int, window: tuple[int, int] | None) -> None:
    events = random_stream(400, seed=bins)
    first, last = window or (int(events.t[0]), int(events.t[-1]))
    wanted = np.zeros((2, bins, events.height, events.width))
    for t, x, y, p in zip(events.t.tolist(), events.x, events.y, events.p):
        for b, weight in shares(rule, bin_coordinate(rule, t, bins, first, last), bins).items():
            wanted[0 if p else 1, b, y, x] += weight
    on, off = wanted
    found = voxel_grid(events, bins, rule=rule, polarity="signed", window=window)
    np.testing.assert_allclose(found, on - off, atol=1e-5)
    found = voxel_grid(events, bins, rule=rule, polarity="split", window=window)
    np.testing.assert_allclose(found, np.concatenate([on, off]), atol=1e-5)
    own = voxel_grid(events, bins, rule=rule, window=window)
    split = rule == "stacked_histogram"
    np.testing.assert_allclose(own, np.concatenate([off, on]) if split else on - off, atol=1e-5)


ONE_TIME = {
    "e2vid": [3, 0, 0, 0],
    "ner": [1, 0.5, 0.5, 1],  # spread in order: bin coordinates 0, 1.5 and 3
    "dsec": [3, 0, 0, 0],
    "rpg": [3, 0, 0, 0],
    "tonic": [3, 0, 0, 0],
    "openeb": [1.5, 0, 0, 0],
    "openeb_torch": [1.5, 1.5, 0, 0],
    "timelens": [3, 0, 0, 0],
    "timelens_xl": [3, 0, 0, 0],
    "stacked_histogram": [3, 0, 0, 0],
}


@pytest.mark.parametrize("rule", VOXEL_RULES)
def test_degenerate_windows_do_what_the_table_says(rule: str) -> None:
    assert not voxel_grid(stream([]), 4, rule=rule).any()
    assert not voxel_grid(stream([]), 4, rule=rule, window=(5, 9)).any()
    three = stream([(5, 0, 0, 1), (5, 1, 0, 1), (5, 2, 0, 1)])
    sums = voxel_grid(three, 4, rule=rule, polarity="split").sum((1, 2))
    np.testing.assert_allclose(sums, [*ONE_TIME[rule], 0, 0, 0, 0], atol=1e-6)
    single = voxel_grid(three[:1], 4, rule=rule)
    assert np.isfinite(single).all()
    assert single.any() == (rule != "ner")


def test_few_events_give_zeros_where_networks_were_trained_so() -> None:
    two = stream([(0, 0, 0, 1), (9, 1, 1, 1)])
    assert voxel_grid(two, 5).sum() == 2
    assert not voxel_grid(two, 5, rule="ner").any()
    assert voxel_grid(two, 5, rule="ner", minimum_events=1).sum() == 2
    assert not voxel_grid(two, 5, minimum_events=3).any()


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(0, 300),
    bins=st.integers(1, 12),
    seed=st.integers(0, 100),
    span=st.sampled_from([1, 3, 9999]),
)
def test_every_event_weighs_one(n: int, bins: int, seed: int, span: int) -> None:
    events = random_stream(n, seed, span)
    signed, split = voxel_grid(events, bins), voxel_grid(events, bins, polarity="split")
    assert np.isfinite(signed).all()
    np.testing.assert_allclose(split[:bins] - split[bins:], signed, atol=1e-4)
    np.testing.assert_allclose(split.sum(), n, rtol=1e-5)


@pytest.mark.parametrize("rule", [name for name in VOXEL_RULES if VOXEL_RULES[name].subpixel])
def test_subpixel_events_are_shared_bilinearly(rule: str) -> None:
    events = Events(
        np.array([0, 1000]), np.float32([1.25, 3.5]), np.float32([0.5, 2.75]), np.uint8([1, 0]), 4, 3
    )
    grid = voxel_grid(events, 2, rule=rule, window=(0, 10**7), polarity="split")
    np.testing.assert_allclose(grid[0, :2, 1:3], [[0.375, 0.125], [0.375, 0.125]], atol=1e-3)
    # The other event keeps only the quarter of an eighth that lies on the sensor.
    np.testing.assert_allclose(grid[2, 2, 3], 0.5 * 0.25, atol=1e-3)
    np.testing.assert_allclose(grid.sum(), 1 + 0.125, atol=1e-5)


def test_nearest_gives_an_event_to_one_bin() -> None:
    events = stream([(0, 0, 0, 1), (49, 1, 0, 1), (51, 2, 0, 1), (100, 3, 0, 1)])
    grid = voxel_grid(events, 3, interpolation="nearest")
    np.testing.assert_array_equal(grid[:, 0], [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    linear = voxel_grid(events, 3, rule="stacked_histogram", interpolation="linear", polarity="signed")
    np.testing.assert_array_equal(linear, voxel_grid(events, 3, rule="openeb_torch"))


WINDOWS = np.array([[0, 3000], [2500, 2501], [2000, 9000], [20_000, 30_000], [9990, 12_000]]) + 10**15


@pytest.mark.parametrize("rule", VOXEL_RULES)
def test_many_windows_in_one_call_equal_one_call_each(rule: str) -> None:
    events = random_stream(800)
    options = {"rule": rule, "normalization": "nonzero"}
    own = voxel_grids(events, 5, WINDOWS, **options)
    whole = voxel_grids(events, 5, WINDOWS, span="window", **options)
    for k, (first, last) in enumerate(WINDOWS):
        part = events.between(first, last)
        np.testing.assert_array_equal(own[k], voxel_grid(part, 5, **options))
        np.testing.assert_array_equal(whole[k], voxel_grid(part, 5, window=(first, last), **options))
    out = np.full_like(own, np.nan)
    assert voxel_grids(events, 5, WINDOWS, out=out, **options) is out
    np.testing.assert_array_equal(out, own)
    assert voxel_grids(events, 5, np.zeros((0, 2)), rule=rule).shape[0] == 0


def test_windows_at_one_time_inside_a_batch() -> None:
    events = stream([(5, 0, 0, 1), (9, 0, 0, 1), (9, 1, 0, 1), (9, 2, 0, 1), (12, 1, 1, 0)])
    windows = [[0, 10], [9, 10], [9, 13]]
    grids = voxel_grids(events, 3, windows, rule="ner")
    for grid, window in zip(grids, windows):
        np.testing.assert_array_equal(grid, voxel_grid(events.between(*window), 3, rule="ner"))
    np.testing.assert_array_equal(grids[1, :, 0, :3], np.eye(3))


def as_tensors(events: Events) -> Events:
    columns = (torch.from_numpy(column) for column in (events.t, events.x, events.y, events.p))
    return Events(*columns, events.width, events.height)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", [None, "gpu"])
def test_tensors_in_give_the_same_tensors_out(backend: str | None) -> None:
    events = random_stream(900)
    tensors = as_tensors(events)
    for options in ({}, {"normalization": "robust"}, {"normalization": "dsec", "polarity": "split"}):
        found = voxel_grid(tensors, 5, backend=backend, **options)
        assert isinstance(found, torch.Tensor)
        np.testing.assert_allclose(found.numpy(), voxel_grid(events, 5, **options), atol=2e-5)
    batch = voxel_grids(tensors, 5, WINDOWS, rule="ner", backend=backend)
    np.testing.assert_allclose(batch.numpy(), voxel_grids(events, 5, WINDOWS, rule="ner"), atol=2e-5)
    place = torch.full((3, 5, 10, 20), torch.nan)
    voxel_grid(tensors, 5, out=place[1], backend=backend)
    np.testing.assert_allclose(place[1].numpy(), voxel_grid(events, 5), atol=2e-5)


def test_out_is_overwritten_and_checked() -> None:
    events = random_stream(300)
    out = np.full((5, 10, 20), np.nan, np.float32)
    assert voxel_grid(events, 5, out=out) is out
    np.testing.assert_array_equal(out, voxel_grid(events, 5))
    voxel_grid(events, 5, out=out, accumulate=True)
    np.testing.assert_allclose(out, 2 * voxel_grid(events, 5), atol=1e-5)
    for bad, message in (
        (np.zeros((5, 10, 20)), "float64"),
        (np.zeros((4, 10, 20), np.float32), "shape"),
        (np.zeros((5, 20, 10), np.float32).transpose(0, 2, 1), "contiguous"),
        (torch.zeros(5, 10, 20), "Tensor"),
    ):
        with pytest.raises(InputError, match=message):
            voxel_grid(events, 5, out=bad)


def test_normalizations_never_give_nan() -> None:
    single = stream([(0, 0, 0, 1), (0, 1, 1, 1), (0, 3, 2, 1)])
    for name in NORMALIZATIONS:
        for events in (single, single[:1], single[:0]):
            grid = voxel_grid(events, 4, normalization=name)
            assert np.isfinite(grid).all(), name
    values = np.random.default_rng(0).normal(size=(3, 8, 9)).astype(np.float32)
    values[values < 0.2] = 0
    seen = values[values != 0].astype(np.float64)
    dsec = normalize(values, "dsec")
    np.testing.assert_allclose(dsec[values != 0], (seen - seen.mean()) / seen.std(ddof=1), atol=1e-5)


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
