"""FireNet and FireNet+: a small recurrent network from voxel grids of events to images."""

from evsim.models.firenet.checkpoint import from_published
from evsim.models.firenet.network import FireNet, FireNetConfig, FireNetState
from evsim.models.firenet.prediction import create_predictor
from evsim.models.prediction.needs import Needs
from evsim.models.registry import NetworkEntry

__all__ = ["ENTRY", "FireNet", "FireNetConfig", "FireNetState"]

ENTRY = NetworkEntry(
    name="firenet",
    summary="events to grey video, 38 thousand parameters: the baseline",
    paper="Scheerlinck et al. 2020, Fast Image Reconstruction with an Event Camera (FireNet); "
    "Stoffregen et al. 2020, Reducing the Sim-to-Real Gap for Event Cameras (FireNet+)",
    licence="weights published within EVREAL (MIT); the code they were trained with carries no licence",
    roles=("reconstruct",),
    config=FireNetConfig,
    create=FireNet,
    from_published=from_published,
    needs=Needs(events=True, windows=True, weights="required"),
    predictor=create_predictor,
    tasks={"pixels": "evsim.models.firenet.task"},
)
