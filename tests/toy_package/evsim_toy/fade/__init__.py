"""An interpolator: both frames moved along a flow that another network estimates, then blended."""

from evsim.models.prediction.needs import Needs
from evsim.models.registry import NetworkEntry
from evsim.models.weights.state import PublishedState, State
from evsim_toy.fade.network import Fade, FadeConfig, FadeOptions, create_predictor


def from_published(state: State) -> PublishedState:
    """A published state has our keys."""
    return PublishedState(state=state)


ENTRY = NetworkEntry(
    name="toy_fade",
    summary="frames in between, by a shift and a blend",
    paper="none",
    licence="MIT",
    roles=("interpolate",),
    config=FadeConfig,
    create=Fade,
    from_published=from_published,
    needs=Needs(frames=True, weights="required"),
    options=FadeOptions,
    predictor=create_predictor,
)
