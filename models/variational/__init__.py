"""Events to video without a network: total variation of the video, fidelity to the events' levels."""

from evsim.models.variational.closed_form import EventLevels, Thresholds, event_levels, initial_image

__all__ = ["EventLevels", "Thresholds", "event_levels", "initial_image"]
