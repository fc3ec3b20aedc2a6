"""Flow estimators: two images to the motion between them.

Motion is no image of a scene, so that the role flow has a contract of its own, as small as it can be;
`make_flow_estimator` of `models/prediction/parts.py` makes one by name.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class FlowEstimator(Protocol):
    """Finds where each pixel of an image is in another one."""

    def flow(self, image0: NDArray[np.float32], image1: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (H, W, 2): the way (x, y) in pixels from each pixel of image0 to its place in image1.

        image0, image1: (H, W) grey or (H, W, 3) RGB of one shape, full scale 1.
        """
        ...
