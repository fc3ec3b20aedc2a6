"""Colour of a mosaic sensor: a flat colour is flat in every channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evsim.events import Events
from evsim.formats import open_events, save_events
from evsim.models.prediction.parts import make_predictor
from evsim.models.prediction.scene import Scene


def test_a_flat_scene_that_turns_red_shows_no_mosaic(tmp_path: Path) -> None:
    y, x = (side.ravel() for side in np.mgrid[0:16:2, 0:24:2])
    moments = np.arange(1, 5) * 10_000
    t, x, y = np.repeat(moments, len(x)), np.tile(x, 4), np.tile(y, 4)
    red = Events(t, x.astype(np.uint16), y.astype(np.uint16), np.ones(len(t), np.uint8), 24, 16)
    save_events(red, tmp_path / "red.h5")
    options = {"output": "log", "color": True, "event_threshold": 0.25, "train_resolution": 8}
    with open_events(tmp_path / "red.h5") as recording:
        method, times = make_predictor("variational", options), np.array([10_000.0, 40_000.0])
        first, last = method.images(Scene(recording=recording), times)
    for image in (first, last):
        # Neighbours in a cell of the mosaic; at the border a plane has less around it.
        inner = image[4:-4, 4:-4]
        assert np.abs(np.diff(inner, axis=0)).max() < 0.02
        assert np.abs(np.diff(inner, axis=1)).max() < 0.02
    risen = (last - first).mean((0, 1))
    assert risen[0] > 0.5
    np.testing.assert_allclose(risen[1:], 0.0, atol=0.02)
