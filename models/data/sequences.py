"""Data sets of window sequences: consecutive windows of one recording, cropped and flipped as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from evsim.configuration import require_range
from evsim.errors import ConfigError, InputError
from evsim.events import Events
from evsim.models.data.augmentation import AugmentationConfig, draw_placement
from evsim.models.data.dataset import DrawnDataset
from evsim.models.data.sources import SourcePool, find_recordings
from evsim.models.data.tables import NO_IMAGE, WindowConfig, WindowTable, given_table, make_table
from evsim.randomness import RandomDraws
from evsim.represent import voxel_grid


class Step(NamedTuple):
    """One window of a sequence.

    events: of the window. image: uint8 (H, W) or (H, W, 3) RGB at its end, None where there is none.
    end_us: its end on the clock of the events.
    """

    events: Events
    image: NDArray[np.uint8] | None
    end_us: float


Transform = Callable[[list[Step]], Any]


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """Sequences of windows from recordings."""

    length: int = 10
    """Windows in a sequence."""
    stride: int | None = None
    """Windows from the begin of one sequence to that of the next; none means `length`, so none overlap."""
    windows: WindowConfig = field(default_factory=WindowConfig)
    """How events are cut into windows."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """Crops and flips, the same for all windows of a sequence."""

    def __post_init__(self) -> None:
        require_range("length", self.length, 1)
        if self.stride is not None and self.stride < 1:
            raise ConfigError(f"stride = {self.stride}, expected at least 1")


class SequenceDataset(DrawnDataset):
    """Sequences of consecutive windows from event recordings of any format.

    recordings: paths as `find_recordings` takes them. transform: the steps of one sequence -> the sample, in
    the loader's process; None gives the list of `Step` itself. tables: windows chosen by the caller instead
    of config.windows, one (K, 2) table of event positions a recording. options: size=, unit=, format= of
    `open_events`. seed: of the draws that `dataset[i]` makes; a training run passes its own.
    Raises InputError when no recording has a sequence of that length.
    """

    def __init__(
        self,
        recordings: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        config: SequenceConfig | None = None,
        *,
        transform: Transform | None = None,
        tables: Sequence[ArrayLike] | None = None,
        options: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.config = config or SequenceConfig()
        self.transform = transform
        paths = find_recordings(recordings)
        if tables is not None and len(tables) != len(paths):
            raise InputError(f"{len(tables)} tables for {len(paths)} recordings, expected one each")
        self.sources = SourcePool(paths, options)
        self.tables = [
            make_table(self.sources[k], self.config.windows)
            if tables is None
            else given_table(self.sources[k], np.asarray(tables[k]))
            for k in range(len(paths))
        ]
        self._counts = [self._sequences_in(table) for table in self.tables]
        self._ends = np.cumsum([0, *self._counts])
        if not self._ends[-1]:
            raise InputError(self._why_empty(paths))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def sample(self, index: int, draws: RandomDraws) -> Any:
        """Sequence `index` with crop and flips drawn from `draws`."""
        recording = int(np.searchsorted(self._ends, index, "right")) - 1
        first = (index - int(self._ends[recording])) * self._stride
        source, table = self.sources[recording], self.tables[recording]
        placement = draw_placement(self.config.augmentation, source.size, draws)
        steps = []
        for window in range(first, first + self.config.length):
            start, stop = (int(row) for row in table.rows[window])
            number = int(table.images[window])
            image = None if number == NO_IMAGE else placement.image(source.image(number))
            events = placement.events(source.rows(start, stop))
            steps.append(Step(events, image, float(table.ends_us[window])))
        return steps if self.transform is None else self.transform(steps)

    @property
    def _stride(self) -> int:
        return self.config.stride or self.config.length

    def _sequences_in(self, table: WindowTable) -> int:
        spare = len(table) - self.config.length
        return 0 if spare < 0 else spare // self._stride + 1

    def _why_empty(self, paths: list[Path]) -> str:
        counts = ", ".join(f"{path.name}: {len(table)}" for path, table in zip(paths[:5], self.tables))
        more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
        return (
            f"no sequence of {self.config.length} windows in {len(paths)} recordings (windows of each: "
            f"{counts}{more}); choose a smaller length or longer recordings"
        )


@dataclass(frozen=True)
class VoxelSequences:
    """The transform to {"voxels": float32 (T, bins, H, W), "images": float32 (T, 1, H, W) grey in 0..1}.

    Signed voxel grids. "images" is left out where the windows have none. Raises InputError for a sequence
    of which only some windows have an image.
    """

    bins: int
    rule: str = "e2vid"

    def __call__(self, steps: list[Step]) -> dict[str, torch.Tensor]:
        """The sample of one sequence."""
        grids = [torch.from_numpy(voxel_grid(step.events, self.bins, rule=self.rule)) for step in steps]
        images = [step.image for step in steps if step.image is not None]
        if images and len(images) != len(steps):
            raise InputError(
                f"{len(images)} of {len(steps)} windows of a sequence have an image, expected all"
            )
        sample = {"voxels": torch.stack(grids)}
        if images:
            sample["images"] = torch.stack([torch.from_numpy(grey_light(image))[None] for image in images])
        return sample


def voxel_sequences(bins: int, rule: str = "e2vid") -> VoxelSequences:
    """The transform of a network that takes voxel grids of so many bins; see `VoxelSequences`."""
    return VoxelSequences(bins, rule)


def grey_light(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 (H, W) in 0..1: an image divided by 255, of a colour one its luma (ITU-R BT.601)."""
    if image.ndim == 3:
        return (image @ np.array([0.299, 0.587, 0.114]) / 255).astype(np.float32)
    return image.astype(np.float32) / np.float32(255)
