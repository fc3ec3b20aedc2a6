"""Batches of samples that do not stack: event lists of any length, images of any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from evsim.errors import InputError
from evsim.models.data.sequences import stacked_images
from evsim.models.data.stretch import Stretch
from evsim.randomness import RandomDraws


class _Tensors:
    """A batch whose tensors move, and are pinned, together; what loaders and Fabric ask for."""

    def to(self, *arguments: Any, **options: Any) -> Any:
        """The same batch with each tensor moved, as `Tensor.to` does; to a device, not to another dtype."""
        return self._each(lambda tensor: tensor.to(*arguments, **options))

    def pin_memory(self) -> Any:
        """The same batch in memory from which it moves to a GPU faster."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Any:
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        changed = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **changed)  # type: ignore[type-var]


@dataclass(frozen=True, eq=False)
class RaggedEvents(_Tensors):
    """The events of B stretches, one after another.

    t: float64 (N,) microseconds since the origin of the event's stretch. x, y: int32 (N,), float32 where
    sub-pixel. p: uint8 (N,), 1 ON, 0 OFF. offsets: int64 (B + 1,), stretch b holds the events offsets[b] ..
    offsets[b + 1] - 1. origin_us: int64 (B,), what was taken off the times: where the first window begins,
    rounded down. windows: int64 (B, K, 2), window k of stretch b holds the events windows[b, k, 0] ..
    windows[b, k, 1] - 1; a stretch of fewer windows ends with empty ones. edges_us: float64 (B, K, 2), begin
    and end of each window since the origin, of those empty ones the last end twice. counts: int64 (B,),
    windows of each stretch. width, height: of the sensor, which is one size for all.
    """

    t: Tensor
    x: Tensor
    y: Tensor
    p: Tensor
    offsets: Tensor
    origin_us: Tensor
    windows: Tensor
    edges_us: Tensor
    counts: Tensor
    width: int
    height: int

    def __len__(self) -> int:
        """How many stretches."""
        return len(self.counts)

    @property
    def device(self) -> torch.device:
        """Where the events are."""
        return self.t.device

    def batch_index(self) -> Tensor:
        """int64 (N,): the stretch of each event."""
        numbers = torch.arange(len(self), device=self.device)
        return torch.repeat_interleave(numbers, self.offsets.diff(), output_size=len(self.t))

    def window(self, number: int) -> RaggedEvents:
        """The events of window `number` of each stretch, as a batch of one window each."""
        ranges = self.windows[:, number]
        lengths = ranges[:, 1] - ranges[:, 0]
        ends = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        within = torch.arange(int(ends[-1]), device=self.device)
        of = torch.repeat_interleave(ranges[:, 0] - ends[:-1], lengths, output_size=len(within))
        chosen = within + of
        return replace(
            self,
            **{name: getattr(self, name)[chosen] for name in "txyp"},
            offsets=ends,
            windows=torch.stack([ends[:-1], ends[1:]], 1)[:, None],
            edges_us=self.edges_us[:, number, None],
            counts=(self.counts > number).long(),
        )


@dataclass(frozen=True, eq=False)
class PaddedImages(_Tensors):
    """Images of several sizes in one tensor.

    images: (B, ..., H, W), with zeros to the right of and below each. sizes: int64 (B, 2), height and width
    of each.
    """

    images: Tensor
    sizes: Tensor

    def __len__(self) -> int:
        return len(self.sizes)

    def mask(self) -> Tensor:
        """bool (B, H, W): which pixels are of an image."""
        height, width = self.images.shape[-2:]
        rows = torch.arange(height, device=self.sizes.device)[None, :, None] < self.sizes[:, 0, None, None]
        columns = torch.arange(width, device=self.sizes.device)[None, None, :] < self.sizes[:, 1, None, None]
        return rows & columns


