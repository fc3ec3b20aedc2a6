"""Methods that are fitted to a whole recording: stretches, times, options, outputs and scores."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from evsim import plugins
from evsim.cli.conventions import Settings
from evsim.cli.evaluate import evaluate
from evsim.cli.reconstruct import reconstruct
from evsim.errors import ConfigError, FormatError, InputError
from evsim.events import Events
from evsim.formats import NativeWriter, open_events, save_events
from evsim.formats.storage.excerpt import Excerpt, cut_excerpt, time_span
from evsim.models.prediction.needs import Needs
from evsim.models.prediction.parts import make_predictor
from evsim.models.prediction.scene import Scene
from evsim.models.registry import GROUP, NetworkEntry

WIDTH, HEIGHT = 8, 6


@dataclass(frozen=True, kw_only=True)
class StaircaseConfig:
    event_threshold: float = 0.25
    color: bool = False


class Staircase:
    """Grey 0.5 plus the threshold for each event so far: what any fit is to find of such a recording."""

    needs = Needs(events=True, weights="none")

    def __init__(self, config: StaircaseConfig) -> None:
        self.config = config
        self.facts: Mapping[str, Any] = {}

    def images(self, scene: Scene, times_us: np.ndarray, *, report: Any = None) -> Iterator[np.ndarray]:
        recording = scene.event_recording
        events = recording.events()
        for number, t in enumerate(times_us, 1):
            image = np.full((recording.height, recording.width), 0.5, np.float32)
            before = events.between(-(2**62), int(t) + 1)
            np.add.at(
                image, (before.y, before.x), self.config.event_threshold * (2.0 * before.p - 1).astype("f4")
            )
            if report:
                report(number, len(times_us), "")
            yield np.stack([image] * 3, -1) if self.config.color else image
        self.facts = {"loss": 0.125}


@pytest.fixture(autouse=True)
def staircase(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("staircase_method")
    module.ENTRY = NetworkEntry(  # type: ignore[attr-defined]
        name="staircase",
        summary="sums events",
        paper="none",
        licence="none",
        roles=("reconstruct",),
        needs=Staircase.needs,
        options=StaircaseConfig,
        is_fitted=True,
        predictor=lambda parts: Staircase(parts.options),
    )
    monkeypatch.setitem(sys.modules, "staircase_method", module)
    point = EntryPoint("staircase", "staircase_method", GROUP)
    monkeypatch.setattr(plugins, "announced", lambda group: {"staircase": point} if group == GROUP else {})


@pytest.fixture
def events() -> Events:
    """An event every millisecond from 1 s on, on pixels that follow each other."""
    k = np.arange(100)
    x, y = (k % WIDTH).astype(np.uint16), (k // 20).astype(np.uint16)
    return Events(1_000_000 + 1000 * k, x, y, (k % 3 > 0).astype(np.uint8), WIDTH, HEIGHT)


@pytest.fixture
def path(events: Events, tmp_path: Path) -> Path:
    """The events, and an image after every 20 of them that shows what they have summed up to."""
    file = tmp_path / "events.h5"
    image = np.full((HEIGHT, WIDTH), 0.5)
    with NativeWriter(file, WIDTH, HEIGHT) as writer:
        writer.append(events)
        for stop in range(20, 101, 20):
            part = events[stop - 20 : stop]
            np.add.at(image, (part.y, part.x), 0.1 * (2.0 * part.p - 1))
            writer.append_image(np.round(255 * image).astype(np.uint8), float(part.t[-1]))
    return file


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(*arguments: object) -> dict[str, Any]:
        line = [*map(str, arguments), "--json"]
        done = CliRunner().invoke(reconstruct, line, obj=Settings(), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return dict(json.loads(done.stdout))

    return run


@pytest.mark.parametrize("suffix", [".h5", ".txt"])
def test_an_excerpt_is_the_stretch_of_the_whole(suffix: str, events: Events, tmp_path: Path) -> None:
    file = tmp_path / f"events{suffix}"
    save_events(events, file)
    with open_events(file, size=(WIDTH, HEIGHT)) as recording:
        excerpt = cut_excerpt(recording, 0.010, 0.020)
        np.testing.assert_array_equal(excerpt.events().t, events.t[10:20])
        assert len(excerpt) == 10
        assert [len(chunk) for chunk in excerpt.chunks(count=4)] == [4, 4, 2]
        assert time_span(excerpt) == (1_010_000, 1_019_000)
        assert time_span(recording) == (1_000_000, 1_099_000)
        assert len(cut_excerpt(recording, 0.010, None)) == 90
        assert cut_excerpt(recording, None, None) is recording
        with pytest.raises(InputError, match=r"no event from 0.5 s .*its last is 0.099 s"):
            cut_excerpt(recording, 0.5, None)


def test_an_excerpt_keeps_the_images_of_its_stretch(path: Path) -> None:
    with open_events(path) as recording:
        excerpt = Excerpt(recording, 1_030_000, 1_079_000)
        assert excerpt.image_count == 3
        np.testing.assert_array_equal(excerpt.image_times(), [1_039_000, 1_059_000, 1_079_000])
        assert [image.t_us for image in excerpt.images()] == [1_039_000, 1_059_000, 1_079_000]


def test_the_fit_gives_images_at_the_stored_frames(call: Any, path: Path, tmp_path: Path) -> None:
    said = call(path, "-o", tmp_path / "out.npy", "--network", "staircase", "--event-threshold", 0.1)
    assert (said["images"], said["windows"], said["loss"]) == (5, "frames", 0.125)
    assert (said["events"], said["events_outside"], said["empty_windows"]) == (100, 0, 0)
    assert "weights" not in said
    with open_events(path) as recording:
        for image, stored in zip(np.load(tmp_path / "out.npy"), recording.images()):
            np.testing.assert_allclose(255 * image, stored.image, atol=0.6)
    written = Path(said["configuration"]).read_text()
    assert "event_threshold: 0.1" in written
    again = call(path, "-o", tmp_path / "again.npy", "--config", said["configuration"])
    assert again["network"] == "staircase"
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "out.npy").read_bytes()


@pytest.mark.parametrize(
    ("options", "wanted_ms"),
    [
        (["--frames", 4], [1000, 1033, 1066, 1099]),
        (["--window-ms", 40], [1000, 1040, 1080]),
        (["--events-per-window", 40], [1039, 1079, 1099]),
        (["--t-start", 0.02, "--t-end", 0.06, "--window-ms", 20], [1020, 1040]),
        (["--t-start", 0.02, "--t-end", 0.0791], [1039, 1059, 1079]),
    ],
)
def test_times_follow_the_options(
    call: Any, path: Path, tmp_path: Path, options: list[Any], wanted_ms: list[int]
) -> None:
    call(path, "-o", tmp_path / "out.npy", "--network", "staircase", *options)
    times = [float(line) for line in (tmp_path / "out.timestamps.txt").read_text().split()]
    np.testing.assert_allclose(times, np.array(wanted_ms) / 1e3, atol=1e-9)
    planned = call(path, "-o", tmp_path / "dry", "--network", "staircase", *options, "--dry-run")
    assert planned["images"] == len(wanted_ms)


def test_the_rate_of_a_video_is_that_of_its_images(call: Any, path: Path, tmp_path: Path) -> None:
    planned = call(path, "-o", tmp_path / "v.mp4", "--network", "staircase", "--frames", 4, "--dry-run")
    assert planned["fps"] == pytest.approx(1 / 0.033)
    alone = call(path, "-o", tmp_path / "v.mp4", "--network", "staircase", "--frames", 1, "--dry-run")
    assert alone["fps"] is None


@pytest.mark.parametrize("network", ["fitted", "recurrent"])
def test_images_come_at_given_times(network: str, call: Any, path: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "times.npy", [1.01, 1.05])
    (tmp_path / "times.txt").write_text("# of my camera\n0 1.01\n1 1.05\n")
    how = ["--network", "staircase", "--color"]
    if network == "recurrent":
        from evsim import models

        file = models.save(models.create("firenet", channels=4), tmp_path / "small.safetensors")
        how = ["--weights", str(file)]
    outputs = []
    for times in ("times.npy", "times.txt"):
        said = call(path, "-o", tmp_path / f"{times}.npy", *how, "--times", tmp_path / times)
        assert (said["images"], said["windows"]) == (2, "times")
        assert said["events"] == (100 if network == "fitted" else 51)
        outputs.append(np.load(tmp_path / f"{times}.npy"))
    np.testing.assert_array_equal(*outputs)
    assert outputs[0].shape == (2, HEIGHT, WIDTH, 3)[: 4 if network == "fitted" else 3]


def test_files_of_times_that_cannot_be_used_are_refused(call: Any, path: Path, tmp_path: Path) -> None:
    for text, error, message in (
        ("1.05\n1.01\n", FormatError, "each later than the one before"),
        ("first\n", FormatError, "expected one time in seconds a line"),
        ("", FormatError, "at least one time"),
        ("7\n8\n", InputError, "all outside the events, 1 to 1.099 s"),
    ):
        (tmp_path / "times.txt").write_text(text)
        with pytest.raises(error, match=message):
            call(path, "-o", tmp_path / "o", "--network", "staircase", "--times", tmp_path / "times.txt")
    with pytest.raises(InputError, match="no file of times"):
        call(path, "-o", tmp_path / "o", "--network", "staircase", "--times", tmp_path / "absent.txt")
    assert not (tmp_path / "o").exists()


def test_options_belong_to_the_method(call: Any, path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown field 'fit.iterations'.*color, event_threshold"):
        call(path, "-o", tmp_path / "o", "--network", "staircase", "--iterations", 5)
    with pytest.raises(ConfigError, match="firenet is not fitted to the recording"):
        call(path, "-o", tmp_path / "o", "--iterations", 5)
    with pytest.raises(InputError, match="takes no weights"):
        make_predictor("staircase", weights=path)
    with pytest.raises(InputError, match=r"unknown network 'stair'.*staircase"):
        make_predictor("stair")
    with pytest.raises(ConfigError, match=r"t_end = 1.0 is not later"):
        call(path, "-o", tmp_path / "o", "--network", "staircase", "--t-start", 2, "--t-end", 1)


def test_a_fitted_method_is_evaluated_as_networks_are(path: Path, tmp_path: Path) -> None:
    line = [
        "staircase",
        "--data",
        path,
        "--metrics",
        "mse",
        "--all-frames",
        "--set",
        "fit.event_threshold=0.1",
    ]
    done = CliRunner().invoke(
        evaluate, [*map(str, line), "-o", str(tmp_path / "scores"), "--json"], obj=Settings()
    )
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["method"] == "staircase"
    row = json.loads(next((tmp_path / "scores").rglob("staircase.json")).read_text())
    assert row["fit"] == {"event_threshold": 0.1}
    # Ground truth was rounded to codes.
    scores = np.loadtxt(next((tmp_path / "scores").rglob("mse.txt")), ndmin=2)
    assert len(scores) == 4
    assert (scores[:, -1] < (0.5 / 255) ** 2).all()
