"""More frames per second: what lies between two frames of a video, at exact times.

Importing this package loads neither OpenCV nor numba; `upsample` does when it runs.
"""

from evsim.upsample.config import UpsampleConfig, decided_by
from evsim.upsample.interpolator import BlendedPair, Interpolator, MovingPair, PreparedPair
from evsim.upsample.methods import BUILT_IN, KeptInterpolators, make_interpolator
from evsim.upsample.stream import adaptive_factor, interpolated_times, upsample

__all__ = [
    "BUILT_IN",
    "BlendedPair",
    "Interpolator",
    "KeptInterpolators",
    "MovingPair",
    "PreparedPair",
    "UpsampleConfig",
    "adaptive_factor",
    "decided_by",
    "interpolated_times",
    "make_interpolator",
    "upsample",
]
