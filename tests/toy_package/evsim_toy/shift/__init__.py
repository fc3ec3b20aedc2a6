"""A flow estimator: one shift for the whole image, by phase correlation, no longer than a learned limit."""

from evsim.models.prediction.needs import Needs
from evsim.models.registry import NetworkEntry
from evsim.models.weights.state import PublishedState, State
from evsim_toy.shift.network import Shift, ShiftConfig, create_estimator


def from_published(state: State) -> PublishedState:
    """A published state has our keys."""
    return PublishedState(state=state)


ENTRY = NetworkEntry(
    name="toy_shift",
    summary="one shift for a pair of images",
    paper="none",
    licence="MIT",
    roles=("flow",),
    config=ShiftConfig,
    create=Shift,
    from_published=from_published,
    needs=Needs(frames=True, weights="required"),
    flow_estimator=create_estimator,
)
