"""A recurrent network on event lists: counts of each window, a convolution, a state that leaks."""

from evsim.models.prediction.needs import Needs
from evsim.models.registry import NetworkEntry
from evsim.models.weights.state import PublishedState, State
from evsim_toy.leak.network import Leak, LeakConfig
from evsim_toy.leak.prediction import create_predictor


def from_published(state: State) -> PublishedState:
    """A published state has our keys."""
    return PublishedState(state=state)


ENTRY = NetworkEntry(
    name="toy_leak",
    summary="event lists to grey video, a dozen parameters",
    paper="none",
    licence="MIT",
    roles=("reconstruct",),
    config=LeakConfig,
    create=Leak,
    from_published=from_published,
    needs=Needs(events=True, windows=True, weights="required"),
    predictor=create_predictor,
    tasks={"sequences": "evsim_toy.leak.task"},
)
