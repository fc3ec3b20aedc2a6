"""Dense optical flow between two 8-bit pictures: DIS (Kroeger et al. 2016), kept within its limits."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SMALLEST_SIDE = 16
"""Pictures shorter than this on a side are not matched: no patch pyramid fits into them."""

_LONGEST_ASPECT = 2
"""DIS chooses its coarsest scale by the width alone and reads outside of pictures too flat for that."""

_SHORTEST_PADDED = 32


def dense_flow(
    picture0: NDArray[np.uint8], picture1: NDArray[np.uint8], *, fast: bool = False
) -> NDArray[np.float32]:
    """Displacements (H, W, 2) float32 in pixels (x, y): picture0[y, x] is found at picture1[y + v, x + u].

    picture0, picture1: (H, W), no side shorter than SMALLEST_SIDE. fast: the coarsest preset at full
    resolution, for pictures that are small already. The result does not depend on OpenCV's thread count.
    """
    height, width = picture0.shape
    bottom = max(_SHORTEST_PADDED, width // _LONGEST_ASPECT, height) - height
    right = max(_SHORTEST_PADDED, height // _LONGEST_ASPECT, width) - width
    padded = [
        cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        for picture in (picture0, picture1)
    ]
    matcher: Any  # OpenCV's type stubs forget that the initial flow is optional
    if fast:
        matcher = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        matcher.setFinestScale(0)
    else:
        matcher = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = matcher.calc(padded[0], padded[1], None)[:height, :width]
    if not np.isfinite(flow.sum()):
        flow = np.where(np.isfinite(flow), flow, np.float32(0))
    return flow
