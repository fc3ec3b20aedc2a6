"""Data sets of recordings: what their files leave unsaid, and the options with which they are fitted.

Importing this module opens nothing and loads no format: the command lists the names.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evsim.errors import InputError
from evsim.registry import Registry

if TYPE_CHECKING:
    from evsim.formats import Recording


@dataclass(frozen=True)
class FitRecipe:
    """How recordings of a data set are read and fitted.

    summary: for people. size: (width, height) of the sensor. fit: fields of the fit's configuration.
    """

    summary: str
    size: tuple[int, int]
    fit: dict[str, Any]


FIT_RECIPES: Registry[FitRecipe] = Registry("data set")
for _names, _recipe in (
    (("ecd", "ijrr"), FitRecipe("Event Camera Dataset, folders or text files", (240, 180), {})),
    (("hqf",), FitRecipe("High Quality Frames, ROS bags", (240, 180), {})),
    (("ced",), FitRecipe("Color Event Camera Dataset, ROS bags", (346, 260), {"color": True})),
    (("aed",), FitRecipe("ALPIX-Eiger, events.npy, upright", (306, 408), {"event_threshold": 0.25})),
):
    for _name in _names:
        FIT_RECIPES.register(_name)(_recipe)


def open_recording(
    path: Path,
    dataset: str | None = None,
    *,
    size: tuple[int, int] | None = None,
    unit: str | None = None,
    format: str | None = None,
) -> Recording:
    """The recording at `path`; what its file leaves unsaid is taken from the data set.

    That is the sensor's size, and of a NumPy array that times are seconds. size, unit, format: as for
    `open_events`; where given they decide. Raises InputError for a recording that says another size than the
    data set has.
    """
    from evsim.formats import open_events

    if dataset is None:
        return open_events(path, size=size, unit=unit, format=format)
    recipe = FIT_RECIPES[dataset]
    sides = size or recipe.size
    attempts = [(size, unit), (sides, unit)]
    if path.suffix.lower() == ".npy":
        attempts.append((sides, unit or "s"))
    for told in attempts[:-1]:
        with contextlib.suppress(InputError):
            recording = open_events(path, size=told[0], unit=told[1], format=format)
            break
    else:
        recording = open_events(path, size=attempts[-1][0], unit=attempts[-1][1], format=format)
    if (recording.width, recording.height) != sides:
        recording.close()
        raise InputError(
            f"{path} is of a sensor of {recording.width}x{recording.height} pixels, recordings of {dataset} "
            f"have {sides[0]}x{sides[1]}; leave out --dataset {dataset}, or pass --size"
        )
    return recording
