"""The report page: what a run of the chain did, as one HTML file that needs nothing beside it.

Pictures, clips and figures are embedded. Clips become animated WebP: unlike the video codecs that OpenCV can
write, it keeps one-pixel red and blue events apart, and every current browser plays it.
"""

from __future__ import annotations

import base64
import io
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.files import atomic_output
from evsim.view.plots import INK, NOISE_COLOUR, OFF_COLOUR, ON_COLOUR
from evsim.view.rendering import to_rgb

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FASTEST_FPS = 50.0
_WIDEST = 640
_QUALITY = 84


@dataclass(frozen=True, kw_only=True)
class Animation:
    """A short animation."""

    frames: Sequence[NDArray[Any]]
    """Images (H, W) or (H, W, 3) RGB of one size, at least one; uint8 is best."""
    fps: float
    """Frames per second of playback."""
    crisp: bool = False
    """For events and voxel grids: stored without loss and enlarged without smoothing."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the chain."""

    name: str
    """A word or two, such as RAW light."""
    caption: str = ""
    """One sentence about what happens here."""
    picture: NDArray[Any] | None = None
    """Image (H, W) or (H, W, 3) RGB; beside a clip, what is shown while motion is paused."""
    clip: Animation | None = None
    """Shown instead of the picture."""
    crisp: bool = False
    """As of `Animation`, for the picture."""
    seconds: float | None = None
    """Time that the stage took, None where it was not measured."""
    rate: str = ""
    """Throughput in words, such as 310 frames/s."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """How a reader repeats one step."""

    step: str
    """What it does."""
    line: str
    """The exact command."""
    note: str = ""
    """What to know before running it."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Clips of the same moments, played side by side in step, and what was measured between them."""

    title: str
    """Heading of the section."""
    clips: Mapping[str, Animation]
    """Name to clip, left to right; all of one size, length and rate."""
    caption: str = ""
    """One or two sentences below the clips."""
    scores: Sequence[Mapping[str, Any]] = ()
    """Rows of a table: column to value, the same columns in each; the first column names the row."""


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything the page says; all text is escaped."""

    title: str
    """Heading of the page."""
    summary: str
    """One paragraph."""
    stages: Sequence[Stage] = ()
    """The chain, in order."""
    comparison: Comparison | None = None
    """A result beside what it should be."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The few numbers to know first: name to value."""
    noise_shares: Mapping[str, float] = field(default_factory=dict)
    """Origin of the events, such as signal, shot noise, leak: name to count or share."""
    figures: Mapping[str, Figure | NDArray[Any]] = field(default_factory=dict)
    """Title to matplotlib figure or image."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Drawn and chosen values; nested mappings become groups."""
    commands: Sequence[Command] = ()
    """The command of every step, in order."""


class _Media(NamedTuple):
    """Embedded picture: data URIs of its moving form (may be empty) and its still form, and its size."""

    moving: str
    still: str
    width: int
    height: int
    crisp: bool


