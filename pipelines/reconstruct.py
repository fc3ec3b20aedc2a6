"""An event file to images, by a network or method: the work behind `evsim reconstruct`.

Images are made and written one by one: memory does not grow with the recording, unless a method that is
fitted to it needs all of it at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from evsim import configuration
from evsim.errors import ConfigError, InputError
from evsim.files import atomic_output, require_absent
from evsim.formats import Recording
from evsim.formats.storage.excerpt import cut_excerpt
from evsim.media import open_writer
from evsim.metrics import normalise_image
from evsim.metrics.preparation import Normalisation
from evsim.models.prediction.predictor import Predictor, predict
from evsim.models.prediction.scene import Scene
from evsim.models.registry import DEFAULT_NETWORKS, entry, names
from evsim.pipelines.reconstruction_times import (
    ImageTimes,
    WindowKind,
    chosen_windows,
    cut_windows,
    expected_windows,
    frame_rate,
    image_times,
)
from evsim.progress import Report


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig(ImageTimes):
    """Which network, when images are wanted, and how they are brought to 0..1."""

    network: str = DEFAULT_NETWORKS["reconstruct"]
    """Name of a network or method that turns events into images."""
    weights: str | None = None
    """Weight file, or name of a published one; the first published file that is there where absent."""
    normalize: Normalisation = "none"
    """Stretch each image: none, standard (extremes), robust (percentiles 1 to 99), exprobust (of the
    exponential)."""
    fps: float | None = None
    """Frame rate of a video; by the windows' length where absent."""


class ResolvedReconstruction(NamedTuple):
    """A configuration, and the options of the network where it is fitted to the recording."""

    config: ReconstructionConfig
    fit: Any = None

    def tree(self) -> dict[str, Any]:
        """As a configuration file has them."""
        tree = configuration.to_tree(self.config)
        return tree if self.fit is None else {**tree, "fit": configuration.to_tree(self.fit)}


def resolve(tree: Mapping[str, Any]) -> ResolvedReconstruction:
    """From fields; options of a network that is fitted are in the section "fit".

    Raises ConfigError for unknown fields, InputError for a network that does not turn events into images.
    """
    fields = {name: value for name, value in tree.items() if name != "fit"}
    config = configuration.build(ReconstructionConfig, fields)
    found = entry(config.network)
    if "reconstruct" not in found.roles:
        raise InputError(
            f"the network {config.network!r} does not turn events into images; those that do: "
            f"{', '.join(names('reconstruct'))}"
        )
    if found.options is not None and found.is_fitted:
        return ResolvedReconstruction(config, configuration.build(found.options, _fit(tree), "fit"))
    if _fit(tree):
        fitted = [name for name in names("reconstruct") if entry(name).is_fitted]
        raise ConfigError(
            f"fit.{next(iter(_fit(tree)))} is set, but {config.network} is not fitted to the recording; "
            f"methods that are: {', '.join(fitted) or 'none'}"
        )
    return ResolvedReconstruction(config)


