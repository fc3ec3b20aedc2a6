"""The contract of predictors: what a scene must have, which frames and events are handed on, and by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

from evsim import plugins
from evsim.errors import ConfigError, InputError
from evsim.events import Events
from evsim.formats import NativeWriter, Recording, open_events
from evsim.models import registry
from evsim.models.prediction.frames import ExposurePredictor, FramePredictor
from evsim.models.prediction.needs import Needs
from evsim.models.prediction.parts import make_flow_estimator, make_predictor
from evsim.models.prediction.predictor import predict
from evsim.models.prediction.scene import Scene
from evsim.models.prediction.windows import WindowPredictor
from evsim.models.registry import GROUP, NetworkEntry
from evsim.timed_image import TimedImage


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    """An event every 10 us from 0 to 990 us on a sensor of 4x2 pixels, without images."""
    k = np.arange(100)
    zero = np.zeros(100, np.uint16)
    with NativeWriter(tmp_path / "events.h5", 4, 2) as writer:
        writer.append(Events(10 * k, zero, zero, np.ones(100, np.uint8), 4, 2))
    with open_events(tmp_path / "events.h5") as opened:
        yield opened


def frame(value: int, t_us: float, **fields: Any) -> TimedImage:
    return TimedImage(np.full((4, 8), value, np.uint8), t_us, **fields)


class Blend:
    """The linear blend of two frames; what it was asked for is kept."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[float], int | None]] = []

    def between(self, frame0: Any, frame1: Any, fractions: Any, events: Events | None) -> Any:
        self.asked.append((list(fractions), None if events is None else len(events)))
        return np.stack([(1 - share) * frame0 + share * frame1 for share in fractions]).astype(np.float32)


def test_an_interpolator_is_asked_once_for_each_pair(recording: Recording) -> None:
    blend = Blend()
    scene = Scene(recording=recording, images=[frame(0, 100.0), frame(51, 200.0), frame(255, 500.0)])
    times = np.array([50.0, 100.0, 125.0, 175.0, 200.0, 350.0, 500.0, 600.0])
    images = list(FramePredictor(blend, events=True).images(scene, times))
    found = [float(image[0, 0]) for image in images]
    np.testing.assert_allclose(found, [0, 0, 0.05, 0.15, 0.2, 0.6, 1, 1], atol=1e-6)
    # Events after the first frame's time and up to the second's: 110..200 and 210..500 us.
    assert blend.asked == [([0.25, 0.75], 10), ([0.5], 30)]


def test_truth_behind_a_blurry_image_is_no_input() -> None:
    images = [frame(0, 0.0), frame(9, 50.0, kind="sharp"), frame(9, 60.0, kind="blurry"), frame(100, 100.0)]
    scene = Scene(images=images)
    assert [image.t_us for image in scene.frames()] == [0.0, 100.0]
    assert [image.t_us for image in scene.blurry_frames()] == [60.0]


