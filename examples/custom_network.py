"""A network of one's own in evsim's training loop: the events between two frames to the later frame.

Usage: python examples/custom_network.py EVENTS [STEPS], where EVENTS is a file that also holds images.
"""

import sys
import tempfile

import torch
from torch import Tensor, nn

from evsim.models.data.augmentation import AugmentationConfig
from evsim.models.data.sequences import SequenceConfig, SequenceDataset, stacked_images
from evsim.models.data.stretch import Stretch
from evsim.models.training.configuration import TrainingConfig
from evsim.models.training.loop import train
from evsim.models.training.task import Datasets, Outcome, Task
from evsim.randomness import RandomDraws
from evsim.represent import voxel_grid

BINS = 3


class LeakyIntegrator(nn.Module):
    """Two convolutions on the events, summed over time with a learned leak."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.Conv2d(bins, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1)
        )
        self.leak = nn.Parameter(torch.tensor(0.1))

    def forward(self, voxel: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        state = self.change(voxel) + (0 if state is None else (1 - self.leak) * state)
        return 0.5 + state, state


def sample(stretch: Stretch, draws: RandomDraws) -> dict[str, Tensor | None]:
    """What the network is shown of a stretch: the events of each window, and the images at their ends."""
    windows = [torch.from_numpy(voxel_grid(stretch.window(k), BINS)) for k in range(len(stretch))]
    return {"voxels": torch.stack(windows), "images": stacked_images(stretch)}


class Reconstruction(Task):
    """What training means: unroll a sequence, compare every image."""

    def forward(self, batch: dict[str, Tensor]) -> Outcome:
        state, images = None, []
        for voxel in batch["voxels"].unbind(1):
            image, state = self.network(voxel, state)
            images.append(image)
        error = (torch.stack(images, 1) - batch["images"]).square().mean()
        return Outcome(error, {"psnr": -10 * error.detach().log10()})


def main(events: str, steps: str = "40") -> None:
    config = SequenceConfig(length=2, stride=1, augmentation=AugmentationConfig(crop=(16, 16)))
    data = SequenceDataset(events, config, transform=sample)
    training = TrainingConfig(steps=int(steps), batch_size=4, learning_rate=0.01, log_every=10)
    result = train(Reconstruction(LeakyIntegrator(BINS)), Datasets(data), training, tempfile.mkdtemp())
    print(f"{result.ended} after {result.steps} steps: {result.train['psnr']:.1f} dB, in {result.folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
