"""Levels of events at given times, and the image that they leave open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from event_scenes import scene_events, scene_frames

from evsim.errors import InputError
from evsim.events import Events
from evsim.metrics.alignment import aligned_scores
from evsim.models.log_video.initial_image import initial_image
from evsim.represent.levels import Thresholds, event_levels


def random_events(count: int, seed: int = 0) -> Events:
    draw = np.random.default_rng(seed)
    t = np.sort(draw.integers(1000, 9000, count))
    columns = [draw.integers(0, high, count).astype(kind) for high, kind in ((7, "u2"), (5, "u2"), (2, "u1"))]
    return Events(t, *columns, 7, 5)


def test_levels_run_linearly_from_event_to_event_of_each_pixel() -> None:
    events, thresholds = random_events(400), Thresholds(0.3, 0.2)
    times = np.linspace(500, 9500, 37)
    levels = event_levels(events, times, thresholds)
    steps = np.where(events.p > 0, 0.3, -0.2)
    for y, x in np.ndindex(5, 7):
        mine = (events.x == x) & (events.y == y)
        # Of events at one time the last one's level counts.
        t, level = events.t[mine], np.cumsum(steps[mine])
        last = np.append(np.diff(t) > 0, True)
        expected = np.where(times < t[0], 0.0, np.interp(times, t[last], level[last]))
        np.testing.assert_allclose(levels[:, y, x], expected, atol=2e-6)


def test_levels_are_known_exactly_at_an_event_and_held_after_the_last() -> None:
    events = Events.from_structured(
        np.array([(10, 1, 0, 1), (30, 1, 0, 1)], [("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "u1")]),
        width=2,
        height=1,
    )
    levels = event_levels(events, [9, 10, 15, 30, 99], Thresholds(0.5, 0.5))
    np.testing.assert_allclose(levels[:, 0, 1], [0, 0.5, 0.625, 1.0, 1.0])
    assert not levels[:, 0, 0].any()


def test_no_events_leave_every_level_at_zero() -> None:
    assert not event_levels(Events.empty(3, 2), [1.0, 2.0], Thresholds(0.2, 0.2)).any()


@pytest.mark.parametrize("times", [[1, 1], [2, 1], [[1, 2]]])
def test_times_out_of_order_are_refused(times: list[int]) -> None:
    with pytest.raises(InputError, match="not increasing"):
        event_levels(random_events(3), times, Thresholds(0.2, 0.2))


def test_subpixel_events_are_refused() -> None:
    events = random_events(3)
    moved = Events(events.t, events.x.astype(np.float32), events.y.astype(np.float32), events.p, 7, 5)
    with pytest.raises(InputError, match="round the events"):
        event_levels(moved, [1.0], Thresholds(0.2, 0.2))


def test_the_initial_image_undoes_an_edge_that_the_levels_have_most_of_the_time() -> None:
    hidden = np.random.default_rng(1).normal(size=(9, 12)).astype(np.float32)
    levels = np.repeat(-hidden[None], 5, axis=0)
    levels[0] += 3.0 * np.random.default_rng(2).normal(size=hidden.shape)
    np.testing.assert_allclose(initial_image(levels), hidden - hidden.mean(), atol=1e-5)


@pytest.mark.needs_parity("evinr_e2e.npz")
def test_the_closed_form_is_as_good_as_published(parity: Path) -> None:
    frames, times = scene_frames(parity)
    levels = event_levels(scene_events(parity, "evinr_e2e"), times, Thresholds(0.25, 0.25))
    scores = aligned_scores(levels + initial_image(levels), frames)
    assert scores["mse@log-affine"] <= 0.0061
    assert scores["ssim:evreal@log-affine"] >= 0.69
