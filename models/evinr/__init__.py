"""EvINR: one small network fitted to the events of one recording, which then gives its video at any time."""

from evsim.models.evinr.checkpoint import from_published
from evsim.models.evinr.network import Evinr, EvinrConfig, tone_map
from evsim.models.evinr.prediction import NEEDS, create_predictor
from evsim.models.evinr.settings import EvinrFitConfig
from evsim.models.registry import NetworkEntry

__all__ = ["ENTRY", "Evinr", "EvinrConfig", "tone_map"]

ENTRY = NetworkEntry(
    name="evinr",
    summary="events to video by fitting a network to one recording, 12 million parameters at 240x180",
    paper="Wang et al. 2024, Revisit Event Generation Model: Self-supervised Learning of Event-to-Video "
    "Reconstruction with Implicit Neural Representations (EvINR)",
    licence="the published code carries no licence; there are no published weights",
    roles=("reconstruct",),
    config=EvinrConfig,
    create=Evinr,
    from_published=from_published,
    needs=NEEDS,
    is_fitted=True,
    options=EvinrFitConfig,
    predictor=create_predictor,
    tasks={"fit": "evsim.models.evinr.task"},
)
