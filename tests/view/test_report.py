"""The report page: complete in itself, escaped, and honest about what it cannot show."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from evsim.errors import InputError
from evsim.events import Events
from evsim.pipelines.reports.simulation_page import (
    Animation,
    Command,
    Comparison,
    ReportContent,
    Stage,
    format_seconds,
    format_value,
    render_report,
    write_report,
)
from evsim.view import rate_plot

VOID = {"meta", "link", "img", "input", "source", "br", "use", "path", "rect", "line", "circle"}


class Page(HTMLParser):
    """Collects addresses and text, and checks that tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = ("src", "href", "srcset", "xlink:href", "poster", "action")
        self.addresses += [value or "" for name, value in attributes if name in names]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def images(self) -> list[Image.Image]:
        found = [re.fullmatch(r"data:image/webp;base64,(.+)", address) for address in self.addresses]
        return [Image.open(io.BytesIO(base64.b64decode(match[1]))) for match in found if match]


def event_like_frames(count: int) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    colours = np.array([(214, 40, 40), (29, 78, 216), (255, 255, 255)], np.uint8)
    return [colours[random.choice(3, (18, 24), p=[0.1, 0.1, 0.8])] for _ in range(count)]


def some_events() -> Events:
    t = np.arange(100, dtype=np.int64) * 1000
    pixel = (np.arange(100) % 7).astype(np.uint16)
    return Events(t, pixel, pixel, (t // 1000 % 2).astype(np.uint8), 24, 18)


@pytest.fixture
def content() -> ReportContent:
    frames = event_like_frames(12)
    return ReportContent(
        title="Toy & <b>chain</b>",
        summary="A <script>alert(1)</script> paragraph.",
        stages=[
            Stage(
                name="clip",
                caption="x < y",
                clip=Animation(frames=frames, fps=30),
                seconds=0.25,
                rate="48 frames/s",
            ),
            Stage(name="events", clip=Animation(frames=frames, fps=25, crisp=True), seconds=0.75),
            Stage(name="voxel grid", picture=frames[0][..., 0], crisp=True),
            Stage(name="packed", seconds=None),
        ],
        facts={"events": 1_234_567, "share": 0.123456, "preset": "sim2real"},
        noise_shares={"signal": 900, "shot noise": 75, "leak": 25},
        figures={"Rate": rate_plot(some_events()), "Sheet": frames[1]},
        parameters={"seed": 3, "isp": {"red_gain": 2.1, "rgb2cam": ((1.0, 0.0), (0.0, 1.0))}, "empty": {}},
        commands=[Command(step="Simulate", line='evsim simulate video "a b.mp4" > x && y', note="<note>")],
    )


def test_page_is_well_formed_and_needs_nothing_else(content: ReportContent, tmp_path: Path) -> None:
    path = write_report(tmp_path / "report.html", content)
    page = path.read_text(encoding="utf-8")
    parsed = Page(page)
    assert all(address.startswith(("data:", "#")) for address in parsed.addresses)
    assert "script" not in parsed.tags
    assert "url(http" not in page
    assert "@import" not in page
    assert not re.search(r"<(iframe|object|embed|base)\b", page)


def test_page_says_everything_and_escapes_it(content: ReportContent) -> None:
    page = render_report(content)
    text = Page(page).text
    for words in (
        "Toy & <b>chain</b>",
        "<script>alert(1)</script>",
        "x < y",
        "48 frames/s",
        "250 ms",
        "1,234,567",
        "0.12346",
        "shot noise 7.5 %",
        "red_gain 2.1",
        "<note>",
        'evsim simulate video "a b.mp4" > x && y',
        "no picture",
    ):
        assert words in text, words
    assert "<b>chain" not in page
    assert '<i style="width:75.0%"' in page


def test_clips_play_at_their_rate_and_event_clips_lose_nothing(content: ReportContent) -> None:
    images = Page(render_report(content)).images()
    moving = [image for image in images if getattr(image, "n_frames", 1) > 1]
    assert len(moving) == 2
    for image, duration in zip(moving, (400, 480)):
        assert image.n_frames == 12
        assert image.info["loop"] == 0
        total = 0
        for k in range(image.n_frames):
            image.seek(k)
            image.load()
            total += image.info["duration"]
        assert total == duration
    for k, frame in enumerate(event_like_frames(12)):
        moving[1].seek(k)
        np.testing.assert_array_equal(np.asarray(moving[1].convert("RGB")), frame)


def test_comparison_plays_in_step_above_its_scores() -> None:
    left, right = event_like_frames(6), event_like_frames(6)[::-1]
    comparison = Comparison(
        title="Beside <it>",
        caption="a & b",
        clips={
            name: Animation(frames=frames, fps=25, crisp=True)
            for name, frames in (("found", left), ("true", right))
        },
        scores=[{"method": "ours", "mse": 0.00123456}, {"method": "theirs", "mse": None}],
    )
    parsed = Page(render_report(ReportContent(title="t", summary="s", comparison=comparison)))
    assert "Beside <it> found true a & b method mse ours 0.0012346 theirs -" in parsed.text
    (moving,) = [image for image in parsed.images() if getattr(image, "n_frames", 1) > 1]
    for k, (ours, truth) in enumerate(zip(left, right)):
        moving.seek(k)
        np.testing.assert_array_equal(np.asarray(moving.convert("RGB")), np.concatenate((ours, truth), 1))


def test_comparison_of_clips_that_differ_is_refused() -> None:
    frames = event_like_frames(4)
    long, short = Animation(frames=frames, fps=25), Animation(frames=frames[:3], fps=25)
    for clips in ({}, {"a": long, "b": short}):
        content = ReportContent(title="t", summary="s", comparison=Comparison(title="c", clips=clips))
        with pytest.raises(InputError, match="all of the same size, length and rate"):
            render_report(content)


def test_fast_clip_keeps_its_length_at_a_rate_that_browsers_play() -> None:
    clip = Animation(frames=event_like_frames(48), fps=240, crisp=True)
    page = render_report(ReportContent(title="t", summary="s", stages=[Stage(name="dense", clip=clip)]))
    image = next(image for image in Page(page).images() if getattr(image, "n_frames", 1) > 1)
    durations = []
    for k in range(image.n_frames):
        image.seek(k)
        image.load()
        durations.append(image.info["duration"])
    assert min(durations) >= 20
    assert sum(durations) == pytest.approx(200, abs=10)


def test_figure_follows_the_page_colours(content: ReportContent) -> None:
    page = render_report(content)
    drawing = page[page.index("<svg") : page.index("</svg>")]
    assert "var(--on)" in drawing
    assert "var(--off)" in drawing
    assert "#3f3f46" not in drawing
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", drawing)


def test_smallest_page_has_no_empty_sections() -> None:
    parsed = Page(render_report(ReportContent(title="t", summary="s")))
    assert "section" not in parsed.tags
    without_events = render_report(ReportContent(title="t", summary="s", noise_shares={"signal": 0}))
    assert "No events." in Page(without_events).text


def test_existing_report_is_kept_unless_overwritten(content: ReportContent, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        write_report(path, content)
    assert path.read_text() == "mine"
    assert write_report(path, content, overwrite=True).stat().st_size > 10_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stages": [Stage(name="a", clip=Animation(frames=[], fps=30))]}, "'a' has 0 frames"),
        ({"stages": [Stage(name="a", clip=Animation(frames=event_like_frames(2), fps=0))]}, "positive rate"),
        (
            {"stages": [Stage(name="a", clip=Animation(frames=[np.zeros((2, 2)), np.zeros((2, 3))], fps=1))]},
            "2 sizes",
        ),
        ({"stages": [Stage(name="a", picture=np.zeros((2, 2, 4), np.uint8))]}, "shape"),
        ({"noise_shares": {"leak": float("nan")}}, "leak"),
        ({"noise_shares": {"leak": -1.0}}, "leak"),
    ],
)
def test_what_cannot_be_shown_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        render_report(ReportContent(title="t", summary="s", **changes))  # type: ignore[arg-type]


def test_values_and_times_read_well() -> None:
    values = (
        None,
        True,
        9999,
        10_000,
        2 / 3,
        np.float32(0.5),
        np.int64(12345),
        "a",
        (1, 2.5),
        [[1, 2], [3, 4]],
    )
    words = ["-", "true", "9999", "10,000", "0.66667", "0.5", "12,345", "a", "1, 2.5", "1, 2\n3, 4"]
    assert [format_value(value) for value in values] == words
    times = [format_seconds(value) for value in (None, 0.004, 0.99, 0.9999, 12.34, 125)]
    assert times == ["-", "4 ms", "990 ms", "1 s", "12.3 s", "2 min 5 s"]
