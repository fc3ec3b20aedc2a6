"""The data of networks that learn from sequences of windows: what to train on and what to validate with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from evsim.errors import ConfigError
from evsim.models.data.dataset import DrawnDataset
from evsim.models.data.sequences import SequenceConfig, SequenceDataset
from evsim.models.data.simulation import SimulatedDataset, SimulationData
from evsim.models.data.stretch import Transform


@dataclass(frozen=True, kw_only=True)
class RecordingData:
    """Recordings and how sequences are taken from them."""

    train: tuple[str, ...] = ()
    """Recordings to train on: event files, lists of them, folders of them, run folders."""
    validation: tuple[str, ...] = ()
    """Recordings to validate with; none: the training loss decides which weights are best."""
    validation_length: int | None = None
    """Windows in a sequence of validation; none: as many as in training."""
    size: tuple[int, int] | None = None
    """Width and height of the sensor, where files do not say."""
    unit: str | None = None
    """s, ms, us or ns, where files do not say."""
    sequences: SequenceConfig = field(default_factory=SequenceConfig)
    """Windows, sequences, and how they are varied; validation takes the centre and varies nothing."""
    simulation: SimulationData | None = None
    """Take `train` as clips (videos, folders of images, stills) and simulate their events while loading."""
    simulate_validation: bool = True
    """With simulation: take `validation` as clips, too, with a sensor drawn once each; else recordings."""

    def datasets(self, transform: Transform) -> tuple[DrawnDataset, DrawnDataset | None]:
        """The data sets to train on and to validate with, of any transform of a `Stretch`.

        Raises ConfigError without recordings.
        """
        if not self.train:
            raise ConfigError("data.train names no recording; give event files or folders to train on")
        options: dict[str, Any] = {"size": self.size, "unit": self.unit}
        train: DrawnDataset
        if self.simulation is None:
            train = SequenceDataset(self.train, self.sequences, transform=transform, options=options)
        else:
            train = SimulatedDataset(self.train, self.simulation, self.sequences, transform=transform)
        if not self.validation:
            return train, None
        config = replace(
            self.sequences,
            length=self.validation_length or self.sequences.length,
            stride=None,
            augmentation=self.sequences.augmentation.without_draws(),
        )
        if self.simulation is not None and self.simulate_validation:
            return train, SimulatedDataset(self.validation, self.simulation, config, transform=transform)
        return train, SequenceDataset(self.validation, config, transform=transform, options=options)
