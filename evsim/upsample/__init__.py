"""More frames per second: what lies between two frames of a video, at exact times.

Importing this package loads neither OpenCV nor numba; `upsample` does when it runs.
"""

from evsim.upsample.config import UpsampleConfig
from evsim.upsample.interpolator import BlendedPair, Interpolator, MovingPair, PreparedPair
from evsim.upsample.stream import adaptive_factor, interpolated_times, upsample

__all__ = [
    "BlendedPair",
    "Interpolator",
    "MovingPair",
    "PreparedPair",
    "UpsampleConfig",
    "adaptive_factor",
    "interpolated_times",
    "upsample",
]
