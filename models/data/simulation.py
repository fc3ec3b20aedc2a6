"""Clips to train on whose events are simulated while they load, with a sensor drawn for each sample.

A sample is a part of a video, an image folder or a stack of frames, or a still picture under a drawn
camera motion. Crop and flips, camera motion, the parameters of the chain and every random bit of the sensor
come from (seed, epoch, index) alone: so the samples do not depend on the loader's processes, nor on what was
loaded before, and no epoch repeats the sensors of another. Nothing is written to a disk.
"""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from evsim import configuration
from evsim.chain import ClipSimulation, SimulationConfig, read_preset, resolve, voxel_target
from evsim.configuration import Tree, check_choices, later, require_range
from evsim.errors import ConfigError, InputError
from evsim.media import (
    ArraySource,
    CameraMotion,
    Frame,
    MediaWarning,
    Selection,
    Source,
    StillImageSource,
    Transfer,
    open_source,
)
from evsim.media.finding import clips_below, has_images
from evsim.media.image import image_kind
from evsim.models.data.augmentation import draw_placement
from evsim.models.data.dataset import SampleKey, sample_draws
from evsim.models.data.lists import require_distinct
from evsim.models.data.sequences import SequenceConfig, VoxelSequences, grey_light
from evsim.models.data.simulated_stretch import PlacedClip, simulated_stretch
from evsim.models.data.stretch import Stretch, Transform
from evsim.models.data.stretch_dataset import StretchDataset, naming
from evsim.randomness import RandomDraws
from evsim.upsample import KeptInterpolators

STACKS = (".npy", ".npz")
HELD_BYTES = 2**30
"""Decoded video that one process keeps, so that a part needs no decoding of all that lies before it."""
MOTION = {
    "path": "choice(pan, zigzag, circle, shake, zoom-rotate)",
    "amplitude_px": "uniform(5, 40)",
    "cycles": "uniform(0.5, 2)",
    "rotation_deg": "uniform(0, 10)",
    "zoom": "uniform(1, 1.3)",
}
"""How the camera moves over still pictures unless `StillData.motion` says otherwise."""


@dataclass(frozen=True, kw_only=True)
class StillData:
    """Still pictures as clips."""

    motion: dict[str, Any] = field(default_factory=dict)
    """Fields of the camera motion laid over the defaults; draws are made anew for every sample."""
    fps: float = 30.0
    """Images per second that are rendered and learned."""

    def __post_init__(self) -> None:
        require_range("fps", self.fps, 0.01, 1e6)


@dataclass(frozen=True, kw_only=True)
class SimulationData:
    """How the events of clips are simulated while they are loaded.

    In upsample, isp and sensor any value may be a draw, uniform(0.2, 0.3), made anew for every sample.
    """

    preset: str = "v2e-random"
    """A named configuration; those that end in -random draw their values."""
    upsample: dict[str, Any] = field(default_factory=dict)
    """Fields laid over those of the preset."""
    isp: dict[str, Any] = field(default_factory=dict)
    """Fields laid over those of the preset."""
    sensor: dict[str, Any] = field(default_factory=dict)
    """Fields laid over those of the preset."""
    selection: Selection = field(default_factory=Selection)
    """Which part of each clip, at which size, and how its times are read."""
    transfer: Transfer | None = None
    """What code values mean; as the files say where absent."""
    settle: int = 1
    """Source intervals before each sequence that are simulated and left out: pixels do not begin at rest."""
    direct: bool = False
    """Add events to the voxel grids without listing them; bins then span the whole window between two frames,
    not from its first to its last event."""
    stills: StillData = field(default_factory=StillData)
    """What single pictures become."""
    sensor_scale: int = later(default=1)
    """Pixels of the images per pixel of the sensor, in x and in y, which sees means of such blocks."""
    blur_frames: int = later(default=1)
    """From 2 on: so many frames, then sharp images, make a blurry one, whose exposure is a window."""

    def __post_init__(self) -> None:
        check_choices(self)
        require_range("settle", self.settle, 0)
        require_range("sensor_scale", self.sensor_scale, 1, 64)
        require_range("blur_frames", self.blur_frames, 1)

    def tree(self) -> Tree:
        """The chain's configuration, draws unresolved."""
        own = {"upsample": self.upsample, "isp": self.isp, "sensor": self.sensor}
        return configuration.merge(read_preset(self.preset), own)


class SampleDraws(NamedTuple):
    """What was drawn for one sample: its seed, the chain, and how the camera moves over a still picture."""

    seed: int
    chain: SimulationConfig
    motion: CameraMotion


