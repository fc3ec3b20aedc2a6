"""Camera RAW files through LibRaw: demosaiced, linear, in the camera's own colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError


def read_raw(path: Path) -> NDArray[np.uint16]:
    """(H, W, 3) uint16, proportional to light: black level 0, white level 65535, no white balance.

    Nothing depends on the picture's content, so that the frames of a clip stay comparable.
    Raises InputError for a file that LibRaw cannot read.
    """
    import rawpy

    try:
        with rawpy.imread(str(path)) as raw:
            image: NDArray[Any] = raw.postprocess(
                gamma=(1, 1),
                no_auto_bright=True,
                adjust_maximum_thr=0.0,  # else the white level follows the brightest pixel of each frame
                output_bps=16,
                output_color=rawpy.ColorSpace.raw,
                use_camera_wb=False,
                user_wb=[1.0, 1.0, 1.0, 1.0],  # else daylight multipliers are applied
            )
    except (rawpy.LibRawError, OSError) as error:
        raise InputError(f"{path} is not a camera RAW file that can be read: {error}") from error
    return np.ascontiguousarray(image)
