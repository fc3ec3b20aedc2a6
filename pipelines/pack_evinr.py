"""Event files to what EvINR's published code reads, and the options that its data sets are fitted with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from evsim.events import Events
from evsim.files import atomic_output, require_absent
from evsim.formats import Recording, create_events
from evsim.media import open_writer
from evsim.registry import Registry


@dataclass(frozen=True)
class FitRecipe:
    """How recordings of a data set are fitted. summary: for people. size: (width, height) of the sensor."""

    summary: str
    size: tuple[int, int]
    fit: dict[str, Any]


FIT_RECIPES: Registry[FitRecipe] = Registry("data set")
for _names, _recipe in (
    (("ecd", "ijrr"), FitRecipe("Event Camera Dataset, text files", (240, 180), {})),
    (("hqf",), FitRecipe("High Quality Frames, ROS bags", (240, 180), {})),
    (("ced",), FitRecipe("Color Event Camera Dataset, ROS bags", (346, 260), {"color": True})),
    (("aed",), FitRecipe("ALPIX-Eiger, upright", (306, 408), {"event_threshold": 0.25})),
):
    for _name in _names:
        FIT_RECIPES.register(_name)(_recipe)


def pack_evinr(
    recording: Recording, output: Path, dataset: str | None = None, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write events.npy (seconds, x, y, -1/1: all events), images/ with images.txt, and fit.yaml to a folder.

    dataset: name of a `FIT_RECIPES` entry, whose options fit.yaml gets. Returns what to print. Raises
    InputError for an unknown name or a file that exists.
    """
    fit = {} if dataset is None else FIT_RECIPES[dataset].fit
    paths = [output / name for name in ("events.npy", "images.txt", "fit.yaml", "images")]
    for path in paths:
        require_absent(path, overwrite=overwrite)
    output.mkdir(parents=True, exist_ok=True)
    size = (recording.width, recording.height)
    with create_events(paths[0], *size, format="npy", unit="s", overwrite=overwrite) as writer:
        for block in recording.chunks():
            writer.append(Events(block.t, block.x, block.y, block.p, *size))
    times = []
    if recording.image_count:
        with open_writer(paths[3], size=size, overwrite=overwrite) as frames:
            for image in recording.images():
                frames.write(image.image, round(image.t_us * 1000))
                times.append(image.t_us / 1e6)
        names = sorted(path.name for path in paths[3].glob("*.png"))
        with atomic_output(paths[1], overwrite=overwrite) as temporary:
            lines = (f"{np.float64(t):.9f} images/{name}\n" for t, name in zip(times, names, strict=True))
            temporary.write_text("".join(lines), encoding="utf-8")
    with atomic_output(paths[2], overwrite=overwrite) as temporary:
        temporary.write_text(yaml.safe_dump({"network": "evinr", "fit": fit}), encoding="utf-8")
    return {
        "output": str(output),
        "events": len(recording),
        "images": len(times),
        "next": f"evsim reconstruct {paths[0]} -o video.mp4 --config {paths[2]} --unit s "
        f"--size {size[0]}x{size[1]}",
    }