@dataclass(frozen=True)
class EventSequences:
    """The transform to {"events": the stretch itself, "images": float32 (T, 1, H, W) grey in 0..1}.

    In a batch the events are `RaggedEvents`. "images" are at the ends of the windows, and left out where the
    windows have none. Raises InputError for a sequence of which only some windows have an image.
    """

    def __call__(self, stretch: Stretch, draws: RandomDraws) -> dict[str, Any]:
        """The sample of one sequence."""
        images = stacked_images(stretch)
        return {"events": stretch.without_images()} | ({} if images is None else {"images": images})

    @staticmethod
    def collate(samples: list[Any]) -> Any:
        """See `collate_ragged`."""
        return collate_ragged(samples)


def collate_ragged(samples: Sequence[Any]) -> Any:
    """The batch of samples: what stacks is stacked, stretches become `RaggedEvents`, images `PaddedImages`.

    Mappings are collated name by name; tensors (..., H, W) that differ in their last two sides are padded;
    everything else is left to torch. Raises InputError for samples that differ in any other way.
    """
    first = samples[0]
    if isinstance(first, Mapping):
        if any(sample.keys() != first.keys() for sample in samples):
            raise InputError(f"samples of a batch hold {sorted({*map(tuple, samples)})}, expected the same")
        return {name: collate_ragged([sample[name] for sample in samples]) for name in first}
    if isinstance(first, Stretch):
        return ragged_events(samples)
    if isinstance(first, Tensor) and any(sample.shape != first.shape for sample in samples):
        return pad_images(samples)
    return default_collate(list(samples))


def ragged_events(stretches: Sequence[Stretch]) -> RaggedEvents:
    """The events and windows of stretches as one batch. Raises InputError for sensors of several sizes."""
    sizes = {(stretch.events.width, stretch.events.height) for stretch in stretches}
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise InputError(f"events of {listed} pixels in one batch, expected one size: set a crop")
    ((width, height),) = sizes
    events = [stretch.events for stretch in stretches]
    offsets = np.cumsum([0, *map(len, events)])
    most = max(map(len, stretches))
    windows = np.empty((len(stretches), most, 2), np.int64)
    edges = np.empty((len(stretches), most, 2))
    origins = np.zeros(len(stretches), np.int64)
    for number, stretch in enumerate(stretches):
        count = len(stretch)
        origins[number] = np.floor(stretch.edges_us.min()) if count else 0
        windows[number, :count] = stretch.rows + offsets[number]
        windows[number, count:] = offsets[number + 1]
        edges[number, :count] = stretch.edges_us - origins[number]
        edges[number, count:] = edges[number, count - 1, 1] if count else 0
    times = [part.t - origin for part, origin in zip(events, origins)]
    pixel = np.float32 if any(part.x.dtype.kind == "f" for part in events) else np.int32
    return RaggedEvents(
        t=torch.from_numpy(np.concatenate(times).astype(np.float64)),
        x=torch.from_numpy(np.concatenate([part.x for part in events]).astype(pixel)),
        y=torch.from_numpy(np.concatenate([part.y for part in events]).astype(pixel)),
        p=torch.from_numpy(np.concatenate([part.p for part in events])),
        offsets=torch.from_numpy(offsets),
        origin_us=torch.from_numpy(origins),
        windows=torch.from_numpy(windows),
        edges_us=torch.from_numpy(edges),
        counts=torch.tensor([len(stretch) for stretch in stretches]),
        width=width,
        height=height,
    )


def pad_images(images: Sequence[Tensor]) -> PaddedImages:
    """Tensors (..., H, W) as one batch. Raises InputError unless they differ in their last two sides only."""
    if len({(image.shape[:-2], image.dtype) for image in images}) > 1 or images[0].ndim < 2:
        shapes = ", ".join(str(tuple(image.shape)) for image in images)
        raise InputError(
            f"samples of shape {shapes} in one batch, expected the same but for height and width"
        )
    sizes = torch.tensor([tuple(image.shape[-2:]) for image in images])
    padded = images[0].new_zeros((len(images), *images[0].shape[:-2], *sizes.amax(0).tolist()))
    for place, image in zip(padded, images):
        place[..., : image.shape[-2], : image.shape[-1]] = image
    return PaddedImages(padded, sizes)
