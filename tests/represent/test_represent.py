"""Voxel grids against published values and closed forms; frames; integration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evsim.errors import BackendError, InputError
from evsim.events import Events
from evsim.kernels.voxelize import BACKENDS, voxelize
from evsim.represent import event_frame, integrate, polarity_frames, to_display, voxel_grid


def stream(rows: list[tuple[int, int, int, int]], width: int = 4, height: int = 3) -> Events:
    """Events from rows t, x, y, p."""
    t, x, y, p = np.array(rows, np.int64).reshape(-1, 4).T
    return Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8), width, height)


def random_stream(n: int, seed: int = 0, span: int = 10_000) -> Events:
    rng = np.random.default_rng(seed)
    return Events(
        np.sort(rng.integers(0, span, n)) + 10**15,
        rng.integers(0, 20, n).astype(np.uint16),
        rng.integers(0, 10, n).astype(np.uint16),
        rng.integers(0, 2, n).astype(np.uint8),
        20,
        10,
    )


@pytest.mark.needs_parity("voxel_ner_{case}.npz")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["a", "b"])
def test_published_voxel_grids_are_reproduced(parity: Path, case: str, backend: str) -> None:
    fixture = np.load(parity / f"voxel_ner_{case}.npz")
    bins, height, width = fixture["size"].tolist()
    t, p = fixture["t"], fixture["p"]
    x, y = fixture["x"].astype(np.uint16), fixture["y"].astype(np.uint16)
    scale = (bins - 1) / (t[-1] - t[0])
    grids = {
        split: voxelize(
            t,
            x,
            y,
            p,
            bins=bins,
            height=height,
            width=width,
            start=t[0],
            scale=scale,
            split=split,
            backend=backend,
        )
        for split in (False, True)
    }
    np.testing.assert_allclose(grids[False], fixture["voxel"], atol=3e-6)
    np.testing.assert_allclose(grids[True][:bins], fixture["voxel_pos"], atol=3e-6)
    np.testing.assert_allclose(grids[True][bins:], fixture["voxel_neg"], atol=3e-6)


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


def test_float64_sum_is_exact_where_float32_is_not() -> None:
    events = random_stream(2000)
    out = {
        backend: voxelize(
            events.t,
            events.x,
            events.y,
            events.p,
            bins=5,
            height=10,
            width=20,
            start=float(events.t[0]),
            scale=4 / events.duration_us,
            backend=backend,
            out=np.zeros((5, 10, 20)),
        )
        for backend in BACKENDS
    }
    np.testing.assert_allclose(out["cpu"], out["reference"], atol=1e-12)


def test_events_at_one_time_spread_over_the_bins_in_their_order() -> None:
    grid = voxel_grid(stream([(5, k, 0, 1) for k in range(4)]), 4)
    np.testing.assert_allclose(grid[:, 0, :], np.eye(4), atol=1e-6)
    assert voxel_grid(stream([(5, 0, 0, 1)]), 4)[:, 0, 0].tolist() == [1, 0, 0, 0]


def test_fewer_events_than_the_minimum_give_zeros() -> None:
    two = stream([(0, 0, 0, 1), (9, 1, 1, 1)])
    assert voxel_grid(two, 5).sum() == 2
    assert not voxel_grid(two, 5, minimum_events=3).any()
    assert voxel_grid(two[:0], 5).shape == (5, 3, 4)


def test_a_window_sets_the_ends_of_the_bins() -> None:
    events = stream([(25, 0, 0, 1), (100, 1, 0, 1)])
    grid = voxel_grid(events, 3, window=(0, 100))
    np.testing.assert_array_equal(grid[:, 0, 0], [0.5, 0.5, 0])
    np.testing.assert_array_equal(grid[:, 0, 1], [0, 0, 1])
    with pytest.raises(InputError, match="window"):
        voxel_grid(events, 3, window=(0, 99))


def test_a_forced_backend_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    events = stream([(0, 0, 0, 1)])
    with pytest.raises(BackendError, match="'gpu' does not exist for voxelize"):
        voxel_grid(events, 3, backend="gpu")
    monkeypatch.setenv("EVSIM_BACKEND", "gpu")
    with pytest.raises(BackendError, match="EVSIM_BACKEND"):
        voxel_grid(events, 3)
    assert voxel_grid(events, 3, backend="reference").sum() == 1
    monkeypatch.delenv("EVSIM_BACKEND")
    monkeypatch.setitem(BACKENDS, "gpu", "evsim.kernels.voxelize.nowhere")
    with pytest.raises(BackendError, match="cannot run here"):
        voxel_grid(events, 3, backend="gpu")


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


def test_event_frames_count_and_sum() -> None:
    events = stream([(0, 1, 2, 1), (1, 1, 2, 1), (2, 1, 2, 0), (3, 3, 0, 0)])
    counts = event_frame(events, kind="counts")
    assert counts.shape == (2, 3, 4)
    assert (counts[0, 2, 1], counts[1, 2, 1], counts[1, 0, 3]) == (2, 1, 1)
    np.testing.assert_array_equal(event_frame(events), counts[0] - counts[1])


def test_polarity_frames_hold_the_last_event_of_each_interval() -> None:
    events = stream(
        [
            (0, 0, 0, 1),
            (10, 1, 0, 1),
            (10, 1, 0, 0),
            (20, 2, 0, 1),
            (21, 2, 0, 0),
            (21, 2, 0, 1),
            (40, 3, 2, 0),
        ]
    )
    frames = polarity_frames(events, [0, 10, 20, 30, 35])
    assert (frames.dtype, frames.shape) == (np.int8, (4, 3, 4))
    assert frames[:, 0].tolist() == [[0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert not frames[:, 1:].any()


def test_polarity_frames_agree_with_a_plain_loop() -> None:
    events = random_stream(3000, span=500)
    edges = 10**15 + np.array([-5, 7, 90, 91, 400, 600])
    wanted = np.zeros((5, 10, 20), np.int8)
    for t, x, y, p in zip(events.t, events.x, events.y, events.p):
        for k in range(5):
            if edges[k] < t <= edges[k + 1]:
                wanted[k, y, x] = 1 if p else -1
    np.testing.assert_array_equal(polarity_frames(events, edges), wanted)


def test_integration_sums_thresholds() -> None:
    events = stream([(10, 0, 0, 1), (20, 0, 0, 1), (30, 0, 0, 0), (40, 1, 1, 0)])
    frames = integrate(events, [5, 20, 100], contrast_threshold_on=0.2, contrast_threshold_off=0.3)
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames[:, 0, 0], [0, 0.4, 0.1], atol=1e-6)
    np.testing.assert_allclose(frames[:, 1, 1], [0, 0, -0.3], atol=1e-6)


def test_integration_leaks_exponentially_whatever_the_frames() -> None:
    events = random_stream(500)
    last = int(events.t[-1])
    options = {"contrast_threshold_on": 0.2, "contrast_threshold_off": 0.25, "time_constant_us": 3000.0}
    initial = np.full((10, 20), 0.7)
    wanted = initial * np.exp((events.t[0] - last) / 3000.0)
    for t, x, y, p in zip(events.t, events.x, events.y, events.p):
        wanted[y, x] += (0.2 if p else -0.25) * np.exp((t - last) / 3000.0)
    once = integrate(events, [last], initial=initial, **options)[-1]
    often = integrate(events, np.linspace(events.t[0] + 1, last, 13), initial=initial, **options)[-1]
    np.testing.assert_allclose(once, wanted, atol=1e-6)
    np.testing.assert_allclose(often, wanted, atol=1e-6)


def test_display_uses_one_mapping_for_all_frames() -> None:
    frames = np.linspace(-1, 1, 2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    shown = to_display(frames, low=0, high=100)
    assert (shown.dtype, shown.min(), shown.max()) == (np.uint8, 0, 255)
    assert np.all(np.diff(shown.ravel().astype(int)) > 0)
    assert set(to_display(np.zeros((2, 3, 4))).ravel()) == {128}
    sparse = np.zeros((1, 100, 100))
    sparse[0, 0, 0] = 1
    assert to_display(sparse)[0, 0, 0] == 255
