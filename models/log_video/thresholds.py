"""Which change of log intensity an event of a simulated recording stands for, as its file says."""

from __future__ import annotations

import json

from evsim.formats import Recording
from evsim.represent.levels import Thresholds


def recorded_thresholds(recording: Recording) -> Thresholds | None:
    """The nominal thresholds of the sensor that simulated a recording, where its file says so."""
    text = recording.attributes.get("config")
    try:
        sensor = json.loads(text)["sensor"] if isinstance(text, (str, bytes)) else None
        if not sensor or sensor.get("model") == "voltmeter":  # whose thresholds are voltages
            return None
        return Thresholds(float(sensor["contrast_threshold_on"]), float(sensor["contrast_threshold_off"]))
    except (ValueError, KeyError, TypeError):
        return None  # another program's attribute of that name
