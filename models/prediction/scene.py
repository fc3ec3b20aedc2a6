"""`Scene`: what images are predicted from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from evsim.errors import InputError
from evsim.formats import Recording
from evsim.formats.storage.windows import Window
from evsim.models.prediction.needs import Needs
from evsim.timed_image import TimedImage


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A recording, timed images, or both.

    recording: its events, and its images where no others are given. images: in order of time, on the clock of
    the events; read as often as a predictor needs. windows: for predictors that run through windows of
    events, gives these each time it is called; else they are cut at the times that images are wanted at.
    name: what messages call the scene, by default the recording's path.
    """

    recording: Recording | None = None
    images: Iterable[TimedImage] | None = None
    windows: Callable[[], Iterator[Window]] | None = None
    name: str = ""

    @property
    def title(self) -> str:
        """What messages call the scene."""
        return self.name or (str(self.recording.path) if self.recording is not None else "the scene")

    @property
    def event_recording(self) -> Recording:
        """The recording. Raises InputError for a scene without."""
        if self.recording is None:
            raise InputError(f"{self.title} holds images only, expected a recording of events beside them")
        return self.recording

    def frames(self) -> Iterator[TimedImage]:
        """The images of kind frame in order of time, one after another; a sharp one is a truth, no input."""
        return (image for image in self._all_images() if image.kind == "frame")

    def blurry_frames(self) -> Iterator[TimedImage]:
        """The blurry images in order of time, one after another."""
        return (image for image in self._all_images() if image.kind == "blurry")

    def require(self, needs: Needs, who: str) -> None:
        """Raises InputError where something is missing that `who` needs."""
        missing = []
        if needs.events and self.recording is None:
            missing.append("events: open a recording")
        if needs.frames and sum(1 for _ in itertools.islice(self.frames(), 2)) < 2:
            missing.append("at least 2 frames: give images, or a recording that holds some")
        if needs.blurry_frames and next(self.blurry_frames(), None) is None:
            missing.append("blurry frames with their exposures: give images of kind blurry")
        if missing:
            raise InputError(f"{self.title} lacks what {who} needs: {'; '.join(missing)}")

    def _all_images(self) -> Iterator[TimedImage]:
        if self.images is not None:
            return iter(self.images)
        if self.recording is None:
            return iter(())
        return (
            TimedImage(image.image, image.t_us, image.exposure_us, image.kind)
            for image in self.recording.images()
        )
