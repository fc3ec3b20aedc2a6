"""What one pixel goes through, from light to events, as curves over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evsim.events import SHOT_NOISE, Events
from evsim.view.plots import INK, NOISE_COLOUR, OFF_COLOUR, ON_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LIGHT_COLOUR, LOG_COLOUR, FILTERED_COLOUR, REFERENCE_COLOUR = "#b7791f", "#9aa0a6", "#0f766e", "#7c3aed"
LONG_US = 2e6
"""Spans beyond are shown in seconds, others in milliseconds."""


@dataclass(frozen=True, kw_only=True)
class PixelTrace:
    """The signals of pixel (x, y) at the ends of the sensor's passes, and its events.

    t_us: microseconds, of the first frame and of every pass. light: DN 0..255 as the sensor saw it.
    log_intensity: of the photoreceptor. filtered: what is compared, after all filters. reference: what it is
    compared with. threshold_on, threshold_off: in the unit of both. All float64 (K,). events: of the pixel.
    one_scale: log_intensity is in that unit, too, so that they can be drawn together. leaks: the reference
    moves without events, too. title: of the plot.
    """

    x: int
    y: int
    t_us: NDArray[np.float64]
    light: NDArray[np.float64]
    log_intensity: NDArray[np.float64]
    filtered: NDArray[np.float64]
    reference: NDArray[np.float64]
    threshold_on: NDArray[np.float64]
    threshold_off: NDArray[np.float64]
    events: Events
    one_scale: bool = True
    leaks: bool = True
    title: str = ""


def pixel_plot(trace: PixelTrace) -> Figure:
    """Light, log intensity with the filtered signal and its reference, and events, above one another.

    The band is where the signal may be without an event. Returns a figure that `savefig` writes.
    """
    from matplotlib.figure import Figure

    heights = [1.0, 2.4, 0.9] if trace.one_scale else [1.0, 1.2, 2.0, 0.9]
    figure = Figure(figsize=(10.0, 1.6 * sum(heights) + 0.6), layout="constrained")
    panels: Any = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    scale, unit = (1e-6, "s") if np.ptp(trace.t_us) > LONG_US else (1e-3, "ms")
    time = trace.t_us * scale
    panels[0].plot(time, trace.light, color=LIGHT_COLOUR, linewidth=1.2)
    _name(panels[0], "light (DN)")
    panels[-3 if not trace.one_scale else 1].plot(
        time, trace.log_intensity, color=LOG_COLOUR, linewidth=1.2, label="log intensity"
    )
    if not trace.one_scale:
        _name(panels[1], "log intensity")
    _draw_comparison(panels[-2], trace, scale)
    _draw_events(panels[-1], trace.events, scale)
    panels[-1].set_xlabel(f"time ({unit})", color=INK)
    panels[-1].set_xlim(time[0], time[-1])
    figure.suptitle(trace.title or f"pixel ({trace.x}, {trace.y})", color=INK, fontsize=11)
    return figure


def reference_between(trace: PixelTrace) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of the reference, microseconds and level: what events move moves at once, the rest evenly.

    A signal event moves it by its threshold; what the thresholds do not explain of a pass is put to the last
    noise event, or else is leak, or without leak the last event's. A reference that stands still (models
    whose signal is reset instead) is not moved.
    """
    if not np.ptp(trace.reference):
        return trace.t_us, trace.reference
    times, levels = [trace.t_us[0]], [trace.reference[0]]
    ends = np.searchsorted(trace.events.t, trace.t_us, "right")
    for k in range(1, len(trace.t_us)):
        part = trace.events[ends[k - 1] : ends[k]]
        jumps = np.where(part.p > 0, trace.threshold_on[k], -trace.threshold_off[k])
        noise = np.zeros(len(part), bool) if part.label is None else part.label == SHOT_NOISE
        jumps[noise] = 0.0
        change = trace.reference[k] - trace.reference[k - 1]
        drift = change - jumps.sum()
        takes_rest = np.flatnonzero(noise if noise.any() or trace.leaks else ~noise)
        if len(takes_rest):
            jumps[takes_rest[-1]] += drift
            drift = 0.0
        begin, span = trace.t_us[k - 1], trace.t_us[k] - trace.t_us[k - 1]
        level = trace.reference[k - 1]
        for t, jump in zip(part.t, jumps):
            before = level + drift * (t - begin) / span
            times += [t, t]
            levels += [before, before + jump]
            level += jump
        times.append(trace.t_us[k])
        levels.append(trace.reference[k])
    return np.array(times), np.array(levels)


def _draw_comparison(axes: Axes, trace: PixelTrace, scale: float) -> None:
    corners, levels = reference_between(trace)
    on = np.interp(corners, trace.t_us, trace.threshold_on)
    off = np.interp(corners, trace.t_us, trace.threshold_off)
    axes.fill_between(
        corners * scale, levels - off, levels + on, color=REFERENCE_COLOUR, alpha=0.10, linewidth=0
    )
    axes.plot(corners * scale, levels, color=REFERENCE_COLOUR, linewidth=1.1, label="reference")
    axes.plot(trace.t_us * scale, trace.filtered, color=FILTERED_COLOUR, linewidth=1.6, label="filtered")
    _name(axes, "log intensity" if trace.one_scale else "thresholds")
    legend = axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1.0, 0.98), fontsize=9)
    for text in legend.get_texts():
        text.set_color(INK)


def _draw_events(axes: Axes, events: Events, scale: float) -> None:
    time = events.t * scale
    noise = np.zeros(len(events), bool) if events.label is None else events.label == SHOT_NOISE
    on = events.p > 0
    for chosen, top, colour in (
        (on & ~noise, 1, ON_COLOUR),
        (~on & ~noise, -1, OFF_COLOUR),
        (on & noise, 1, NOISE_COLOUR),
        (~on & noise, -1, NOISE_COLOUR),
    ):
        axes.vlines(time[chosen], 0, top, color=colour, linewidth=1.2)
    axes.axhline(0, color=INK, linewidth=0.6)
    counts = f"{int((on & ~noise).sum())} ON, {int((~on & ~noise).sum())} OFF, {int(noise.sum())} noise"
    axes.text(1.0, 1.02, counts, transform=axes.transAxes, ha="right", va="bottom", color=INK, fontsize=9)
    axes.set_ylim(-1.25, 1.25)
    _name(axes, "events")
    axes.set_yticks([-1, 1], ["OFF", "ON"])
    axes.grid(visible=False)


def _name(axes: Axes, label: str) -> None:
    axes.set_ylabel(label, color=INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(axis="both", color=INK, alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(INK)
