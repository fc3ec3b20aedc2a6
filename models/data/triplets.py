"""Triplets of images for frame interpolation: the two outer ones are given, the middle one is wanted.

They have no events and no clock: each is a stretch of one nominal interval with an empty sensor of the
images' size, and with its images at begin, half and end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evsim.configuration import require_range
from evsim.errors import ConfigError, InputError
from evsim.events import Events
from evsim.media.finding import entries
from evsim.media.folder import list_images
from evsim.media.image import read_image
from evsim.models.data.augmentation import AugmentationConfig
from evsim.models.data.lists import read_list, require_distinct
from evsim.models.data.stretch import Stretch, Transform
from evsim.models.data.stretch_dataset import StretchDataset
from evsim.randomness import RandomDraws
from evsim.timed_image import TimedImage

INTERVAL_US = 1e6
"""The nominal time from the first image of a triplet to the last."""
TIMES_US = (0.0, INTERVAL_US / 2, INTERVAL_US)


class Triplet(NamedTuple):
    """Where the three images of a triplet are, in order of time."""

    folder: Path
    names: tuple[str, str, str]


class TripletDataset(StretchDataset):
    """Image triplets, each a `Stretch` of one window from 0 to `INTERVAL_US` with three images and no events.

    triplets: as `find_triplets` takes them, or what it gave. augmentation: crops, flips, turns and reversed
    time. transform, collate: see `StretchDataset`. seed: of the draws that `dataset[i]` makes; a training run
    passes its own. Raises InputError before the first sample for whatever is listed and not there.
    """

    def __init__(
        self,
        triplets: str | os.PathLike[str] | Iterable[str | os.PathLike[str] | Triplet],
        augmentation: AugmentationConfig | None = None,
        *,
        transform: Transform | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(augmentation or AugmentationConfig(), transform, collate=collate, seed=seed)
        self.triplets = find_triplets(triplets)

    def __len__(self) -> int:
        return len(self.triplets)

    def describe(self, index: int) -> str:
        """The folder of the triplet."""
        return str(self.triplets[index].folder)

    def placed(self, index: int, draws: RandomDraws) -> Stretch:
        """Triplet `index`, cut out, turned, mirrored and reversed by `draws`."""
        folder, names = self.triplets[index]
        images = [read_image(folder / name) for name in names]
        shapes = {(image.shape, image.dtype.name) for image in images}
        if len(shapes) > 1:
            found = ", ".join(f"{name} {image.dtype} {image.shape}" for name, image in zip(names, images))
            raise InputError(f"{folder}: {found}; expected three images of one size and type")
        height, width = images[0].shape[:2]
        stretch = Stretch(
            events=Events.empty(width, height),
            images=tuple(TimedImage(image, t_us) for image, t_us in zip(images, TIMES_US)),
            rows=np.zeros((1, 2), np.int64),
            edges_us=np.array([[0.0, INTERVAL_US]]),
            window_images=np.array([2]),
            opening_images=np.array([0]),
            key=str(folder),
        )
        return self.place(stretch, draws)


@dataclass(frozen=True, kw_only=True)
class TripletData:
    """Image triplets to train on and to validate with."""

    train: tuple[str, ...] = ()
    """Lists of triplets (tri_trainlist.txt), folders of three images, or folders of such folders."""
    validation: tuple[str, ...] = ()
    """The same to validate with."""
    validation_share: float = 0.0
    """Without `validation`: this last share of `train` validates and is not trained on."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """Crops, flips, turns and reversed time; validation takes the centre and nothing else."""

    def __post_init__(self) -> None:
        require_range("validation_share", self.validation_share, 0, 1)
        if self.validation_share == 1:
            raise ConfigError("validation_share = 1, expected below 1: nothing would be left to train on")
        if self.validation and self.validation_share:
            raise ConfigError("validation_share beside validation, expected one of them")

    def datasets(self, transform: Transform) -> tuple[TripletDataset, TripletDataset | None]:
        """The data sets to train on and to validate with. Raises ConfigError without triplets."""
        if not self.train:
            raise ConfigError("data.train names no triplets; give lists or folders of them to train on")
        train = find_triplets(self.train)
        kept = int(len(train) * (1 - self.validation_share))
        validation: Sequence[Triplet] = train[kept:]
        if self.validation:
            validation = find_triplets(self.validation)
        if not kept:
            raise InputError(
                f"validation_share = {self.validation_share} leaves none of {len(train)} triplets"
            )
        return (
            TripletDataset(train[:kept], self.augmentation, transform=transform),
            TripletDataset(validation, self.augmentation.without_draws(), transform=transform)
            if validation
            else None,
        )


def find_triplets(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str] | Triplet],
) -> list[Triplet]:
    """The triplets that the paths stand for, in order.

    A path is a list of triplet folders, one a line, in `sequences` beside the list (Vimeo-90K) or beside the
    list itself; a folder of three images; or a folder in which every folder of images at any depth is one.
    The images of a folder are in natural order of their names. Raises InputError for what is not there, with
    the line of the list; for a folder without exactly three images; for a folder that holds lists, of which
    one must be chosen; and for a triplet that is named twice.
    """
    listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    found = [triplet for given in listed for triplet in _triplets_at(given)]
    require_distinct((triplet.folder for triplet in found), "triplet")
    return found


def _triplets_at(given: str | os.PathLike[str] | Triplet) -> Iterable[Triplet]:
    if isinstance(given, Triplet):
        return [given]
    path = Path(given)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_file():
        return _listed(path)
    lists = [entry.name for entry in entries(path) if entry.suffix == ".txt" and "list" in entry.stem]
    if lists:
        raise InputError(f"{path} holds lists of triplets ({', '.join(lists)}); give the one that is meant")
    found = list(_below(path))
    if not found:
        raise InputError(f"{path} holds no images at any depth, expected folders of three")
    return found


def _listed(path: Path) -> Iterator[Triplet]:
    root = path.parent / "sequences" if (path.parent / "sequences").is_dir() else path.parent
    listed = read_list(path)
    if not listed:
        raise InputError(f"{path} lists nothing, expected a folder of three images in each line")
    for line, name in listed:
        if not (root / name).is_dir():
            raise InputError(f"{path}, line {line}: there is no folder {root / name}")
        try:
            yield _triplet(root / name, list_images(root / name))
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from None


def _below(folder: Path) -> Iterator[Triplet]:
    images = list_images(folder)
    if images:
        yield _triplet(folder, images)
    for entry in entries(folder):
        if entry.is_dir():
            yield from _below(entry)


def _triplet(folder: Path, images: list[Path]) -> Triplet:
    if len(images) != 3:
        names = ", ".join(image.name for image in images[:8]) or "none"
        raise InputError(f"{folder} holds {len(images)} images ({names}), expected the three of a triplet")
    first, middle, last = (image.name for image in images)
    return Triplet(folder, (first, middle, last))
