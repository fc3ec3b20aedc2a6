"""The image types frames may have, and what their values mean."""

from __future__ import annotations

import numpy as np

FULL_SCALE = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0, np.dtype(np.float32): 1.0}
"""The white level of each image type."""
