"""A deblurrer: what the events of the exposure changed, taken out of its image; sensors of half its size."""

from evsim.models.prediction.needs import Needs
from evsim.models.registry import NetworkEntry
from evsim.models.weights.state import PublishedState, State
from evsim_toy.sharpen.network import Sharpen, SharpenConfig, create_predictor


def from_published(state: State) -> PublishedState:
    """A published state has our keys."""
    return PublishedState(state=state)


ENTRY = NetworkEntry(
    name="toy_sharpen",
    summary="blurry frames and events to sharp frames, by the double integral",
    paper="the double integral is that of Pan et al. 2019",
    licence="MIT",
    roles=("deblur",),
    config=SharpenConfig,
    create=Sharpen,
    from_published=from_published,
    needs=Needs(events=True, blurry_frames=True, weights="required"),
    predictor=create_predictor,
)