def _fit(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    found = tree.get("fit", {})
    if not isinstance(found, Mapping):
        raise ConfigError(f"fit = {found!r}, expected the fields of the method")
    return found


@dataclass(frozen=True)
class ReconstructionResult:
    """What was written.

    events_outside: in no window; clipped_share: of pixels outside 0..1 in 8 bit; facts: what the predictor
    says, such as about its fit.
    """

    output: Path
    configuration: Path
    windows: str
    images: int
    empty_windows: int
    events: int
    events_outside: int
    clipped_share: float | None
    seconds: float
    facts: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Names and values to print."""
        rate = self.images / self.seconds if self.seconds else 0.0
        paths = {"output": str(self.output), "configuration": str(self.configuration)}
        own = {name: value for name, value in vars(self).items() if name != "facts"}
        return {**own, **paths, "images_per_second": rate, **self.facts}


def reconstruct_to_file(
    recording: Recording,
    predictor: Predictor,
    output: Path,
    config: ReconstructionConfig | None = None,
    *,
    fit: Any = None,
    overwrite: bool = False,
    report: Report | None = None,
    fit_report: Report | None = None,
) -> ReconstructionResult:
    """Write an image for each window or time: 8-bit PNG or video, or float32 .npy that is not clipped.

    A recurrent network's state is kept from window to window. fit: options of a network that is fitted to the
    recording, to write down. report: called with (images done, images expected or None, a few words);
    fit_report: likewise with the steps of a fit. Raises InputError for a recording, window or output that
    cannot be used.
    """
    config = config or ReconstructionConfig()
    require_absent(output, overwrite=overwrite)
    started = time.perf_counter()
    excerpt = cut_excerpt(recording, config.t_start, config.t_end)
    kind = chosen_windows(excerpt, config)
    by_window = predictor.needs.windows
    floats = output.suffix.lower() == ".npy"
    images = empty = events = clipped = pixels = 0
    fps = config.fps or _image_rate(excerpt, kind, config, by_window=by_window)
    scene = Scene(recording=excerpt, windows=lambda: cut_windows(excerpt, kind, config))
    times = None if by_window else image_times(excerpt, kind, config)
    if times is not None and not len(times):
        raise InputError(f"{recording.path} holds no images in this stretch; choose --frames or --window-ms")
    expected = expected_windows(excerpt, kind, config) if times is None else len(times)
    with open_writer(
        output, fps=fps, size=(recording.width, recording.height), overwrite=overwrite
    ) as writer:
        for one in predict(predictor, scene, times, report=fit_report):
            image: NDArray[Any] = normalise_image(one.image, config.normalize)
            codes, outside = (image, 0) if floats else codes_and_outside(image)
            clipped, pixels = clipped + outside, pixels + image.size
            writer.write(codes, round(one.t_us * 1000))
            images, events = images + 1, events + (one.events or 0)
            empty += one.events == 0
            if report:
                report(images, expected, "")
        if not images:
            raise InputError(f"{recording.path} holds no events, so there is nothing to reconstruct")
    used = events if by_window else len(excerpt)
    return ReconstructionResult(
        output=output,
        configuration=write_configuration(ResolvedReconstruction(config, fit), output),
        windows=kind,
        images=images,
        empty_windows=empty,
        events=used,
        events_outside=len(recording) - used,
        clipped_share=None if floats else clipped / pixels,
        seconds=time.perf_counter() - started,
        facts=dict(predictor.facts),
    )


def _image_rate(
    recording: Recording, kind: WindowKind, config: ReconstructionConfig, *, by_window: bool
) -> float | None:
    """Images per second; None where they have no rate."""
    if kind == "number" and not by_window:
        # The first of them is at the first event, where a recurrent network has seen none yet.
        times = image_times(recording, kind, config)
        return float(1e6 / (times[1] - times[0])) if len(times) > 1 and times[1] > times[0] else None
    return frame_rate(recording, kind, config)


def write_configuration(resolved: ResolvedReconstruction, output: Path) -> Path:
    """Write the resolved configuration beside `output` as ``<stem>.config.yaml``, which can be fed back."""
    path = output.with_name(f"{output.stem}.config.yaml")
    with atomic_output(path, overwrite=True) as temporary:
        temporary.write_text(yaml.safe_dump(resolved.tree(), sort_keys=False), encoding="utf-8")
    return path


def plan(
    recording: Recording, output: Path, config: ReconstructionConfig, *, overwrite: bool = False
) -> dict[str, Any]:
    """What a reconstruction would write, as names and values to print; nothing is written."""
    require_absent(output, overwrite=overwrite)
    excerpt = cut_excerpt(recording, config.t_start, config.t_end)
    kind = chosen_windows(excerpt, config)
    by_window = entry(config.network).needs.windows
    if by_window:
        expected = expected_windows(excerpt, kind, config)
    else:
        expected = len(image_times(excerpt, kind, config))
    return {
        "output": str(output),
        "size": f"{recording.width}x{recording.height}",
        "events": len(excerpt),
        "windows": kind,
        "images": expected,
        "fps": config.fps or _image_rate(excerpt, kind, config, by_window=by_window),
        "written": "nothing",
    }


def codes_and_outside(image: NDArray[np.float32]) -> tuple[NDArray[np.uint8], int]:
    """Rounded codes of an image whose full scale is 1, and how many pixels lay outside 0..1."""
    outside = int(np.count_nonzero((image < 0) | (image > 1)))
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8), outside