class Exposed:
    """Says which events and times it was given."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, list[int], list[float]]] = []

    def sharp(self, blurry: TimedImage, events: Events | None, times_us: Any) -> Any:
        assert events is not None
        self.asked.append((blurry.t_us, [int(events.t[0]), int(events.t[-1])], list(times_us)))
        return np.zeros((len(times_us), 4, 8), np.float32)


def test_a_deblurrer_gets_the_events_of_the_exposure(recording: Recording) -> None:
    exposed = Exposed()
    blurry = [
        frame(1, 300.0, exposure_us=200.0, kind="blurry"),
        frame(2, 700.0, exposure_us=200.0, kind="blurry"),
    ]
    times = np.array([150.0, 390.0, 410.0, 600.0, 900.0])
    scene = Scene(recording=recording, images=blurry)
    assert len(list(ExposurePredictor(exposed).images(scene, times))) == 5
    assert exposed.asked == [
        (300.0, [110, 300], [150.0, 300.0]),
        (700.0, [510, 700], [500.0, 600.0, 700.0]),
    ]


def test_a_scene_without_what_is_needed_says_what_is_missing(recording: Recording) -> None:
    everything = Needs(events=True, frames=True, blurry_frames=True)
    with pytest.raises(InputError, match=r"a clip lacks what NET needs: events.*2 frames.*blurry frames"):
        Scene(name="a clip").require(everything, "NET")
    with pytest.raises(InputError, match=r"events.h5 lacks .* at least 2 frames: give images"):
        next(FramePredictor(Blend()).images(Scene(recording=recording), np.array([1.0])))
    with pytest.raises(InputError, match="holds images only, expected a recording"):
        next(WindowPredictor(Counter()).images(Scene(images=[frame(0, 0.0)]), np.array([1.0])))
    with pytest.raises(ConfigError, match="weights = 'maybe'"):
        Needs(weights="maybe")  # type: ignore[arg-type]


class Counter:
    """The number of events so far, in every pixel."""

    def __init__(self) -> None:
        self.count = 0

    def reset(self) -> None:
        self.count = 0

    def step(self, events: Events) -> Any:
        self.count += len(events)
        return np.full((events.height, events.width), self.count, np.float32)


def test_a_recurrent_network_gives_images_at_any_times_and_begins_anew(recording: Recording) -> None:
    predictor = WindowPredictor(Counter())
    for _ in range(2):
        found = list(predict(predictor, Scene(recording=recording), np.array([95.0, 95.0, 500.0])))
        assert [(one.t_us, float(one.image[0, 0])) for one in found] == [(95, 10), (95, 10), (500, 51)]


@dataclass(frozen=True, kw_only=True)
class BlendOptions:
    factor: float = 1.0


@pytest.fixture
def announce(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Announces an entry, as another package does by an entry point."""

    def add(name: str, held: Any) -> None:
        module = ModuleType(f"of_{name}")
        module.ENTRY = held  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        point = EntryPoint(name, module.__name__, GROUP)
        monkeypatch.setattr(plugins, "announced", lambda group: {name: point} if group == GROUP else {})

    return add


def described(name: str, **fields: Any) -> NetworkEntry:
    return NetworkEntry(name=name, summary="toy", paper="none", licence="none", **fields)


def test_a_network_of_another_package_is_one_of_all(announce: Any) -> None:
    made = []
    announce(
        "mixer",
        described(
            "mixer",
            roles=("interpolate",),
            needs=Needs(frames=True, weights="none"),
            options=BlendOptions,
            predictor=lambda parts: made.append(parts.options) or FramePredictor(Blend()),
        ),
    )
    assert "mixer" in registry.names()
    assert "mixer" in registry.names("interpolate")
    assert "mixer" not in registry.names("reconstruct")
    predictor = make_predictor("mixer", {"factor": 2.0})
    assert made == [BlendOptions(factor=2.0)]
    images = list(predictor.images(Scene(images=[frame(0, 0.0), frame(255, 1.0)]), np.array([0.5])))
    assert float(images[0][0, 0]) == 0.5
    with pytest.raises(ConfigError, match=r"unknown field 'options.facto'"):
        make_predictor("mixer", {"facto": 1.0})
    with pytest.raises(InputError, match="a method without a network"):
        registry.create("mixer")
    with pytest.raises(InputError, match="'mixer' estimates no flow; those that do: none"):
        make_flow_estimator("mixer")


def test_what_is_announced_wrongly_is_refused(announce: Any) -> None:
    announce("mixer", described("blender"))
    with pytest.raises(InputError, match="holds the network 'blender', expected 'mixer'"):
        registry.entry("mixer")
    announce("mixer", 7)
    with pytest.raises(InputError, match="holds a int, expected a NetworkEntry"):
        registry.entry("mixer")
    announce("firenet", described("firenet"))
    with pytest.raises(InputError, match="'firenet', which evsim has itself"):
        registry.names()


def test_folders_are_found_by_reading() -> None:
    # Every folder whose __init__ says ENTRY, and none of the shared rooms.
    found = registry.names()
    assert {"evinr", "firenet", "variational"} <= set(found)
    assert not {"data", "training", "weights", "prediction", "log_video"} & set(found)
    assert all(registry.entry(name).name == name for name in found)


@pytest.mark.parametrize(("given", "words"), [(1, "gave 1 images, expected 2"), (3, "gave more images")])
def test_a_predictor_that_gives_another_number_of_images_is_named(given: int, words: str) -> None:
    class Miscounting:
        needs = Needs()
        facts: ClassVar[dict[str, Any]] = {}

        def images(self, scene: Scene, times_us: Any, *, report: Any = None) -> Iterator[Any]:
            return iter(np.zeros((given, 2, 2), np.float32))

    with pytest.raises(InputError, match=f"the scene: Miscounting {words}"):
        list(predict(Miscounting(), Scene(), np.array([0.0, 1.0])))
