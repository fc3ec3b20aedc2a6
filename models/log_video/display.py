"""Log intensity as it is shown: one curve for a whole recording."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ENDS = 0.05
"""Percentiles 1 and 99 are shown at this and at 1 minus this."""


class DisplayCurve:
    """A logistic curve of log intensity, one for the whole recording, so that nothing flickers or clips."""

    def __init__(self, low: float, high: float) -> None:
        """low, high: shown at 0.05 and 0.95."""
        self.middle = np.float32((low + high) / 2)
        ends = 2 * np.log(1 / ENDS - 1)
        self.slope = np.float32(ends / (high - low) if high > low else 1.0)

    @classmethod
    def of(cls, log_intensity: NDArray[np.float32], least_span: float) -> DisplayCurve:
        """By percentiles 1 and 99 of some frames.

        least_span: distance that these have at least, such as an ON and an OFF threshold: less than a
        threshold events do not tell, and where little moves it would be all that is seen.
        """
        low, high = (float(end) for end in np.percentile(log_intensity, [1, 99]))
        wider = max(0.0, least_span - (high - low)) / 2
        return cls(low - wider, high + wider)

    def __call__(self, log_intensity: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 in 0..1 of the same shape."""
        return (0.5 + 0.5 * np.tanh(0.5 * self.slope * (log_intensity - self.middle))).astype(np.float32)
