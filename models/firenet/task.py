"""Training FireNet: sequences of voxel grids in, the image at the end of each window wanted.

The gradient runs through the whole sequence, from a zero state (Scheerlinck et al. 2020). The published
weights were trained with a perceptual and a temporal loss; here the loss is one between pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from evsim.configuration import check_choices, require_range
from evsim.errors import InputError
from evsim.models.data.recordings import RecordingData
from evsim.models.data.sequences import voxel_sequences
from evsim.models.firenet.network import FireNet
from evsim.models.training.task import Datasets, Outcome, Task, TaskEntry, grey_picture

LossName = Literal["l1", "mse"]


@dataclass(frozen=True, kw_only=True)
class FireNetTaskConfig:
    """What FireNet is trained for."""

    loss: LossName = "l1"
    """l1 or mse, between image and target."""
    skip: int = 0
    """Windows at the begin of each sequence that the loss leaves out, while the state fills."""

    def __post_init__(self) -> None:
        check_choices(self)
        require_range("skip", self.skip, 0)


class FireNetTask(Task):
    """Batches {"voxels": (B, T, bins, H, W), "images": (B, T, 1, H, W)} to a loss between pixels."""

    def __init__(self, network: nn.Module, config: FireNetTaskConfig) -> None:
        super().__init__(network)
        self.config = config

    def forward(self, batch: dict[str, Tensor]) -> Outcome:
        """The mean loss over the windows of a sequence, and both errors as figures."""
        wanted = self._targets(batch)
        found = self._unroll(batch["voxels"])[:, self.config.skip :].float()
        errors = {"l1": l1_loss(found, wanted), "mse": mse_loss(found, wanted)}
        return Outcome(errors[self.config.loss], {name: error.detach() for name, error in errors.items()})

    def pictures(self, batch: dict[str, Tensor]) -> list[NDArray[np.uint8]]:
        """Events, image and target of the last window of each sequence, side by side."""
        images = self._unroll(batch["voxels"])[:, -1, 0]
        events = 0.5 + batch["voxels"][:, -1].sum(1) / 6
        return [grey_picture(*row) for row in zip(events, images, batch["images"][:, -1, 0])]

    def _unroll(self, voxels: Tensor) -> Tensor:
        state: Any = None
        images = []
        for voxel in voxels.unbind(1):
            image, state = self.network(voxel, state)
            images.append(image)
        return torch.stack(images, 1)

    def _targets(self, batch: dict[str, Tensor]) -> Tensor:
        if "images" not in batch:
            raise InputError(
                "the windows have no images, which FireNet is to learn; choose data.sequences.windows.kind "
                "between_frames or stored, and recordings that hold images"
            )
        length = batch["images"].shape[1]
        if length <= self.config.skip:
            raise InputError(
                f"task.skip = {self.config.skip} leaves nothing of sequences of {length} windows"
            )
        return batch["images"][:, self.config.skip :]


def make_datasets(network: nn.Module, data: RecordingData) -> Datasets:
    """Voxel sequences of as many bins as the network takes."""
    if not isinstance(network, FireNet):
        raise InputError(f"a {type(network).__name__}, expected a FireNet")
    return Datasets(*data.datasets(voxel_sequences(network.config.bins)))


TASK = TaskEntry(
    config=FireNetTaskConfig,
    data=RecordingData,
    create=FireNetTask,
    datasets=make_datasets,
    training={"amsgrad": True, "batch_size": 2},
)
