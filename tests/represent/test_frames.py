"""Event frames, polarity frames, time surfaces, stacks and integration."""

from __future__ import annotations

import numpy as np
from streams import random_stream, stream

from evsim.represent import event_frame, integrate, polarity_frames, to_display


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