def write_report(path: str | os.PathLike[str], content: ReportContent, *, overwrite: bool = False) -> Path:
    """Write the page to `path` and return it.

    Raises InputError if the file exists without `overwrite`, and for pictures, rates or shares that cannot
    be shown.
    """
    page = render_report(content)
    with atomic_output(path, overwrite=overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def render_report(content: ReportContent) -> str:
    """The page as text."""
    source = (resources.files("evsim.pipelines.reports") / "simulation_page.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["value"] = format_value
    environment.filters["seconds"] = format_seconds
    return environment.from_string(source).render(
        content=content,
        stages=[(stage, _stage_media(stage)) for stage in content.stages],
        comparison=_comparison_media(content.comparison) if content.comparison else None,
        timed=_timed(content.stages),
        shares=_percentages(content.noise_shares),
        figures={title: _embed_figure(figure) for title, figure in content.figures.items()},
        parameters=list(_groups(content.parameters)),
    )


def embed_picture(image: NDArray[Any], *, crisp: bool = False) -> str:
    """An image (H, W) or (H, W, 3) RGB as a data URI, no wider than a page needs; crisp: without loss."""
    return _still_uri(_shown(image, crisp), crisp)


def page_style() -> Markup:
    """The style sheet of the report page, for other pages that look like it."""
    source = (resources.files("evsim.pipelines.reports") / "simulation_page.html").read_text(encoding="utf-8")
    return Markup(source[source.index("<style>") + len("<style>") : source.index("</style>")])


def _timed(stages: Sequence[Stage]) -> list[tuple[Stage, float]]:
    """Stages that were measured or have a rate, with their share of the total time in percent."""
    total = sum(stage.seconds or 0.0 for stage in stages)
    return [
        (stage, 100 * (stage.seconds or 0.0) / total if total else 0.0)
        for stage in stages
        if stage.seconds is not None or stage.rate
    ]


def _percentages(shares: Mapping[str, float]) -> list[tuple[str, float]]:
    for name, share in shares.items():
        if not 0 <= share < math.inf:
            raise InputError(f"noise_shares[{name!r}] = {share}, expected a count or share of at least 0")
    total = sum(shares.values())
    return [(name, 100 * share / total) for name, share in shares.items()] if total else []


def _groups(parameters: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """(group, rows) with nested mappings flattened to dotted group names."""
    rows = [(str(name), value) for name, value in parameters.items() if not isinstance(value, Mapping)]
    if rows:
        yield path, rows
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            yield from _groups(value, f"{path}.{name}" if path else str(name))


def _stage_media(stage: Stage) -> _Media | None:
    if stage.clip is not None:
        return _embed_clip(stage.clip, stage.picture, f"clip of stage {stage.name!r}")
    if stage.picture is None:
        return None
    picture = _shown(stage.picture, stage.crisp)
    return _Media("", _still_uri(picture, stage.crisp), picture.shape[1], picture.shape[0], stage.crisp)


def _comparison_media(comparison: Comparison) -> _Media:
    """All clips as one animation: browsers do not keep several in step."""
    clips = list(comparison.clips.values())
    kinds = {(clip.fps, tuple(frame.shape[:2] for frame in clip.frames)) for clip in clips}
    name = f"comparison {comparison.title!r}"
    if len(kinds) != 1:
        raise InputError(
            f"{name} has {len(clips)} clips of {len(kinds)} kinds, expected at least one, all of the same "
            "size, length and rate"
        )
    moments = zip(*(clip.frames for clip in clips), strict=True)
    frames = [np.concatenate([to_rgb(frame) for frame in moment], axis=1) for moment in moments]
    joint = Animation(frames=frames, fps=clips[0].fps, crisp=any(clip.crisp for clip in clips))
    return _embed_clip(joint, None, name, widest=_WIDEST * len(clips))


def _embed_clip(clip: Animation, picture: NDArray[Any] | None, name: str, *, widest: int = _WIDEST) -> _Media:
    if not len(clip.frames) or not 0 < clip.fps < math.inf:
        raise InputError(
            f"{name} has {len(clip.frames)} frames at {clip.fps} frames/s, expected at least one "
            "and a positive rate"
        )
    shapes = {frame.shape[:2] for frame in clip.frames}
    if len(shapes) > 1:
        raise InputError(f"{name} has frames of {len(shapes)} sizes, {sorted(shapes)[:2]} ..., expected one")
    # Browsers play frames of less than 20 ms at a speed of their own.
    stride = math.ceil(clip.fps / _FASTEST_FPS)
    frames = [_shown(frame, clip.crisp, widest) for frame in clip.frames[::stride]]
    moments = np.rint(np.arange(len(frames) + 1) * (1000.0 * stride / clip.fps)).astype(int)
    still = frames[len(frames) // 2] if picture is None else _shown(picture, clip.crisp)
    moving = _data_uri("image/webp", _webp(frames, np.diff(moments).tolist(), clip.crisp))
    height, width = frames[0].shape[:2]
    return _Media(moving, _still_uri(still, clip.crisp), width, height, clip.crisp)


def _shown(image: NDArray[Any], crisp: bool, widest: int = _WIDEST) -> NDArray[np.uint8]:
    """uint8 RGB, no wider than the page needs."""
    picture = to_rgb(image)
    height, width = picture.shape[:2]
    if width > widest and not crisp:
        size = (widest, max(1, round(height * widest / width)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    return picture


def _still_uri(picture: NDArray[np.uint8], crisp: bool) -> str:
    return _data_uri("image/webp", _webp([picture], [1000], crisp))


def _webp(frames: list[NDArray[np.uint8]], durations_ms: list[int], crisp: bool) -> bytes:
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    encoded = io.BytesIO()
    options: dict[str, Any] = {"lossless": True, "method": 3} if crisp else {"quality": _QUALITY, "method": 4}
    if len(images) > 1:
        options |= {"save_all": True, "append_images": images[1:], "duration": durations_ms, "loop": 0}
    images[0].save(encoded, "WEBP", **options)
    return encoded.getvalue()


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _embed_figure(figure: Figure | NDArray[Any]) -> Markup | _Media:
    if isinstance(figure, np.ndarray):
        picture = to_rgb(figure)
        return _Media("", _still_uri(picture, True), picture.shape[1], picture.shape[0], False)
    drawing = io.StringIO()
    # Without this metadata the drawing names no address and no date.
    empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(drawing, format="svg", transparent=True, metadata=empty)
    text = drawing.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    head, body = text.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head) + ' role="img"'
    # The page's colours, so that the figure follows its light and dark form.
    for colour, name in ((INK, "ink"), (ON_COLOUR, "on"), (OFF_COLOUR, "off"), (NOISE_COLOUR, "muted")):
        body = body.replace(colour, f"var(--{name})")
    return Markup(f"{head}>{body}")


def format_value(value: Any) -> str:
    """A value as a reader wants it: 12,345, 0.2513, true, or lists of such; None is a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return f"{int(value):,}" if abs(int(value)) >= 10_000 else str(value)
    if isinstance(value, (float, np.floating)):
        return f"{value:.5g}"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        rows = any(isinstance(item, (list, tuple)) for item in value)
        return ("\n" if rows else ", ").join(format_value(item) for item in value)
    return str(value)


def format_seconds(seconds: float | None) -> str:
    """Seconds as '840 ms', '12.3 s' or '4 min 5 s'; None is a dash."""
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 119.5:
        return f"{seconds:.3g} s"
    return f"{round(seconds) // 60} min {round(seconds) % 60} s"
