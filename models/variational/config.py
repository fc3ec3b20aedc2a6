"""Options of the variational reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evsim.configuration import check_choices, require_range


@dataclass(frozen=True, kw_only=True)
class VariationalConfig:
    """How a recording is turned into video. Weights are for thresholds of 0.25 and scale with others."""

    event_threshold: float | None = None
    """Log intensity of an event; the recorded threshold of a simulated file where absent, else 0.25."""
    event_threshold_off: float | None = None
    """Of an OFF event, where it differs from that of an ON event."""
    balance_thresholds: Literal["auto", "on", "off"] = "auto"
    """Choose the OFF threshold so that pixels do not drift; auto: where no threshold is given or recorded and
    there are events enough to tell."""
    fidelity: float = 1.0
    """Weight of the squared distance from the events' levels."""
    smoothness: float = 25.0
    """Weight of the squared change of that distance from one time sample to the next."""
    softening: float = 0.02
    """Gradient of log intensity below which the penalty is quadratic."""
    iterations: int = 25
    """Iterations of the splitting for each window."""
    train_resolution: int | None = None
    """Time samples of the whole recording; where absent there is one per 0.22 events a pixel."""
    window_samples: int = 64
    """Time samples solved together; longer recordings are solved in windows that overlap by a quarter."""
    refit_gain: bool = True
    """Undo the loss of contrast to the penalty by one gain for the recording so far."""
    color: bool = False
    """The sensor has an RGGB mosaic: red, green and blue are solved at half resolution, detail at full."""
    output: Literal["display", "log"] = "display"
    """display: a logistic curve of log intensity, in 0..1; log: log intensity of mean 0 itself."""

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("event_threshold", "event_threshold_off"):
            if getattr(self, name) is not None:
                require_range(name, getattr(self, name), 1e-6, 1e3)
        for name in ("fidelity", "smoothness"):
            require_range(name, getattr(self, name), 0.0)
        require_range("softening", self.softening, 1e-6)
        require_range("iterations", self.iterations, 1)
        require_range("window_samples", self.window_samples, 8)
        if self.train_resolution is not None:
            require_range("train_resolution", self.train_resolution, 2)
