"""Fitting EvINR's network to the events of one stretch of time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from evsim.events import Events
from evsim.formats import Recording
from evsim.models.evinr.network import Evinr, EvinrConfig
from evsim.models.evinr.settings import EvinrFitConfig
from evsim.models.evinr.start import start_from_events
from evsim.models.evinr.step import Gradients, Stepper, Targets, make_optimizer
from evsim.models.evinr.targets import aligned_targets, published_targets
from evsim.models.log_video.thresholds import recorded_thresholds
from evsim.models.training.scene_task import require_finite

LossReport = Callable[[int, int, float], None]
GAUGE_FRAMES = 50
"""Frames over which the mean of the log intensity is taken."""


class Fit:
    """A network and how far it is fitted to its events.

    events: of the stretch. window_us: the stretch on the clock of events.t; in compat the network's times
    -1 and 1, else those are the first and the last event. step: steps taken.
    Raises InputError for events that cannot be fitted.
    """

    def __init__(
        self,
        config: EvinrFitConfig,
        events: Events,
        window_us: tuple[float, float],
        device: torch.device | None = None,
    ) -> None:
        self.config = config.resolved()
        self.events, self.window_us = events, window_us
        self.device = device or torch.device("cpu")
        # The most first, so that too few events are found out before the first step.
        self._targets(self.config.frames(self.iterations))
        targets = self._targets(self.config.frames(0))
        self.network = self._new_network()
        if not config.compat:
            start_from_events(self.network, targets)
        self.network.to(self.device)
        self.step = 0
        self._optimizer = make_optimizer(
            self.network, self.config.learning_rate, self.config.weight_decay, exact=config.compat
        )
        self._frames = 0
        self._stepper: Stepper | None = None
        self._first_targets: Targets | None = targets

    @property
    def iterations(self) -> int:
        """Steps in all."""
        assert self.config.iterations is not None
        return self.config.iterations

    def take_step(self) -> dict[str, torch.Tensor]:
        """The loss before the step and its terms, on the device; read them no later than the next step."""
        loss = self._stepper_now().take()
        self.step += 1
        return loss._asdict()

    def run(self, report: LossReport | None = None, every: int = 10) -> float:
        """Take all steps that are left; the last loss, NaN where there was no step.

        report: called with (steps done, steps, loss) every so many steps. Raises RunError for a loss that is
        not finite.
        """
        loss = math.nan
        while self.step < self.iterations:
            total = self.take_step()["total"]
            if self.step % every == 0 or self.step == self.iterations:
                loss = require_finite(float(total), self.step)
                if report is not None:
                    report(self.step, self.iterations, loss)
        return loss

    def finished(self) -> Evinr:
        """The network in evaluation mode; its output is log intensity of mean 0, with compat as it is.

        Without compat it was fitted in units of the threshold, with which its last layer is now multiplied,
        so that the threshold decides the contrast and nothing else.
        """
        network = self.network.eval()
        if self.config.compat:
            return network
        assert self.config.event_threshold is not None
        with torch.no_grad():
            for parameter in network.readout.parameters():
                parameter.mul_(self.config.event_threshold)
            features = network.features(torch.linspace(-1, 1, GAUGE_FRAMES, device=self.device)).mean(0)
            mean = (network.readout.weight @ features + network.readout.bias).mean()
            network.readout.bias.sub_(mean)
        return network

    def state(self) -> dict[str, Any]:
        """All that a resumed fit needs beside the events."""
        return {
            "step": self.step,
            "network": dict(self.network.state_dict()),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self._frames, self._stepper = 0, None

    def _targets(self, frames: int) -> Targets:
        config = self.config
        if not config.compat:
            return aligned_targets(self.events, frames, color=config.color)
        assert config.event_threshold is not None
        return published_targets(
            self.events, frames, self.window_us, event_threshold=config.event_threshold, color=config.color
        )

    def _new_network(self) -> Evinr:
        config, events = self.config, self.events
        assert config.hidden_width is not None
        assert config.neck_width is not None
        half = 2 if config.color and not config.compat else 1
        ends = self.window_us if config.compat else (float(events.t[0]), float(events.t[-1]))
        made = EvinrConfig(
            width=events.width // half,
            height=events.height // half,
            color=config.color,
            hidden_layers=config.hidden_layers,
            hidden_width=config.hidden_width,
            neck_width=config.neck_width,
            window_us=ends,
            transposed=config.compat and events.height > events.width,
        )
        with torch.random.fork_rng(devices=[]):
            # Not derived from anything else: with compat a seed gives the published code's weights.
            torch.manual_seed(config.seed)
            return Evinr(made)

    def _stepper_now(self) -> Stepper:
        frames = self.config.frames(self.step)
        if self._stepper is None or frames != self._frames:
            targets = self._first_targets if frames == self.config.frames(0) else None
            self._first_targets = None
            placed = (targets or self._targets(frames)).to(self.device)
            gradients = Gradients(self.network, placed, self.config.weights(frames))
            self._frames, self._stepper = frames, Stepper(gradients, self._optimizer)
        return self._stepper


def with_threshold(config: EvinrFitConfig, recording: Recording) -> EvinrFitConfig:
    """The configuration with the threshold that a simulated recording says it has, where none was given."""
    recorded = recorded_thresholds(recording)
    if config.compat or config.event_threshold is not None or recorded is None:
        return config.resolved()
    return replace(config, event_threshold=(recorded.on + recorded.off) / 2).resolved()
