"""`evsim pack evinr`: what EvINR's published code would read, and that our fit reads it back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from evsim.cli.conventions import Settings
from evsim.cli.pack import evinr
from evsim.events import Events
from evsim.formats import open_events, save_events


def test_all_events_in_seconds_with_the_options_of_the_data_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 10**6, 500))
    x, y, p = (rng.integers(0, n, 500) for n in (306, 408, 2))
    events = Events(t, x.astype("u2"), y.astype("u2"), p.astype("u1"), 306, 408)
    save_events(events, tmp_path / "events.h5")
    out = tmp_path / "packed"
    words = [str(tmp_path / "events.h5"), "-o", str(out), "--dataset", "aed", "--json"]
    done = CliRunner().invoke(evinr, words, obj=Settings(), standalone_mode=False)
    assert done.exception is None
    assert json.loads(done.stdout)["events"] == 500
    rows = np.load(out / "events.npy")
    np.testing.assert_array_equal(rows, np.stack([t / 1e6, x, y, 2.0 * p - 1], 1))
    assert "event_threshold: 0.25" in (out / "fit.yaml").read_text()
    with open_events(out / "events.npy", size=(306, 408), unit="s") as recording:
        np.testing.assert_array_equal(recording.events().t, t)
