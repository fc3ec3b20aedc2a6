"""Events to video without a network: total variation of the video, fidelity to the events' levels."""

from evsim.models.log_video.initial_image import initial_image
from evsim.represent.levels import EventLevels, Thresholds, event_levels

__all__ = ["EventLevels", "Thresholds", "event_levels", "initial_image"]
