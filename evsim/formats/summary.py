"""What a recording holds, in one pass over it: the numbers behind `evsim info`."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.events import LABEL_NAMES, Events
from evsim.formats.storage.recording import ImageFacts, Recording


class _Tally:
    """Running counts over a recording's chunks."""

    def __init__(self, width: int, height: int) -> None:
        self.events = self.on = 0
        self.first: int | None = None
        self.last: int | None = None
        self.gap, self.gap_after = 0, 0
        self.labels = np.zeros(len(LABEL_NAMES), np.int64)
        self.per_pixel: NDArray[np.int64] = np.zeros(width * height, np.int64)
        self._width = width

    def add(self, events: Events) -> None:
        times = events.t if self.last is None else np.concatenate([[self.last], events.t])
        if len(times) > 1:
            gaps = np.diff(times)
            widest = int(np.argmax(gaps))
            if gaps[widest] > self.gap:
                self.gap, self.gap_after = int(gaps[widest]), int(times[widest])
        self.first = int(events.t[0]) if self.first is None else self.first
        self.last = int(events.t[-1])
        self.events += len(events)
        self.on += int(np.count_nonzero(events.p))
        pixel = events.y.astype(np.int64) * self._width + events.x.astype(np.int64)
        self.per_pixel += np.bincount(pixel, minlength=len(self.per_pixel))
        if events.label is not None:
            self.labels += np.bincount(events.label, minlength=len(self.labels))


def describe(recording: Recording) -> dict[str, Any]:
    """JSON-able facts: size, counts, times, rate, labels, busiest pixel, largest gap, provenance.

    image_kinds, only where images have another size than the sensor, an exposure or a kind: for each kind how
    many images, their sizes and the shortest and longest exposure.

    Reads the whole file once with flat memory. Raises FormatError where the content is not valid.
    """
    tally = _Tally(recording.width, recording.height)
    for events in recording.chunks():
        tally.add(events)
    duration_us = (tally.last or 0) - (tally.first or 0)
    facts: dict[str, Any] = {
        "path": str(recording.path),
        "format": recording.format,
        "width": recording.width,
        "height": recording.height,
        "events": tally.events,
        "on": tally.on,
        "off": tally.events - tally.on,
        "on_share": tally.on / tally.events if tally.events else None,
        "t_first_us": tally.first,
        "t_last_us": tally.last,
        "t_origin": recording.t_origin,
        "duration_s": duration_us / 1e6,
        "mean_rate_hz": tally.events / (duration_us / 1e6) if duration_us else None,
        "images": recording.image_count,
        **_image_kinds(recording),
        "time_unit": recording.unit,
        "polarity": recording.polarity,
        "labels": _label_shares(tally) if recording.has_labels else None,
        "busiest_pixel": _busiest(tally, recording.width),
        "largest_gap": {"us": tally.gap, "after_us": tally.gap_after} if tally.gap else None,
        "repairs": [f"{count} {what}" for what, count in recording.repairs.items() if count],
        "attributes": _told(recording.attributes),
    }
    return facts


def _image_kinds(recording: Recording) -> dict[str, Any]:
    """Count, sizes and exposures of each kind of image; nothing for plain frames of the sensor's size."""
    plain = ImageFacts(recording.width, recording.height)
    kinds: dict[str, dict[str, Any]] = {}
    differs = False
    for facts in recording.image_facts():
        differs = differs or facts != plain
        kind = kinds.setdefault(facts.kind, {"images": 0, "sizes": [], "exposure_us": None})
        kind["images"] += 1
        size = f"{facts.width}x{facts.height}"
        if size not in kind["sizes"]:
            kind["sizes"].append(size)
        shortest, longest = kind["exposure_us"] or (facts.exposure_us, facts.exposure_us)
        kind["exposure_us"] = [min(shortest, facts.exposure_us), max(longest, facts.exposure_us)]
    return {"image_kinds": kinds} if differs else {}


def _label_shares(tally: _Tally) -> dict[str, float]:
    total = max(1, tally.events)
    return {LABEL_NAMES[code]: int(count) / total for code, count in enumerate(tally.labels)}


def _busiest(tally: _Tally, width: int) -> dict[str, Any] | None:
    if not tally.events:
        return None
    index = int(np.argmax(tally.per_pixel))
    count = int(tally.per_pixel[index])
    y, x = divmod(index, width)
    return {"x": x, "y": y, "events": count, "share": count / tally.events}


def _told(attributes: dict[str, Any]) -> dict[str, Any]:
    told = dict(attributes)
    if isinstance(told.get("config"), str):
        try:
            told["config"] = json.loads(told["config"])
        except ValueError:
            return told
    return told
