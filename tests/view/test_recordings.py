"""Whole recordings as sheets, videos and curves."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from evsim.errors import InputError
from evsim.events import LEAK, SHOT_NOISE, SIGNAL, Events
from evsim.formats import NativeWriter, open_events
from evsim.view import contact_sheet, event_video, rate_plot, render_events
from evsim.view.plots import event_rates
from evsim.view.sheet import format_count, format_us
from evsim.view.stream import measure, windows


def random_events(count: int, duration_us: int, width: int = 40, height: int = 30, start: int = 0) -> Events:
    random = np.random.default_rng(0)
    t = start + np.sort(random.integers(0, duration_us, count))
    x, y = random.integers(0, width, count), random.integers(0, height, count)
    p, label = random.integers(0, 2, count), random.integers(0, 3, count)
    return Events(
        t.astype(np.int64),
        x.astype(np.uint16),
        y.astype(np.uint16),
        p.astype(np.uint8),
        width,
        height,
        label=label.astype(np.uint8),
    )


class InPieces:
    """A source that hands its events out in small pieces, as a file does."""

    image_count = 0

    def __init__(self, events: Events, piece: int) -> None:
        self.width, self.height, self.t_origin = events.width, events.height, events.t_origin
        self._events, self._piece = events, piece

    def chunks(self) -> Iterator[Events]:
        for start in range(0, len(self._events), self._piece):
            yield self._events[start : start + self._piece]

    def images(self) -> Iterator[object]:
        return iter(())


@pytest.fixture
def recording_path(tmp_path: Path) -> Path:
    path = tmp_path / "recording.h5"
    with NativeWriter(path, 40, 30) as writer:
        writer.append(random_events(4000, 100_000))
        for k in range(5):
            writer.append_image(np.full((30, 40, 3), (60 * k, 0, 0), np.uint8), 25_000.0 * k)
    return path


@pytest.mark.parametrize("piece", [1, 7, 1000, 5000])
def test_windows_hold_exactly_their_events_whatever_the_pieces(piece: int) -> None:
    # Several events share each microsecond, so that pieces end amid equal times.
    events = random_events(2000, 500, start=500)
    limits = [(0, 500), (400, 600), (600, 800), (650, 801), (801, 802), (802, 803), (803, 810)]
    limits += [(middle, middle + 1) for middle in range(810, 900)] + [(950, 2000), (3000, 3001)]
    found = list(windows(InPieces(events, piece), limits))
    for (start, end), window in zip(limits, found):
        expected = events.between(start, end)
        np.testing.assert_array_equal(window.t, expected.t)
        np.testing.assert_array_equal(window.x, expected.x)


def test_span_counts_what_is_there() -> None:
    events = random_events(500, 10_000, start=77)
    span = measure(InPieces(events, 13))
    assert span == measure(events)
    assert span is not None
    assert (span.events, span.on, span.labels) == (500, int(events.p.sum()), True)
    assert (span.first_us, span.last_us) == (events.t[0], events.t[-1])
    assert measure(Events.empty(4, 3)) is None


def test_video_shows_every_event_once(tmp_path: Path) -> None:
    events = random_events(3000, 700)
    # A folder keeps the pictures without loss.
    count = event_video(events, tmp_path / "frames", fps=10_000)
    frames = [cv2.imread(str(file))[..., ::-1] for file in sorted((tmp_path / "frames").glob("*.png"))]
    assert count == len(frames) == 7
    edges = events.t[0] + np.array([round(k * 1e6 / 10_000) for k in range(8)])
    for k, frame in enumerate(frames):
        window = events.between(int(edges[k]), int(edges[k + 1]))
        np.testing.assert_array_equal(frame, render_events(window))
    assert edges[-1] > events.t[-1]


def test_slow_motion_and_window_change_advance_and_content(tmp_path: Path) -> None:
    events = random_events(3000, 100_000)
    count = event_video(events, tmp_path / "frames", fps=50, slow_motion=4, window_us=30_000)
    assert count == 20
    last = cv2.imread(str(tmp_path / "frames" / "00000019.png"))[..., ::-1]
    end = int(events.t[0]) + 100_000
    np.testing.assert_array_equal(last, render_events(events.between(end - 30_000, end)))


def test_video_of_an_odd_sensor_is_playable(tmp_path: Path) -> None:
    path = tmp_path / "odd.webm"
    count = event_video(random_events(2000, 200_000, width=33, height=25), path, fps=30)
    capture = cv2.VideoCapture(str(path))
    read = 0
    while True:
        decoded, frame = capture.read()
        if not decoded:
            break
        assert frame.shape == (26, 34, 3)
        read += 1
    assert read == count == 6


def test_video_without_events_is_one_blank_frame(tmp_path: Path) -> None:
    assert event_video(Events.empty(8, 6), tmp_path / "frames") == 1
    assert (cv2.imread(str(tmp_path / "frames" / "00000000.png")) == 255).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"fps": 0.0}, "fps"), ({"slow_motion": -1.0}, "slow_motion"), ({"window_us": 0}, "window_us")]
    + [({"fps": 1000.0, "slow_motion": 5000.0}, "finest")],
)
def test_unusable_video_options_are_refused(tmp_path: Path, options: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        event_video(random_events(10, 1000), tmp_path / "frames", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "frames").exists()


def test_sheet_of_a_recording_shows_its_images_and_events(recording_path: Path) -> None:
    with open_events(recording_path) as recording:
        beside = contact_sheet(recording, panels=4, columns=2)
        alone = contact_sheet(recording.events(), panels=4, columns=2)
    assert beside.dtype == np.uint8
    assert beside.shape[1] > 1.8 * alone.shape[1]
    # Windows end near 12.5, 37.5, 62.5 and 87.5 ms: the images before them are number 0 to 3.
    reds = beside[..., 0][(beside[..., 1] == 0) & (beside[..., 2] == 0)]
    assert {60, 120, 180} <= set(reds.tolist())
    assert 240 not in reds


@pytest.mark.parametrize(("width", "height"), [(1, 1), (34, 34), (1280, 720)])
@pytest.mark.parametrize("panels", [1, 5])
def test_sheet_suits_every_sensor(width: int, height: int, panels: int) -> None:
    sheet = contact_sheet(random_events(3000, 1000, width, height), panels=panels)
    assert sheet.shape[1] < 2500
    assert (sheet != 255).any()


def test_lone_event_survives_a_large_sensor() -> None:
    one = Events(
        np.array([5]),
        np.array([1279], np.uint16),
        np.array([719], np.uint16),
        np.array([1], np.uint8),
        1280,
        720,
    )
    sheet = contact_sheet(one, panels=1).astype(int)
    assert (sheet[..., 0] > sheet[..., 2] + 40).any()


@pytest.mark.parametrize("scale", [0.2, 1, 3])
def test_sheet_shows_images_of_any_size_in_the_place_of_the_sensor(tmp_path: Path, scale: float) -> None:
    height, width = int(30 * scale), int(40 * scale)
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 2 :, width // 2 :] = (0, 200, 0)
    with NativeWriter(tmp_path / "a.h5", 40, 30) as writer:
        writer.append(random_events(400, 100_000))
        writer.append_image(image, 0.0, exposure_us=5.0, kind="blurry")
    with open_events(tmp_path / "a.h5") as recording:
        sheet = contact_sheet(recording, panels=1)
    green = (sheet == (0, 200, 0)).all(axis=2)
    rows, columns = np.flatnonzero(green.any(1)), np.flatnonzero(green.any(0))
    # The sensor's 40x30 are drawn six times as large, and the lower right quarter is green.
    assert (len(rows), len(columns)) == (90, 120)
    assert green[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_sheet_without_events_says_so(tmp_path: Path) -> None:
    assert contact_sheet(Events.empty(64, 48)).shape[2] == 3
    with NativeWriter(tmp_path / "empty.h5", 64, 48) as writer:
        writer.append_image(np.full((48, 64), 99, np.uint8), 0.0)
    with open_events(tmp_path / "empty.h5") as recording:
        assert (contact_sheet(recording) == 99).any()
        assert rate_plot(recording).axes[0].texts[0].get_text() == "no events"


def test_unusable_sheet_options_are_refused() -> None:
    for options in ({"panels": 0}, {"window_us": 0}, {"columns": 0}):
        with pytest.raises(InputError, match=next(iter(options))):
            contact_sheet(Events.empty(4, 3), **options)  # type: ignore[arg-type]


def test_rates_integrate_to_the_counts() -> None:
    events = random_events(5000, 400_000, start=1_605_537_493_718_345)
    for source in (events, InPieces(events, 99)):
        span = measure(source)
        assert span is not None
        edges, rates = event_rates(source, span, bins=40)
        width = np.diff(edges)
        assert edges[0] == 0
        assert edges[-1] == pytest.approx(span.duration_us * 1e-6)
        for name, mask in (("ON", events.p == 1), ("OFF", events.p == 0), ("noise", events.label != SIGNAL)):
            assert (rates[name] * width).sum() == pytest.approx(mask.sum())


def test_rate_plot_draws_noise_only_for_labelled_events() -> None:
    labelled = random_events(500, 10_000)
    assert {SHOT_NOISE, LEAK} <= set(np.asarray(labelled.label).tolist())
    names = [text.get_text() for text in rate_plot(labelled).axes[0].get_legend().get_texts()]
    assert names == ["ON", "OFF", "noise"]
    plain = Events(labelled.t, labelled.x, labelled.y, labelled.p, 40, 30)
    names = [text.get_text() for text in rate_plot(plain).axes[0].get_legend().get_texts()]
    assert names == ["ON", "OFF"]


def test_rate_plot_leaves_pyplot_alone() -> None:
    drawing = io.BytesIO()
    rate_plot(random_events(50, 1000), bins=7).savefig(drawing, format="png")
    assert drawing.getvalue().startswith(b"\x89PNG")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
    with pytest.raises(InputError, match="bins"):
        rate_plot(Events.empty(4, 3), bins=0)


def test_quantities_read_well() -> None:
    assert [format_us(value) for value in (0, 12, 999.9, 12_300, 999_900, 1.5e6)] == [
        "0 us",
        "12 us",
        "1 ms",
        "12.3 ms",
        "1 s",
        "1.5 s",
    ]
    assert [format_count(value) for value in (0, 999, 53_400, 999_700, 2_000_000)] == [
        "0",
        "999",
        "53.4k",
        "1M",
        "2M",
    ]
