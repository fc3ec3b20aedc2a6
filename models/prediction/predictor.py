"""`Predictor`: the one contract by which every network and method gives images of a scene."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.formats.storage.windows import Window
from evsim.models.prediction.needs import Needs
from evsim.models.prediction.scene import Scene
from evsim.progress import Report

Image = NDArray[np.float32]
"""(H, W) grey or (H, W, 3) RGB float32, nominally in 0..1 and not clipped."""


class Predictor(Protocol):
    """Gives the images of a scene."""

    @property
    def needs(self) -> Needs:
        """What a scene must have."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What a user should know about how the images were made, to print: complete after the last one."""
        ...

    def images(
        self, scene: Scene, times_us: NDArray[np.float64], *, report: Report | None = None
    ) -> Iterator[Image]:
        """The image at each time, one by one, so that a long scene needs no more memory than a short one.

        times_us: increasing, on the clock of the scene's events; one before the first or after the last of
        what a predictor goes by gets the image there. With needs.windows and a scene that brings windows, an
        image for each window, whatever the times. report: called with (steps done, steps in all or None, a
        few words) where something takes long before the first image. Raises InputError for a scene without
        what is needed.
        """
        ...


class Predicted(NamedTuple):
    """One image, when it is, and how many events are new in it: None where no window belongs to it."""

    image: Image
    t_us: float
    events: int | None


def predict(
    predictor: Predictor,
    scene: Scene,
    times_us: NDArray[np.float64] | None = None,
    *,
    report: Report | None = None,
) -> Iterator[Predicted]:
    """Images one by one with their times: of each window of the scene where the predictor runs through them.

    times_us: for the others; not decreasing, and a repeated one is asked for once. Raises InputError for a
    scene without what is needed, and for a predictor that gives more or fewer images than times.
    """
    if predictor.needs.windows and scene.windows is not None:
        yield from _at_windows(predictor, scene, scene.windows(), report)
        return
    if times_us is None:
        raise InputError(f"{scene.title}: no times at which images are wanted; give times_us")
    distinct, positions = np.unique(np.asarray(times_us, np.float64), return_inverse=True)
    images = predictor.images(scene, distinct, report=report)
    position, image = -1, np.empty((0, 0), np.float32)
    for wanted in positions:
        while position < wanted:
            following = next(images, None)
            if following is None:
                raise _another_number(predictor, scene, str(position + 1), len(distinct))
            position, image = position + 1, following
        yield Predicted(image, float(distinct[wanted]), None)
    # To its end, where a predictor says what it found: its facts are complete only then.
    if next(images, None) is not None:
        raise _another_number(predictor, scene, "more", len(distinct))


def _another_number(predictor: Predictor, scene: Scene, given: str, wanted: int) -> InputError:
    return InputError(
        f"{scene.title}: {type(predictor).__name__} gave {given} images, expected {wanted}, one for each time"
    )


def _at_windows(
    predictor: Predictor, scene: Scene, windows: Iterator[Window], report: Report | None
) -> Iterator[Predicted]:
    taken: deque[tuple[float, int]] = deque()

    def noted() -> Iterator[Window]:
        for window in windows:
            taken.append((window.end_us, len(window.events)))
            yield window

    none = np.empty(0)
    for image in predictor.images(replace(scene, windows=noted), none, report=report):
        yield Predicted(image, *taken.popleft())