class SimulatedDataset(StretchDataset):
    """Sequences of windows between the frames of clips, their events simulated when they are asked for.

    clips: as `training_clips` takes them. data: of the simulation. config: length and stride of sequences,
    crop, flips and the like (of the frames, before the simulation). transform: the `Stretch` of one sequence
    and draws -> the sample; None gives the stretch, whose images are the frames as they are, 8 bit or more.
    collate: see `StretchDataset`. seed: of the draws that `dataset[i]` makes; a training run passes its own.
    Raises InputError for clips that cannot be read and when none has a sequence of that length, ConfigError
    for a chain that cannot be.
    """

    def __init__(
        self,
        clips: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        data: SimulationData | None = None,
        config: SequenceConfig | None = None,
        *,
        transform: Transform | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.data, self.config = data or SimulationData(), config or SequenceConfig()
        super().__init__(self.config.augmentation, transform, collate=collate, seed=seed)
        if self.config.windows.kind != "between_frames":
            raise ConfigError(
                f"sequences.windows.kind = {self.config.windows.kind!r}, expected 'between_frames': windows "
                "that are simulated begin and end at frames"
            )
        if self.data.direct and not isinstance(transform, VoxelSequences):
            raise ConfigError("direct, expected off: only a transform to voxel grids needs no events")
        if self.data.direct and self.augmentation.events.augmentations():
            raise ConfigError("direct, expected off: augmentations of events need events")
        if self.data.direct and (self.data.sensor_scale, self.data.blur_frames) != (1, 1):
            raise ConfigError("direct, expected off: its images are the frames that the sensor sees")
        self.paths = training_clips(clips)
        self._tree = self.data.tree()
        self._held: OrderedDict[int, Source] = OrderedDict()
        self._interpolators = KeptInterpolators()
        self.draws_of(0)  # an impossible configuration is an error here, not in a loader's process
        self._counts = [self._sequences_in(path) for path in self.paths]
        self._ends = np.cumsum([0, *self._counts])
        if not self._ends[-1]:
            raise InputError(
                f"no sequence of {self.config.length} windows, after {self.data.settle} to settle, in "
                f"{len(self.paths)} clips such as {self.paths[0]}; choose a smaller length or longer clips"
            )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def describe(self, index: int) -> str:
        """The clip and the numbers of its frames, of those also that settle."""
        number, first = self._place_of(index)
        if _is_picture(self.paths[number]):
            return str(self.paths[number])
        return f"{self.paths[number]}, frames {first} to {first + self._frames_needed - 1}"

    def sample(self, index: int, draws: RandomDraws) -> Any:
        """The sample of sequence `index`; placement, sensor, noise and the transform draw from `draws`."""
        if not self.data.direct:
            return super().sample(index, draws)
        assert isinstance(self.transform, VoxelSequences)
        clip, drawn = self._clip(index, draws)
        return self._grids(self._simulation(clip, drawn), self.transform)

    def placed(self, index: int, draws: RandomDraws) -> Stretch:
        """Sequence `index` as its drawn sensor sees it."""
        clip, drawn = self._clip(index, draws)
        data = self.data
        return simulated_stretch(
            self._simulation(clip, drawn), clip, data.settle, data.blur_frames, self.describe(index)
        )

    def _clip(self, index: int, draws: RandomDraws) -> tuple[PlacedClip, SampleDraws]:
        """The frames of a sequence in their place, and what was drawn for it."""
        number, first = self._place_of(index)
        path, drawn = self.paths[number], self._draw(draws)
        if _is_picture(path):
            source: Any = self._moving_picture(path, drawn)
        else:
            source = self._frames(number, first, first + self._frames_needed)
        scale = self.data.sensor_scale
        with naming(self.describe(index)):
            if source.width % scale or source.height % scale:
                raise InputError(
                    f"frames of {source.width}x{source.height} pixels, expected multiples of {scale}; "
                    "set crop or size in data.simulation.selection, or another sensor_scale"
                )
            size = (source.width // scale, source.height // scale)
            placement = draw_placement(self.augmentation, size, draws)
        return PlacedClip(source, placement, scale), drawn

    def _simulation(self, clip: PlacedClip, drawn: SampleDraws) -> ClipSimulation:
        # One thread: a loader has as many processes as it wants, and a forked one may start no threads.
        interpolator = self._interpolators.get(drawn.chain.upsample)
        return ClipSimulation(clip, drawn.chain, seed=drawn.seed, threads=1, interpolator=interpolator)

    def _place_of(self, index: int) -> tuple[int, int]:
        """The clip of a sequence, and its first frame in it, of those that settle."""
        number = int(np.searchsorted(self._ends, index, "right")) - 1
        return number, (index - int(self._ends[number])) * self._stride * self.data.blur_frames

    @property
    def _frames_needed(self) -> int:
        """Frames of a sequence, with those that settle."""
        blur, length = self.data.blur_frames, self.config.length
        return self.data.settle + (length + 1 if blur == 1 else length * blur)

    def draws_of(self, index: int, *, seed: int | None = None, epoch: int = 0) -> SampleDraws:
        """The seed, chain and motion that sample `index` has in an epoch: what it takes to make it again."""
        return self._draw(sample_draws(self.seed if seed is None else seed, SampleKey(epoch, index)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": OrderedDict()}

    @property
    def _stride(self) -> int:
        return self.config.stride or self.config.length

    def _draw(self, draws: RandomDraws) -> SampleDraws:
        seed = draws.seed()
        motion = configuration.resolve_draws({**MOTION, **self.data.stills.motion}, seed, "", "motion")
        return SampleDraws(
            seed, resolve(self._tree, seed, ""), configuration.build(CameraMotion, motion, "motion")
        )

    def _grids(self, simulation: ClipSimulation, wanted: VoxelSequences) -> dict[str, torch.Tensor]:
        size = (simulation.source.width, simulation.source.height)
        make = voxel_target(size, wanted.bins, rule=wanted.rule)
        intervals = list(simulation.intervals(make))[self.data.settle :]
        images = [grey_light(interval.frame.image) for interval in intervals]
        return {
            "voxels": torch.from_numpy(np.stack([interval.target.out for interval in intervals])),
            "images": torch.from_numpy(np.stack(images)[:, None]),
        }

    def _sequences_in(self, path: Path) -> int:
        if _is_picture(path):
            if self._picture_size() is None:
                raise ConfigError(f"{path} is a still picture: set size in simulation.selection, or a crop")
            return 1
        source = self._open(path)
        if source.transfer == "log":
            raise InputError(f"{path} holds logarithms of light, expected images that can be learned")
        frames = source.frame_count if source.frame_count is not None else source.frames_expected
        if frames is None:
            raise InputError(f"{path} does not say how many frames it has; unpack it into a folder of images")
        spare = frames - self._frames_needed
        return 0 if spare < 0 else spare // (self._stride * self.data.blur_frames) + 1

    def _open(self, path: Path) -> Source:
        return open_source(path, selection=self.data.selection, transfer=self.data.transfer)

    def _picture_size(self) -> tuple[int, int] | None:
        """Pixels of the images that a still picture gives."""
        crop, scale = self.augmentation.crop, self.data.sensor_scale
        return self.data.selection.size or (None if crop is None else (crop[0] * scale, crop[1] * scale))

    def _moving_picture(self, path: Path, drawn: SampleDraws) -> StillImageSource:
        size = self._picture_size()
        assert size is not None
        with warnings.catch_warnings():
            # That a picture is enlarged would be said again for every sample of every epoch.
            warnings.simplefilter("ignore", MediaWarning)
            return StillImageSource(
                path,
                drawn.motion,
                duration_s=(self._frames_needed - 1) / self.data.stills.fps,
                fps=self.data.stills.fps,
                size=size,
                transfer=self.data.transfer,
            )

    def _frames(self, number: int, first: int, last: int) -> ArraySource:
        """Frames first..last - 1 of a clip."""
        source = self._held.pop(number, None) or self._hold(self._open(self.paths[number]))
        self._held[number] = source
        while sum(map(_held_bytes, self._held.values())) > HELD_BYTES and len(self._held) > 1:
            self._held.popitem(last=False)
        frames = list(source.stretch(first, last))
        if len(frames) != last - first:
            raise InputError(
                f"{self.paths[number]} gave {len(frames)} frames from frame {first} on, expected "
                f"{last - first}: it claims more frames than it has; unpack it into a folder of images"
            )
        return _in_memory(source, frames)

    def _hold(self, source: Source) -> Source:
        """A video decoded once, if it is small enough; what can be read from any frame stays as it is."""
        count = source.frame_count if source.frame_count is not None else source.frames_expected
        size = source.width * source.height * source.channels * source.dtype.itemsize
        if source.kind != "video" or count is None or count * size > HELD_BYTES // 2:
            return source
        return _in_memory(source, list(source))


def training_clips(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The clips to simulate while training that the paths stand for, in order.

    A path is a video, an NPY or NPZ stack, a still picture, a folder of images, which is one clip, or a
    folder in which every folder of images and every video at any depth counts. Raises InputError for a path
    that is not there or holds none, and for a clip that is named twice.
    """
    listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    found = [clip for given in listed for clip in _clips_at(Path(given))]
    require_distinct(found, "clip")
    return found


def _clips_at(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_file() or has_images(path) or has_images(path / "imgs"):
        return [path]
    found = list(clips_below(path))
    if not found:
        raise InputError(f"{path} holds no clip, expected folders of images or videos at any depth")
    return found


def _is_picture(path: Path) -> bool:
    return path.is_file() and image_kind(path) is not None and path.suffix.lower() not in STACKS


def _in_memory(source: Source, frames: list[Frame]) -> ArraySource:
    """Frames of a source as a source of their own."""
    times = np.array([frame.t_ns for frame in frames], np.int64)
    return ArraySource([frame.image for frame in frames], times, source.transfer, source.name)


def _held_bytes(source: Source) -> int:
    return sum(frame.nbytes for frame in source.frames) if isinstance(source, ArraySource) else 0
