"""Data sets of window sequences: consecutive windows of one recording, cropped and flipped as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from evsim.configuration import require_range
from evsim.errors import ConfigError, InputError
from evsim.events import Events
from evsim.media import quantize
from evsim.models.data.augmentation import AugmentationConfig
from evsim.models.data.sources import Source, SourcePool, find_recordings
from evsim.models.data.stretch import NO_IMAGE, Stretch, Transform, scale_of_images
from evsim.models.data.stretch_dataset import StretchDataset
from evsim.models.data.tables import WindowConfig, WindowTable, given_table, make_table
from evsim.randomness import RandomDraws
from evsim.represent import voxel_grid


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
    """Crops, flips and the like, the same for all windows of a sequence."""

    def __post_init__(self) -> None:
        require_range("length", self.length, 1)
        if self.stride is not None and self.stride < 1:
            raise ConfigError(f"stride = {self.stride}, expected at least 1")


class SequenceDataset(StretchDataset):
    """Sequences of consecutive windows from event recordings of any format.

    recordings: paths as `find_recordings` takes them. transform: the `Stretch` of one sequence and draws ->
    the sample, in the loader's process; None gives the stretch itself. collate: see `StretchDataset`. tables:
    windows chosen by the caller instead of config.windows, one (K, 2) table of event positions a recording.
    options: size=, unit=, format= of `open_events`. seed: of the draws that `dataset[i]` makes; a training
    run passes its own. Raises InputError when no recording has a sequence of that length.
    """

    def __init__(
        self,
        recordings: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        config: SequenceConfig | None = None,
        *,
        transform: Transform | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        tables: Sequence[ArrayLike] | None = None,
        options: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.config = config or SequenceConfig()
        super().__init__(self.config.augmentation, transform, collate=collate, seed=seed)
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

    def describe(self, index: int) -> str:
        """The recording and the numbers of its windows."""
        recording, first = self._place_of(index)
        return f"{self.sources.paths[recording]}, windows {first} to {first + self.config.length - 1}"

    def placed(self, index: int, draws: RandomDraws) -> Stretch:
        """Sequence `index`, cut out, turned and mirrored by `draws`."""
        recording, first = self._place_of(index)
        windows = slice(first, first + self.config.length)
        return self.place(
            _stretch_of(self.sources[recording], self.tables[recording], windows, self.describe(index)), draws
        )

    def _place_of(self, index: int) -> tuple[int, int]:
        """The recording of a sequence, and its first window in it."""
        recording = int(np.searchsorted(self._ends, index, "right")) - 1
        return recording, (index - int(self._ends[recording])) * self._stride

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


def _stretch_of(source: Source, table: WindowTable, windows: slice, key: str) -> Stretch:
    """Some windows of a recording, with the images of their time."""
    rows, edges = table.rows[windows], table.edges_us[windows].copy()
    events, rows = _read_windows(source, rows)
    whole = np.flatnonzero(np.isnan(edges[:, 0]))
    for number in whole:
        start, stop = rows[number]
        # A window without events is a moment.
        edges[number, 0] = events.t[start] if stop > start else edges[number, 1]
    at_end, at_begin = table.images[windows], table.opening_images[windows]
    numbers = _images_of(source, edges, np.concatenate([at_begin, at_end]))
    images = tuple(source.timed_image(int(number)) for number in numbers)
    return Stretch(
        events=events,
        images=images,
        rows=rows,
        edges_us=edges,
        window_images=_positions(numbers, at_end),
        opening_images=_positions(numbers, at_begin),
        image_scale=scale_of_images(images, source.size),
        key=key,
    )


def _read_windows(source: Source, rows: NDArray[np.int64]) -> tuple[Events, NDArray[np.int64]]:
    """The events that lie in some window, each once, and the windows as positions among them."""
    runs: list[list[int]] = []
    for start, stop in sorted(rows.tolist()):
        if runs and start <= runs[-1][1]:
            runs[-1][1] = max(stop, runs[-1][1])
        else:
            runs.append([start, stop])
    begins = np.array([begin for begin, _ in runs], np.int64)
    before = np.cumsum([0, *(end - begin for begin, end in runs)])[:-1]
    run_of = np.searchsorted(begins, rows[:, 0], "right") - 1
    return (
        Events.concatenate(source.rows(begin, end) for begin, end in runs),
        rows - (begins - before)[run_of, None],
    )


def _images_of(
    source: Source, edges_us: NDArray[np.float64], belonging: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The images that belong to some windows, and where any does, those at other times of their span."""
    belonging = belonging[belonging != NO_IMAGE]
    if not len(belonging):
        return belonging
    times = source.image_times()
    within = np.flatnonzero((times >= edges_us.min()) & (times <= edges_us.max()))
    return np.union1d(belonging, within)


def _positions(numbers: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(wanted == NO_IMAGE, NO_IMAGE, np.searchsorted(numbers, wanted))


@dataclass(frozen=True)
class VoxelSequences:
    """The transform to {"voxels": float32 (T, bins, H, W), "images": float32 (T, 1, H, W) grey in 0..1}.

    Signed voxel grids of the windows, and the 8-bit codes of the images at their ends. "images" is left out
    where the windows have none. Raises InputError for a sequence of which only some windows have an image.
    """

    bins: int
    rule: str = "e2vid"

    def __call__(self, stretch: Stretch, draws: RandomDraws) -> dict[str, torch.Tensor]:
        """The sample of one sequence."""
        count = len(stretch)
        grids = [
            torch.from_numpy(voxel_grid(stretch.window(k), self.bins, rule=self.rule)) for k in range(count)
        ]
        images = stacked_images(stretch)
        return {"voxels": torch.stack(grids)} | ({} if images is None else {"images": images})


def voxel_sequences(bins: int, rule: str = "e2vid") -> VoxelSequences:
    """The transform of a network that takes voxel grids of so many bins; see `VoxelSequences`."""
    return VoxelSequences(bins, rule)


def stacked_images(stretch: Stretch) -> torch.Tensor | None:
    """float32 (T, 1, H, W): `grey_light` of the image at the end of each window, None where there are none.

    Raises InputError where only some windows have an image.
    """
    count = len(stretch)
    images = [image.image for image in map(stretch.window_image, range(count)) if image is not None]
    if images and len(images) != count:
        raise InputError(f"{len(images)} of {count} windows of a sequence have an image, expected all")
    return torch.stack([torch.from_numpy(grey_light(image))[None] for image in images]) if images else None


def grey_light(image: NDArray[Any]) -> NDArray[np.float32]:
    """float32 (H, W) in 0..1: the 8-bit codes of an image / 255, of a colour one its luma (ITU-R BT.601)."""
    codes = _eight_bit(image)
    if codes.ndim == 3:
        return (codes @ np.array([0.299, 0.587, 0.114]) / 255).astype(np.float32)
    return codes.astype(np.float32) / np.float32(255)


def _eight_bit(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype == np.uint8:
        return image
    return quantize(image / np.float32(65535) if image.dtype == np.uint16 else image, np.uint8)[0]
