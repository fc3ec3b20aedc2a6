"""The fit of EvINR to a stretch of a recording, as `evsim train` runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from evsim.models.evinr.fit import Fit, with_threshold
from evsim.models.evinr.network import Evinr
from evsim.models.evinr.prediction import stretch_of
from evsim.models.evinr.settings import EvinrFitConfig
from evsim.models.training.scene_task import SceneMaterial, SceneTaskEntry


class EvinrTask:
    """A fit under way; a `SceneTask`."""

    def __init__(self, material: SceneMaterial) -> None:
        recording = material.scene.event_recording
        self.config: EvinrFitConfig = with_threshold(material.config, recording)
        self._fit = Fit(self.config, recording.events(), stretch_of(recording), material.device)

    @property
    def events(self) -> int:
        """How many events it is fitted to."""
        return len(self._fit.events)

    @property
    def step(self) -> int:
        """Steps taken."""
        return self._fit.step

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self._fit.iterations

    def take_step(self) -> Mapping[str, Tensor]:
        """The loss before the step and its terms."""
        terms = self._fit.take_step()
        return {("loss" if name == "total" else name): value for name, value in terms.items()}

    def state(self) -> dict[str, Any]:
        """Network, optimiser and step."""
        return self._fit.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self._fit.restore(state)

    def finished(self) -> Evinr:
        """The network in evaluation mode."""
        return self._fit.finished()


TASK = SceneTaskEntry(
    config=EvinrFitConfig,
    create=EvinrTask,
    # One network holds no more.
    longest_s=lambda config: config.window_s,
)
