"""Event frames, polarity frames, time surfaces, stacks and integration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from streams import random_stream, stream

from evsim.errors import InputError
from evsim.events import Events
from evsim.represent import (
    eger,
    egers,
    event_frame,
    event_frames,
    evinr_stack,
    frames_to_voxel,
    integrate,
    polarity_frames,
    stacked_histogram,
    target_voxels,
    time_surface,
    to_display,
)


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


def as_tensors(events: Events) -> Events:
    columns = (torch.from_numpy(column) for column in (events.t, events.x, events.y, events.p))
    return Events(*columns, events.width, events.height)  # type: ignore[arg-type]


def test_event_frames_of_many_windows_in_one_call() -> None:
    events = random_stream(700)
    windows = np.array([[0, 5000], [4000, 4001], [5000, 20_000], [30_000, 40_000]]) + 10**15
    for kind in ("signed", "counts"):
        frames = event_frames(events, windows, kind=kind)  # type: ignore[arg-type]
        for frame, window in zip(frames, windows):
            np.testing.assert_array_equal(frame, event_frame(events.between(*window), kind=kind))  # type: ignore[arg-type]
    assert frames.dtype == np.int32
    out = np.full((10, 20), -7, np.int32)
    assert np.shares_memory(event_frame(events, out=out), out)
    np.testing.assert_array_equal(out, event_frame(events))
    with pytest.raises(InputError, match="windows"):
        event_frames(events, [3, 4])


def test_time_surfaces_hold_the_age_of_the_last_event() -> None:
    events = stream([(0, 0, 0, 1), (100, 0, 0, 0), (300, 1, 2, 1), (301, 1, 2, 0)])
    split = time_surface(events, [50, 300], time_constant_us=200)
    assert (split.dtype, split.shape) == (np.float32, (2, 2, 3, 4))
    np.testing.assert_allclose(split[0, :, 0, 0], [np.exp(-0.25), 0])
    np.testing.assert_allclose(split[1, :, 0, 0], [np.exp(-1.5), np.exp(-1)], rtol=1e-6)
    np.testing.assert_allclose(split[1, :, 2, 1], [1, 0])
    merged = time_surface(events, [300, 10_000], time_constant_us=200, kind="merged", decay="linear")
    np.testing.assert_allclose(merged[0, [0, 2], [0, 1]], [0, 1])
    assert not merged[1].any()
    signed = time_surface(events, [350], time_constant_us=200, kind="signed")
    np.testing.assert_allclose(signed[0, [0, 2], [0, 1]], [-np.exp(-1.25), -np.exp(-49 / 200)], rtol=1e-6)
    assert not time_surface(events[:0], [5], time_constant_us=1).any()
    for options in ({"time_constant_us": 0}, {"kind": "both"}, {"decay": "none"}):
        with pytest.raises(InputError):
            time_surface(events, [5], **{"time_constant_us": 1, **options})  # type: ignore[arg-type]


def test_eger_counts_every_event_of_the_exposure_once() -> None:
    events = random_stream(2000)
    first = int(events.t[0])
    exposure = (first + 1000, first + 8000)
    inside = len(events.between(*exposure))
    grids = egers(events, [first, first + 4000, first + 9000], [exposure], bins=7)
    assert grids.shape == (3, 42, 10, 20)
    assert (grids.sum((1, 2, 3)) == inside).all()
    segments = grids.reshape(3, 7, 3, 2, 10, 20).sum((1, 3, 4, 5))
    assert segments[0].tolist() == [0, 0, inside]
    assert segments[2].tolist() == [inside, 0, 0]
    assert segments[1, 1] == 0
    out = np.full((42, 10, 20), np.nan, np.float32)
    eger(events, first + 4000, exposure, bins=7, out=out)
    np.testing.assert_array_equal(out, grids[1])
    assert not eger(events[:0], 5, (0, 9)).any()
    for bad in (
        lambda: eger(events, (9, 5), exposure),
        lambda: eger(events, 5, (9, 9)),
        lambda: eger(events, 5, exposure, roi=(5, 0, 6, 20)),
    ):
        with pytest.raises(InputError):
            bad()


def test_evinr_frames_add_up_to_the_events() -> None:
    events = random_stream(103)
    stack = evinr_stack(events, 10, contrast_threshold=0.5)
    np.testing.assert_allclose(stack.frames.sum(0)[..., 0], 0.5 * event_frame(events), atol=1e-6)
    assert stack.borders[[0, -1], 0].tolist() == [-1, 1]
    for bad in (
        lambda: evinr_stack(events[:9], 10),
        lambda: evinr_stack(events, 0),
        lambda: evinr_stack(Events(events.t, events.x, events.y, events.p, 21, 10), 5, color=True),
    ):
        with pytest.raises(InputError):
            bad()


def test_stacked_histograms_saturate_instead_of_wrapping() -> None:
    events = stream([(k, 1, 1, 1) for k in range(300)] + [(300, 2, 2, 0)])
    histogram = stacked_histogram(events, 1)
    assert (histogram.dtype, histogram.shape) == (np.uint8, (2, 3, 4))
    assert (histogram[1, 1, 1], histogram[0, 2, 2]) == (255, 1)
    assert stacked_histogram(events, 1, cutoff=10).max() == 10
    with pytest.raises(InputError, match="cut-off"):
        stacked_histogram(events, 1, cutoff=256)


def test_frames_to_voxel_shares_frames_between_bins() -> None:
    frames = np.eye(4, dtype=np.int8)[:, None, :]
    np.testing.assert_allclose(
        frames_to_voxel(frames, 3)[:, 0], [[1, 0.5, 0, 0], [0, 0.5, 1, 0.5], [0, 0, 0, 0.5]]
    )
    assert not frames_to_voxel(frames[:0], 3).any()
    with pytest.raises(InputError, match="frames of shape"):
        frames_to_voxel(frames[0], 3)


def test_targets_outside_the_window_are_refused() -> None:
    with pytest.raises(InputError, match="outside the window"):
        target_voxels(random_stream(10), [5.0])
    empty = target_voxels(stream([]), [5.0, 6.0])
    assert empty.before.shape == empty.after.shape == (2, 5, 3, 4)
    assert not empty.after.any()


def test_every_representation_gives_tensors_for_tensors() -> None:
    events = random_stream(500)
    tensors = as_tensors(events)
    first = int(events.t[0])
    for represent in (
        event_frame,
        lambda e: event_frames(e, [[first, first + 4000]], kind="counts"),
        lambda e: polarity_frames(e, [first, first + 500, first + 4000]),
        lambda e: time_surface(e, [first + 4000], time_constant_us=1000),
        lambda e: eger(e, first + 300, (first, first + 4000)),
        lambda e: eger(e, first + 300, (first, first + 4000), roi=(1, 2, 5, 6)),
        lambda e: evinr_stack(e, 7).frames,
        lambda e: evinr_stack(e, 7).stamps,
        lambda e: stacked_histogram(e, 3),
        lambda e: target_voxels(e, [first + 3000.5]).reversed_before,
        lambda e: frames_to_voxel(polarity_frames(e, first + np.arange(0, 9000, 1000)), 3),
        lambda e: integrate(e, [first + 4000], contrast_threshold_on=0.2, contrast_threshold_off=0.2),
    ):
        found, wanted = represent(tensors), represent(events)
        assert isinstance(found, torch.Tensor)
        assert isinstance(wanted, np.ndarray)
        assert str(found.dtype) == f"torch.{wanted.dtype}"
        np.testing.assert_array_equal(found.numpy(), wanted)
