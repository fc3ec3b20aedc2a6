"""Events and recordings as people look at them: images, overlays, videos, contact sheets, plots."""

from evsim.view.pixel import PixelTrace, pixel_plot
from evsim.view.plots import rate_plot
from evsim.view.rendering import STYLES, Style, overlay, render_events
from evsim.view.sheet import contact_sheet
from evsim.view.stream import EventSource
from evsim.view.video import event_video

__all__ = [
    "STYLES",
    "EventSource",
    "PixelTrace",
    "Style",
    "contact_sheet",
    "event_video",
    "overlay",
    "pixel_plot",
    "rate_plot",
    "render_events",
]
