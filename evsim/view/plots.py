"""Curves over time, drawn with matplotlib's figure objects: no window, no global state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import SIGNAL
from evsim.view.stream import EventSource, Span, measure, pieces

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#3f3f46"
"""Colour of text and axes, so that a page can replace it by its own."""
ON_COLOUR, OFF_COLOUR, NOISE_COLOUR = "#d62828", "#1d4ed8", "#8a8f98"


def rate_plot(source: EventSource, *, bins: int = 100) -> Figure:
    """Rates of ON and OFF events, and of noise events where events are labelled, over time.

    source: events or an opened recording. bins: equal intervals of time, at least 1.
    Returns a figure that `savefig` writes as PNG, SVG or PDF; a source without events says so in the plot.
    """
    if bins < 1:
        raise InputError(f"bins = {bins}, expected at least 1")
    from matplotlib.figure import Figure  # half a second, which pictures alone need not pay

    figure = Figure(figsize=(8.0, 3.0), layout="constrained")
    axes = figure.add_subplot()
    _style(axes)
    span = measure(source)
    if span is None:
        axes.text(0.5, 0.5, "no events", transform=axes.transAxes, ha="center", va="center", color=INK)
        axes.set_xticks([])
        axes.set_yticks([])
        return figure
    seconds, rates = event_rates(source, span, bins)
    for name, colour in (("ON", ON_COLOUR), ("OFF", OFF_COLOUR), ("noise", NOISE_COLOUR)):
        if name in rates:
            axes.stairs(rates[name], seconds, label=name, color=colour, linewidth=1.4, baseline=None)
            axes.stairs(rates[name], seconds, color=colour, alpha=0.12, fill=True)
    axes.set_xlim(seconds[0], seconds[-1])
    axes.set_ylim(bottom=0)
    legend = axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    for text in legend.get_texts():
        text.set_color(INK)
    return figure


def event_rates(
    source: EventSource, span: Span, bins: int
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Edges, float64 (bins + 1,) seconds after the first event, and events per second of each kind, (bins,).

    Kinds are ON, OFF and, where events are labelled, noise, which are counted in ON or OFF as well.
    """
    edges = np.linspace(0, span.duration_us, bins + 1)
    counts = {name: np.zeros(bins) for name in (("ON", "OFF", "noise") if span.labels else ("ON", "OFF"))}
    for piece in pieces(source):
        # By position rather than by comparison with edges: one multiplication an event.
        index = ((piece.t - span.first_us) * (bins / span.duration_us)).astype(np.int64)
        index = np.minimum(index, bins - 1)
        kinds = {"ON": piece.p > 0, "OFF": piece.p == 0}
        if span.labels and piece.label is not None:
            kinds["noise"] = piece.label != SIGNAL
        for name, mask in kinds.items():
            counts[name] += np.bincount(index[mask], minlength=bins)
    seconds_per_bin = span.duration_us * 1e-6 / bins
    return edges * 1e-6, {name: count / seconds_per_bin for name, count in counts.items()}


def _style(axes: Axes) -> None:
    from matplotlib.ticker import EngFormatter

    axes.set_xlabel("time after the first event (s)", color=INK)
    axes.set_ylabel("events per second", color=INK)
    axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.tick_params(colors=INK)
    axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(INK)
