"""How an evaluation is done: EVREAL's configurations by name, scored intervals, matching and averaging."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from evsim import configuration
from evsim.configuration import check_choices, later, require_range
from evsim.errors import ConfigError
from evsim.media.flow_files import PngFlow
from evsim.metrics.preparation import Equalisation, Normalisation
from evsim.models.evaluation.alignment import SequenceAlignment

INTERVALS = Path(__file__).with_name("evreal_intervals.yaml")
INFERENCE_LEAD_S = 10.0
"""Inference begins this long before the first scored frame."""

_NAMES = "std, std_all, t40ms (any time), k5k (any count), kr0.5 (any share of the frames)"
_TIME, _COUNT, _RATIO = (
    re.compile(pattern) for pattern in (r"t([0-9.]+)ms", r"k([0-9]+)(k?)", r"kr([0-9.]+)")
)
_WITH_IMAGES = ("std", "std_all", "t40ms", "t60ms")


class Protocol(NamedTuple):
    """What the name of a configuration of EVREAL's says.

    windows: between frames, of a duration or of a count of events. length: milliseconds or events.
    keep_ratio: share of the frames that windows are taken between. infer_all: also outside the scored
    interval. images: whether reconstructions are written.
    """

    windows: Literal["frames", "time", "count"]
    length: float = 0.0
    keep_ratio: float = 1.0
    infer_all: bool = False
    images: bool = False


def parse_protocol(name: str) -> Protocol:
    """The protocol of a name such as std, std_all, t40ms, k5k, kr0.5. Raises ConfigError for another name."""
    images = name in _WITH_IMAGES
    if name in ("std", "std_all"):
        return Protocol("frames", infer_all=name == "std_all", images=True)
    try:
        if match := _TIME.fullmatch(name):
            return _require(name, float(match[1]), Protocol("time", float(match[1]), images=images))
        if match := _COUNT.fullmatch(name):
            count = int(match[1]) * (1000 if match[2] else 1)
            return _require(name, count, Protocol("count", count))
        if match := _RATIO.fullmatch(name):
            ratio = float(match[1])
            return _require(name, ratio if ratio <= 1 else 0, Protocol("frames", keep_ratio=ratio))
    except ValueError:
        pass
    raise ConfigError(f"protocol = {name!r}, expected {_NAMES}")


def _require(name: str, value: float, protocol: Protocol) -> Protocol:
    if not value > 0:
        raise ConfigError(f"protocol = {name!r}, expected {_NAMES}; lengths above 0, shares up to 1")
    return protocol


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Which images are compared and how their scores are averaged."""

    protocol: str = "std"
    """Windows of recordings, by EVREAL's names: std, std_all, t40ms, k5k, kr0.5; other numbers likewise."""
    overlap: float = 0.0
    """Overlap of consecutive windows, milliseconds or events; not for windows between frames."""
    all_frames: bool = False
    """Between frames: also the last frame and not the empty window before the first, which EVREAL has."""
    seed: int = 0
    """Decides which frames kr0.5 and the like keep."""
    start_s: float | None = None
    """First scored time, seconds on the recording's clock; EVREAL's for its sequences where absent."""
    stop_s: float | None = None
    """Last scored time, likewise."""
    tolerance_ms: float = 1.0
    """A prediction is scored if a reference lies at most this far away."""
    normalize: Normalisation = "none"
    """Stretch each reconstruction: standard (extremes), robust (percentiles 1 to 99), exprobust."""
    align: SequenceAlignment = "none"
    """Bring all predictions of a sequence to its references at once: log-affine (scale and offset of log
    intensity), log-offset, robust (percentiles 1 to 99 of the whole sequence, no references)."""
    logarithmic: bool = False
    """Predictions are log intensity already; `align` has to know."""
    equalise: Equalisation = "none"
    """Equalise the histograms of both images before they are compared."""
    event_rate: Literal["window", "events"] = "window"
    """Events are divided by the window's length, or as EVREAL does by the time from first to last event."""
    inserted: int = 1
    """Every n-th frame is, or was, given to an interpolation and is not scored; 1: score all."""
    average: Literal["frames", "sequences"] = "frames"
    """Of a data set: mean of its frames (EVREAL, Sim2Real, GEM) or of its sequences' means (VFIBenchmark)."""
    not_finite: Literal["drop", "keep"] = "drop"
    """Scores that are not finite, such as the PSNR of identical images, are left out of means or kept; both
    are counted."""
    flow_png: PngFlow = later(default="kitti")
    """What the code values of a true flow in a 16-bit PNG are: as KITTI writes them, or DSEC."""

    def __post_init__(self) -> None:
        check_choices(self)
        protocol = parse_protocol(self.protocol)
        require_range("tolerance_ms", self.tolerance_ms, 0)
        require_range("inserted", self.inserted, 1)
        require_range("overlap", self.overlap, 0)
        if "none" not in (self.align, self.normalize):
            raise ConfigError(
                f"align = {self.align} with normalize = {self.normalize}: one fits the sequence, the other "
                "each frame; choose one"
            )
        if self.logarithmic and self.align not in ("log-affine", "log-offset"):
            raise ConfigError("logarithmic is for align = log-affine or log-offset")
        if self.overlap and (protocol.windows == "frames" or self.overlap >= protocol.length):
            raise ConfigError(
                f"overlap = {self.overlap} with protocol {self.protocol}, expected less than the window's "
                "length, and windows by time or count"
            )
        for name in ("start_s", "stop_s"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ConfigError(f"{name} = {value}, expected seconds; leave it out for the whole recording")
        if None not in (self.start_s, self.stop_s) and self.start_s > self.stop_s:  # type: ignore[operator]
            raise ConfigError(f"start_s = {self.start_s} is later than stop_s = {self.stop_s}")

    @property
    def preparation(self) -> str:
        """What is done to images before they are scored, to be named beside every number; may be empty."""
        kinds = {name: getattr(self, name) for name in ("normalize", "align", "equalise")}
        return ", ".join(f"{name} {kind}" for name, kind in kinds.items() if kind != "none")

    @property
    def windows(self) -> Protocol:
        """What the protocol's name says."""
        return parse_protocol(self.protocol)


class ScoredInterval(NamedTuple):
    """Scored times in seconds, both included; origin: who says so, empty for a whole recording."""

    start_s: float = float("-inf")
    stop_s: float = float("inf")
    origin: str = ""


def scored_interval(dataset: str, sequence: str, config: EvaluationConfig) -> ScoredInterval:
    """The interval of a sequence: the configuration's, else EVREAL's for its own, else everything."""
    if config.start_s is not None or config.stop_s is not None:
        start = ScoredInterval().start_s if config.start_s is None else config.start_s
        stop = ScoredInterval().stop_s if config.stop_s is None else config.stop_s
        return ScoredInterval(start, stop, "configuration")
    # The sequence's name begins with the data set where the folder above was named.
    *_, dataset, sequence = f"{dataset}/{sequence}".split("/")
    listed = configuration.read_file(INTERVALS).get(dataset, {}).get(sequence)
    if listed is None:
        return ScoredInterval()
    start, stop = listed
    return ScoredInterval(float(start), float("inf") if stop is None else float(stop), "EVREAL")
