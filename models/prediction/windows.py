"""Networks that run through windows of events with a state, behind the contract of all predictors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evsim.errors import InputError
from evsim.events import Events
from evsim.formats.storage.windows import windows_at
from evsim.models.prediction.needs import Needs
from evsim.models.prediction.scene import Scene
from evsim.progress import Report
from evsim.represent import voxel_grid


class Recurrent(Protocol):
    """Turns the windows of one sequence into images, in order."""

    def step(self, events: Events) -> NDArray[np.float32]:
        """The image (H, W) or (H, W, 3) at the end of a window, nominally in 0..1 and not clipped."""
        ...

    def reset(self) -> None:
        """Forget the sequence so far."""
        ...


class WindowPredictor:
    """A recurrent network run through a scene; the state is forgotten where a scene begins, and only there.

    recurrent: what the windows are given to.
    """

    needs: ClassVar[Needs] = Needs(events=True, windows=True)

    def __init__(self, recurrent: Recurrent) -> None:
        self.recurrent = recurrent

    @property
    def facts(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def images(
        self, scene: Scene, times_us: NDArray[np.float64], *, report: Report | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """The image at the end of each window; see `Predictor`."""
        windows = windows_at(scene.event_recording, times_us) if scene.windows is None else scene.windows()
        self.recurrent.reset()
        for window in windows:
            yield self.recurrent.step(window.events)


class VoxelRecurrent:
    """Feeds a network of the form (voxel (1, bins, H, W), state) -> (image (1, 1, H, W), state).

    bins: of the voxel grid, signed, E2VID rule. pad_multiple: heights and widths that the network accepts
    are its multiples; the voxel grid is padded with zeros to them and the image cropped back.
    """

    def __init__(self, network: nn.Module, *, bins: int, pad_multiple: int = 1) -> None:
        self.network, self.bins, self.pad_multiple = network, bins, pad_multiple
        self._state: Any = None
        self._size: tuple[int, int] | None = None

    def reset(self) -> None:
        """Forget the sequence so far."""
        self._state = self._size = None

    def step(self, events: Events) -> NDArray[np.float32]:
        """The image (H, W) float32 at the end of the window whose events these are, also when it is empty.

        Raises InputError when the sensor's size differs from that of the windows before.
        """
        size = (events.width, events.height)
        if self._size not in (None, size):
            raise InputError(
                f"events of a {size} sensor after those of a {self._size} one; call reset() between"
            )
        self._size = size
        device = next(self.network.parameters()).device
        voxel = torch.from_numpy(voxel_grid(events, self.bins)).to(device)[None]
        with torch.inference_mode():
            image, self._state = self.network(pad_to_multiple(voxel, self.pad_multiple), self._state)
        cropped = crop_padding(image, size, self.pad_multiple)
        return cropped[0, 0].float().cpu().numpy()


def padding(length: int, multiple: int) -> tuple[int, int]:
    """Pixels to add before and after `length` for the next multiple; the larger half stands before."""
    missing = -length % multiple
    return math.ceil(missing / 2), missing // 2


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """`image` (..., H, W) with zeros around it, its sides multiples of `multiple`."""
    top, bottom = padding(image.shape[-2], multiple)
    left, right = padding(image.shape[-1], multiple)
    return torch.nn.functional.pad(image, (left, right, top, bottom))


def crop_padding(image: Tensor, size: tuple[int, int], multiple: int) -> Tensor:
    """The part of a padded `image` (..., H, W) that `pad_to_multiple` was given; size is (width, height)."""
    width, height = size
    left, top = padding(width, multiple)[0], padding(height, multiple)[0]
    return image[..., top : top + height, left : left + width]
