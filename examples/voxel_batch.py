"""A training batch from an event file: one E2VID voxel grid per pair of images."""

import itertools
import sys

import torch

from evsim import open_events
from evsim.represent import voxel_grid


def main(path: str) -> None:
    with open_events(path) as recording:
        times = [image.t_us for image in recording.images()]
        windows = [recording.between(int(t0), int(t1)) for t0, t1 in itertools.pairwise(times)]
    batch = torch.stack([torch.from_numpy(voxel_grid(events, bins=5)) for events in windows])
    print(tuple(batch.shape), f"sum {batch.sum():.0f}")


if __name__ == "__main__":
    main(sys.argv[1])
