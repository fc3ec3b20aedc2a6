"""Networks that interpolate as methods of the upsample stage: what evsim announces in `evsim.interpolators`.

Importing this module loads no network. Only those that need no events are offered: there are none yet when
frames are put between the frames of a video.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import ConfigError
from evsim.models.registry import entry, names
from evsim.timed_image import TimedImage
from evsim.upsample import UpsampleConfig
from evsim.upsample.code_values import FULL_SCALE

if TYPE_CHECKING:
    from evsim.models.prediction.predictor import Predictor

INTERVAL_US = 1e6
"""The nominal time between the two frames of a pair."""
NETWORK = "network"
"""What the network's own weight file is called among the files."""


class NetworkInterpolators:
    """Makes an interpolator of any network with the role interpolate, as `evsim.upsample.methods` asks.

    Of the configuration, `options` are the network's own beside `device` (the CPU, unless it is given: there
    every process makes the same bytes); `part_weights` {"flow": FILE} is its option flow_weights.
    """

    def names(self) -> list[str]:
        """The networks that interpolate without events."""
        return [name for name in names("interpolate") if not entry(name).needs.events]

    def __call__(self, config: UpsampleConfig) -> NetworkInterpolator:
        """The interpolator, its weights loaded. Raises InputError, ConfigError, CheckpointError."""
        from evsim.models.device import choose_device
        from evsim.models.prediction.parts import WeightFiles, make_predictor

        options = dict(config.options)
        device = choose_device(str(options.pop("device", "cpu")))
        for part, weights in config.part_weights.items():
            if f"{part}_weights" in options:
                raise ConfigError(
                    f"options.{part}_weights and part_weights.{part} are both given; leave out one"
                )
            options[f"{part}_weights"] = weights
        used = WeightFiles(device)
        predictor = make_predictor(config.method, options, weights=config.weights, files=used)
        has_weights = entry(config.method).needs.weights == "required" or config.weights is not None
        return NetworkInterpolator(predictor, named_files(used.files, config.part_weights, has_weights))


NETWORKS = NetworkInterpolators()


def named_files(
    files: Mapping[str, str], part_weights: Mapping[str, str], has_network: bool
) -> dict[str, str]:
    """SHA-256 by what a file is: `NETWORK`, a part, or the name under which its publisher has it.

    files: path -> SHA-256 in the order of loading, the network's first if `has_network`.
    """
    parts = {str(Path(path)): part for part, path in part_weights.items()}
    named: dict[str, str] = {}
    for number, (path, checksum) in enumerate(files.items()):
        own = NETWORK if has_network and not number else parts.get(str(Path(path)), Path(path).name)
        named[own] = checksum
    return named


class NetworkInterpolator:
    """A predictor of frames as the upsample stage asks for it.

    files: SHA-256 of what was loaded, by name.
    """

    def __init__(self, predictor: Predictor, files: Mapping[str, str]) -> None:
        self.predictor, self.files = predictor, files

    def prepare(self, frame0: NDArray[Any], frame1: NDArray[Any]) -> NetworkPair:
        """The pair; nothing is computed yet."""
        return NetworkPair(self.predictor, frame0, frame1)


class NetworkPair:
    """Two frames, and what makes those between them."""

    def __init__(self, predictor: Predictor, frame0: NDArray[Any], frame1: NDArray[Any]) -> None:
        self._predictor, self._frames = predictor, (frame0, frame1)

    def pictures(self, fractions: Sequence[float]) -> Iterator[NDArray[np.float32]]:
        """The pictures at these fractions of the way, float32 in the frames' units."""
        from evsim.models.prediction.scene import Scene

        times = INTERVAL_US * np.asarray(fractions, np.float64)
        images = [TimedImage(frame, k * INTERVAL_US) for k, frame in enumerate(self._frames)]
        scale = np.float32(FULL_SCALE[self._frames[0].dtype])
        for image in self._predictor.images(Scene(images=images, name="two frames"), times):
            yield image * scale

    def displacement_px(self) -> float:
        """Robust largest motion in pixels, by the optical flow that has no weights."""
        from evsim.upsample.flow import FlowInterpolator

        pair: Any = FlowInterpolator().prepare(*self._frames)
        return float(pair.displacement_px())
