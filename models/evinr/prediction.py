"""EvINR as a method that is fitted to a recording: a network per stretch of time, queried at any times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evsim.errors import InputError
from evsim.formats import Recording
from evsim.formats.storage.excerpt import Excerpt, time_span
from evsim.models.evinr.fit import Fit, with_threshold
from evsim.models.evinr.network import Evinr, tone_map
from evsim.models.evinr.settings import EvinrFitConfig
from evsim.models.log_video.display import DisplayCurve
from evsim.models.log_video.planes import enlarge_plane
from evsim.models.prediction.needs import Needs
from evsim.models.prediction.parts import PredictorParts
from evsim.models.prediction.scene import Scene
from evsim.progress import Report

NEEDS = Needs(events=True, weights="optional")
QUERY = 16
"""Frames that are asked for at a time."""
PLACES = (0.0, 0.5, 1.0)
"""Row and column, in a cell of 2x2 pixels, of the planes of red, green (the middle of two) and blue."""


class EvinrPredictor:
    """Fits networks to a recording, or takes one that was fitted, and gives images at any times."""

    needs: ClassVar[Needs] = NEEDS

    def __init__(self, config: EvinrFitConfig, device: torch.device, fitted: Evinr | None = None) -> None:
        self.config, self.device, self.fitted = config, device, fitted
        self._facts: dict[str, Any] = {}
        self._curve: Callable[[NDArray[np.float32]], NDArray[np.float32]] = _light

    @property
    def facts(self) -> Mapping[str, Any]:
        """What a user should know about the fit; complete after the last image."""
        return self._facts

    def images(
        self, scene: Scene, times_us: NDArray[np.float64], *, report: Report | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """The image (H, W) or (H, W, 3) at each time; see `Predictor`."""
        for log_intensity in self.log_intensities(scene.event_recording, times_us, report=report):
            yield log_intensity if self.config.output == "log" else self._curve(log_intensity)

    def log_intensities(
        self, recording: Recording, times_us: NDArray[np.float64], *, report: Report | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Log intensity (H, W) or (H, W, 3) at each time."""
        size = (recording.width, recording.height)
        if self.fitted is not None:
            require_fit(self.fitted, size)
            self._choose_curve(self.fitted, recording)
            self._facts = {"method": "evinr, fitted before"}
            for part in _in_parts(times_us):
                yield from _shown(log_intensity(self.fitted, part), size)
            return
        before: Evinr | None = None
        config = with_threshold(self.config, recording)
        edges = stretches(stretch_of(recording), config)
        steps = len(edges) * (config.iterations or 0)
        seconds, losses = 0.0, []
        for number, (start, stop) in enumerate(edges):
            begin = time.perf_counter()
            network, loss = self._fit(config, recording, (start, stop), number, steps, report)
            seconds += time.perf_counter() - begin
            losses.append(loss)
            last = number == len(edges) - 1
            until = np.inf if last else edges[number + 1][0]
            chosen = times_us[(times_us >= (start if number else -np.inf)) & (times_us < until)]
            shared = edges[number - 1][1] - start if number else 0.0
            if network is not None and before is None:
                self._choose_curve(network, recording)
            if before is not None and network is not None and shared > 0:
                _match(network, before, (start, start + shared))
            for part in _in_parts(chosen):
                yield from _shown(_blended(network, before, part, start, shared, self._blank(size)), size)
            before = network or before
        self._facts = {
            "method": "evinr, as published" if config.compat else "evinr",
            "event_threshold": config.event_threshold,
            "iterations": config.iterations,
            "networks": len(edges),
            "loss": float(np.nanmean(losses)) if np.isfinite(losses).any() else None,
            "fit_seconds": seconds,
        }

    def _fit(
        self,
        config: EvinrFitConfig,
        recording: Recording,
        window_us: tuple[float, float],
        number: int,
        steps: int,
        report: Report | None,
    ) -> tuple[Evinr | None, float]:
        """The network of a stretch and its last loss; None for one in which nothing happens."""
        events = recording.between(round(window_us[0]), round(window_us[1]))
        if len(events) == 0 or events.t[0] == events.t[-1]:
            return None, float("nan")
        fit = Fit(config, events, window_us, self.device)
        done = number * fit.iterations
        loss = fit.run(
            (lambda step, _, loss: report(done + step, steps, f"loss {loss:.4g}")) if report else None
        )
        return fit.finished(), loss

    def _choose_curve(self, network: Evinr, recording: Recording) -> None:
        """The curve of output: display, by frames of a network."""
        if self.config.output == "display":
            threshold = with_threshold(self.config, recording).event_threshold
            assert threshold is not None
            shown = log_intensity(network, np.linspace(*network.config.window_us, QUERY))
            self._curve = DisplayCurve.of(shown, 2 * threshold)

    def _blank(self, size: tuple[int, int]) -> tuple[int, ...]:
        half = 2 if self.config.color and not self.config.compat else 1
        return (size[1] // half, size[0] // half, 3 if self.config.color else 1)


def stretch_of(recording: Recording) -> tuple[float, float]:
    """Begin and end, microseconds, of what is to be fitted: as asked for, else of all events."""
    if isinstance(recording, Excerpt):
        return float(recording.start_us), float(recording.stop_us)
    first, last = time_span(recording)
    return float(first), float(last + 1)


def stretches(span: tuple[float, float], config: EvinrFitConfig) -> list[tuple[float, float]]:
    """Equal windows that cover a span, none longer than `window_s`, each overlapping the next."""
    config = config.resolved()
    assert config.overlap_s is not None
    window, overlap = 1e6 * config.window_s, 1e6 * config.overlap_s
    length = span[1] - span[0]
    if length <= window:
        return [span]
    count = int(np.ceil((length - overlap) / (window - overlap)))
    step = (length - overlap) / count
    return [(span[0] + k * step, span[0] + (k + 1) * step + overlap) for k in range(count)]


@torch.no_grad()
def log_intensity(network: Evinr, times_us: NDArray[np.float64]) -> NDArray[np.float32]:
    """float32 (T, H, W, C) of a fitted network; at times beside its window, that at the window's end."""
    clipped = np.clip(times_us, *network.config.window_us)
    own = network.own_times(torch.from_numpy(np.asarray(clipped, np.float64)))
    video: Tensor = network(own.to(network.readout.weight.device)).cpu()
    return (video.transpose(1, 2) if network.config.transposed else video).numpy()


def require_fit(network: Evinr, size: tuple[int, int]) -> None:
    """Raises InputError for a network of another sensor."""
    config = network.config
    sides = (config.width, config.height)
    if sides != size and not (config.color and (2 * sides[0], 2 * sides[1]) == size):
        raise InputError(
            f"the network was fitted to a sensor of {sides[0]}x{sides[1]} pixels, the recording has "
            f"{size[0]}x{size[1]}; give the weights of a fit to this recording"
        )


def _blended(
    network: Evinr | None,
    before: Evinr | None,
    times_us: NDArray[np.float64],
    start: float,
    shared: float,
    blank: tuple[int, ...],
) -> NDArray[np.float32]:
    """The network's frames; from `start` on for `shared` microseconds, on the way from the one before."""
    if network is None:
        # Nothing happened: the last image stands still.
        return (
            np.zeros((len(times_us), *blank), np.float32)
            if before is None
            else log_intensity(before, times_us)
        )
    video = log_intensity(network, times_us)
    early = times_us < start + shared
    if before is not None and early.any():
        share = ((times_us[early] - start) / shared).astype(np.float32)[:, None, None, None]
        video[early] = share * video[early] + (1 - share) * log_intensity(before, times_us[early])
    return video


@torch.no_grad()
def _match(network: Evinr, before: Evinr, shared_us: tuple[float, float]) -> None:
    """Shift a network to the mean brightness of the one before, where both know the scene."""
    times = np.linspace(*shared_us, 5)
    apart = log_intensity(before, times).mean((0, 1, 2)) - log_intensity(network, times).mean((0, 1, 2))
    shift = torch.from_numpy(apart).to(network.readout.bias) / network.config.omega
    network.readout.bias.add_(shift.repeat(network.readout.out_features // len(shift)))


def _shown(video: NDArray[np.float32], size: tuple[int, int]) -> Iterator[NDArray[np.float32]]:
    """Frames of the sensor's size; half-size colour planes are enlarged."""
    for frame in video:
        image = frame
        if image.shape[1::-1] != size:
            planes = (enlarge_plane(image[None, ..., k], at, at)[0] for k, at in enumerate(PLACES))
            image = np.stack(list(planes), -1)
        yield np.ascontiguousarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)


def _light(log_intensity: NDArray[np.float32]) -> NDArray[np.float32]:
    return tone_map(torch.from_numpy(log_intensity)).numpy()


def _in_parts(times_us: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    for first in range(0, len(times_us), QUERY):
        yield times_us[first : first + QUERY]


def create_predictor(parts: PredictorParts) -> EvinrPredictor:
    """A predictor that fits, or that uses the network of an earlier fit."""
    if parts.network is not None and not isinstance(parts.network, Evinr):
        raise InputError(f"a {type(parts.network).__name__}, expected an Evinr")
    return EvinrPredictor(parts.options, parts.device, parts.network)
