"""Event files to what EvINR's published code reads, and the options that its data sets are fitted with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from evsim.errors import InputError
from evsim.events import Events
from evsim.files import atomic_output, require_absent
from evsim.formats import Recording, create_events
from evsim.formats.conversion import require_sensor_sized_images
from evsim.media import open_writer
from evsim.pipelines.fit_recipes import FIT_RECIPES

EVENTS, IMAGES, OPTIONS = "events.npy", "images.txt", "fit.yaml"


def pack_evinr(
    recording: Recording, output: Path, dataset: str | None = None, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write a folder of events.npy (seconds, x, y, -1/1: all events), images/ with images.txt, and fit.yaml.

    dataset: name of a `FIT_RECIPES` entry, whose options fit.yaml gets. overwrite: replace a folder that was
    packed before. Returns what to print. Raises InputError for an unknown name, an output that is there, or
    images of another size than the sensor.
    """
    fit = {} if dataset is None else FIT_RECIPES[dataset].fit
    _require_replaceable(output, overwrite)
    require_sensor_sized_images(recording, "EvINR")
    size = (recording.width, recording.height)
    times = []
    with atomic_output(output, overwrite=overwrite) as folder:
        folder.mkdir()
        with create_events(folder / EVENTS, *size, format="npy", unit="s") as writer:
            for block in recording.chunks():
                writer.append(Events(block.t, block.x, block.y, block.p, *size))
        if recording.image_count:
            with open_writer(folder / "images", size=size) as frames:
                for image in recording.images():
                    frames.write(image.image, round(image.t_us * 1000))
                    times.append(image.t_us / 1e6)
            names = sorted(path.name for path in (folder / "images").glob("*.png"))
            lines = (f"{np.float64(t):.9f} images/{name}\n" for t, name in zip(times, names, strict=True))
            (folder / IMAGES).write_text("".join(lines), encoding="utf-8")
        (folder / OPTIONS).write_text(yaml.safe_dump({"network": "evinr", "fit": fit}), encoding="utf-8")
    return {
        "output": str(output),
        "events": len(recording),
        "images": len(times),
        "next": shlex.join(_next_command(output, size, images=bool(times))),
    }


def _next_command(output: Path, size: tuple[int, int], *, images: bool) -> list[str]:
    """The command that fits what was packed, with images where the recording has some."""
    words = ["evsim", "reconstruct", str(output / EVENTS), "-o", "video.mp4"]
    words += ["--config", str(output / OPTIONS), "--unit", "s", "--size", f"{size[0]}x{size[1]}"]
    return [*words, "--times", str(output / IMAGES)] if images else words


def _require_replaceable(output: Path, overwrite: bool) -> None:
    require_absent(output, overwrite=overwrite)
    if output.exists() and not (output / OPTIONS).is_file():
        raise InputError(f"{output} holds no {OPTIONS}: it was not packed by evsim; choose another output")
