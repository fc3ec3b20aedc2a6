"""The network behind the contract of predictors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evsim.events import Events
from evsim.models.data.collate import ragged_events
from evsim.models.data.stretch import NO_IMAGE, Stretch
from evsim.models.prediction.parts import PredictorParts
from evsim.models.prediction.windows import WindowPredictor
from evsim_toy.leak.network import Leak


class LeakRecurrent:
    """Carries the state of one sequence."""

    def __init__(self, network: Leak) -> None:
        self.network = network
        self._state: Tensor | None = None

    def reset(self) -> None:
        """Forget the sequence so far."""
        self._state = None

    def step(self, events: Events) -> NDArray[np.float32]:
        """The image (H, W) at the end of a window."""
        times = np.array([[events.t[0], events.t[-1]] if len(events) else [0, 0]], np.float64)
        window = Stretch(
            events=events,
            images=(),
            rows=np.array([[0, len(events)]]),
            edges_us=times,
            window_images=np.array([NO_IMAGE]),
        )
        with torch.inference_mode():
            image, self._state = self.network(ragged_events([window]), self._state)
        return image[0, 0].numpy()


def create_predictor(parts: PredictorParts) -> WindowPredictor:
    """A predictor of one scene after another."""
    assert isinstance(parts.network, Leak)
    return WindowPredictor(LeakRecurrent(parts.network))
