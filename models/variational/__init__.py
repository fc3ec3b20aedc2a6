"""Events to video without a network: total variation of the video, fidelity to the events' levels."""

from evsim.models.registry import NetworkEntry
from evsim.models.variational.config import VariationalConfig
from evsim.models.variational.prediction import NEEDS, create_predictor

__all__ = ["ENTRY", "VariationalConfig"]

ENTRY = NetworkEntry(
    name="variational",
    summary="events to video by total variation, solved for the recording in seconds; no network, no weights",
    paper="the splitting is ADMM (Boyd et al. 2011), the penalty Huber's of total variation "
    "(Rudin et al. 1992; Werlberger et al. 2009)",
    licence="evsim's own",
    roles=("reconstruct",),
    needs=NEEDS,
    is_fitted=True,
    options=VariationalConfig,
    predictor=create_predictor,
)
