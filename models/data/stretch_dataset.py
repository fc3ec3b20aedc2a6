"""`StretchDataset`: from a stretch to a sample, the same way for recordings, clips and triplets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.data import default_collate

from evsim.errors import InputError
from evsim.models.data.augmentation import AugmentationConfig, draw_placement
from evsim.models.data.dataset import DrawnDataset
from evsim.models.data.event_augmentation import augment_events
from evsim.models.data.stretch import Stretch, Transform
from evsim.randomness import RandomDraws


class StretchDataset(DrawnDataset):
    """A data set of stretches.

    transform: a stretch and draws -> the sample; None gives the `Stretch` itself. collate: a list of samples
    -> the batch; None: the transform's own, else torch's default, which stacks tensors.
    """

    def __init__(
        self,
        augmentation: AugmentationConfig,
        transform: Transform | None = None,
        *,
        collate: Callable[[list[Any]], Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.augmentation, self.transform = augmentation, transform
        own: Callable[[list[Any]], Any] = getattr(transform, "collate", default_collate)
        self.collate = own if collate is None else collate

    @abstractmethod
    def placed(self, index: int, draws: RandomDraws) -> Stretch:
        """Stretch `index`, cut out, turned and mirrored by `draws`."""

    def sample(self, index: int, draws: RandomDraws) -> Any:
        """The sample of stretch `index`: placement, event augmentations and the transform draw in turn."""
        stretch = self.placed(index, draws)
        with naming(stretch.key):
            stretch = augment_events(self.augmentation.events, stretch, draws)
            return stretch if self.transform is None else self.transform(stretch, draws)

    def place(self, stretch: Stretch, draws: RandomDraws) -> Stretch:
        """A whole stretch, cut out, turned and mirrored by `draws`."""
        size = (stretch.events.width, stretch.events.height)
        with naming(stretch.key):
            return draw_placement(self.augmentation, size, draws, stretch.image_scale).stretch(stretch)


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Say in an InputError from inside which sample it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(key) else f"{key}: {error}") from error
