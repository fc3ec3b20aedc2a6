"""Which change of log intensity the events of a recording stand for."""

from __future__ import annotations

import numpy as np

from evsim.formats import Recording
from evsim.models.log_video.thresholds import recorded_thresholds
from evsim.models.variational.config import VariationalConfig
from evsim.represent.levels import Thresholds

UNKNOWN = 0.25
"""Where nothing is known: a common sensor's; it scales log intensity and changes nothing else."""
LARGEST_RATIO = 2.0
LEAST_EVENTS = 30
"""Events a pixel below which a scene that brightens cannot be told from thresholds that differ."""


def choose_thresholds(recording: Recording, config: VariationalConfig) -> Thresholds:
    """The configured thresholds, else those a simulated file records, else common ones, balanced as told."""
    recorded = recorded_thresholds(recording)
    on = config.event_threshold or (recorded.on if recorded else UNKNOWN)
    own_off = recorded.off if recorded and config.event_threshold is None else on
    thresholds = Thresholds(on, config.event_threshold_off or own_off)
    known = recorded is not None or config.event_threshold is not None
    known = known or config.event_threshold_off is not None
    enough = len(recording) >= LEAST_EVENTS * recording.width * recording.height
    if config.balance_thresholds == "on" or (config.balance_thresholds == "auto" and enough and not known):
        return Thresholds(thresholds.on, thresholds.on * drift_free_ratio(recording))
    return thresholds


def drift_free_ratio(recording: Recording) -> float:
    """OFF over ON threshold for which most pixels do not drift, within 1/2 to 2.

    A pixel is at rest on the whole where n_on theta_on = n_off theta_off: the ratio is that of the median
    share of ON events, each pixel weighted by its events, so that hot pixels and quiet ones do not decide.
    """
    size = recording.height * recording.width
    counts = np.zeros((2, size), np.int64)
    for block in recording.chunks():
        pixel = np.rint(block.y).astype(np.int64) * recording.width + np.rint(block.x).astype(np.int64)
        counts += [np.bincount(pixel[block.p == p], minlength=size) for p in (0, 1)]
    total = counts.sum(0)
    share = counts[1] / np.maximum(total, 1)
    order = np.argsort(share)
    heard = np.cumsum(total[order])
    middle = share[order][np.searchsorted(heard, heard[-1] / 2)] if heard[-1] else 0.5
    return float(np.clip(middle / max(1 - middle, 1e-9), 1 / LARGEST_RATIO, LARGEST_RATIO))
