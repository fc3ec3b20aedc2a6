"""Events to video without a network, behind the contract of predictors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.formats import Recording
from evsim.formats.storage.excerpt import time_span
from evsim.models.log_video.display import DisplayCurve
from evsim.models.prediction.needs import Needs
from evsim.models.prediction.parts import PredictorParts
from evsim.models.prediction.scene import Scene
from evsim.models.variational.color import SolvedColorWindow
from evsim.models.variational.config import VariationalConfig
from evsim.models.variational.solver import Weights
from evsim.models.variational.thresholds import choose_thresholds
from evsim.models.variational.windows import EVENTS_PER_SAMPLE, Samples, SolvedWindow, plan_samples
from evsim.models.variational.windows import window_events as events_of_windows
from evsim.progress import Report

NEEDS = Needs(events=True, weights="none")
IMAGES_AT_ONCE = 16


class Window(Protocol):
    """Log intensity of a window, grey or colour."""

    times_us: NDArray[np.float64]
    gain: float
    explained: float
    power: float

    def at(self, times_us: ArrayLike) -> NDArray[np.float32]: ...


class VariationalPredictor:
    """Solves a recording window by window and gives its images at any times."""

    needs: ClassVar[Needs] = NEEDS

    def __init__(self, config: VariationalConfig) -> None:
        self.config = config
        self._facts: dict[str, Any] = {}

    @property
    def facts(self) -> Mapping[str, Any]:
        """Thresholds, time samples, windows and gain."""
        return self._facts

    def images(
        self, scene: Scene, times_us: NDArray[np.float64], *, report: Report | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """See `Predictor.images`; two windows are in memory at a time."""
        recording = scene.event_recording
        first, last = time_span(recording)
        wanted = np.clip(np.asarray(times_us, np.float64), first, last)
        curve: DisplayCurve | None = None
        done = 0
        previous: Window | None = None
        for window, end_us in self._windows(recording, first, last, report):
            if self.config.output == "display" and curve is None:
                shown = window.at(window.times_us[:: max(1, len(window.times_us) // 16)])
                curve = DisplayCurve.of(shown, self._facts["threshold_on"] + self._facts["threshold_off"])
            stop = int(np.searchsorted(wanted, end_us, "right" if end_us >= last else "left"))
            for start in range(done, stop, IMAGES_AT_ONCE):
                for image in _blended(window, previous, wanted[start : min(start + IMAGES_AT_ONCE, stop)]):
                    yield image if curve is None else curve(image)
            done, previous = max(done, stop), window

    def _windows(
        self, recording: Recording, first: int, last: int, report: Report | None
    ) -> Iterator[tuple[Window, float]]:
        """Each window, and the time up to which images come from it."""
        config = self.config
        thresholds = choose_thresholds(recording, config)
        samples = plan_samples(first, last, len(recording), (recording.width, recording.height), config)
        make = SolvedColorWindow if config.color else SolvedWindow
        weights = _weights(config, samples, len(recording), recording.width * recording.height)
        self._facts = {
            "threshold_on": thresholds.on,
            "threshold_off": thresholds.off,
            "time_samples": len(samples.times_us),
            "solved_windows": len(samples.windows),
        }
        explained = power = 0.0
        for number, (events, (start, stop)) in enumerate(
            zip(events_of_windows(recording, samples), samples.windows, strict=True), 1
        ):
            window: Any = make(events, samples.times_us[start:stop], thresholds, weights, config.iterations)
            explained, power = explained + window.explained, power + window.power
            if config.refit_gain and power > 0:
                window.gain = explained / power
            if report:
                report(number, len(samples.windows), "windows")
            following = samples.windows[number][0] if number < len(samples.windows) else None
            self._facts["gain"] = window.gain
            yield window, last if following is None else float(samples.times_us[following])


def _blended(window: Window, previous: Window | None, times_us: NDArray[np.float64]) -> NDArray[np.float32]:
    """Images of a window, over its overlap with the one before passing from that to this."""
    images = _at(window, times_us)
    if previous is None:
        return images
    start, end = window.times_us[0], previous.times_us[-1]
    early = times_us < end
    if early.any():
        share = ((times_us[early] - start) / (end - start)).astype(np.float32)
        share = share.reshape(-1, *[1] * (images.ndim - 1))
        images[early] = share * images[early] + (1 - share) * _at(previous, times_us[early])
    return images


def _at(window: Window, times_us: NDArray[np.float64]) -> NDArray[np.float32]:
    """Images at times that may repeat: requests outside the recording share the first or last event's."""
    distinct, place = np.unique(times_us, return_inverse=True)
    return window.at(distinct)[place]


def _weights(config: VariationalConfig, samples: Samples, events: int, pixels: int) -> Weights:
    # A change over a longer interval is larger: the weight is meant for the interval of the standard choice.
    spacing = events / pixels / max(1, len(samples.times_us) - 1) / EVENTS_PER_SAMPLE
    return Weights(
        fidelity=config.fidelity,
        smoothness=config.smoothness / spacing**2,
        softening=config.softening,
    )


def create_predictor(parts: PredictorParts) -> VariationalPredictor:
    """The method; it has no weights and runs on the processor whatever the device."""
    return VariationalPredictor(parts.options)
