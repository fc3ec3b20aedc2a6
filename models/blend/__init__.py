"""Blending: what interpolation by a network has to be better than."""

from evsim.models.blend.prediction import NEEDS, create_predictor
from evsim.models.registry import NetworkEntry

__all__ = ["ENTRY"]

ENTRY = NetworkEntry(
    name="blend",
    summary="the mean of two frames weighted by the distance in time; the baseline of interpolation",
    paper="none",
    licence="evsim's own",
    roles=("interpolate",),
    needs=NEEDS,
    predictor=create_predictor,
)
