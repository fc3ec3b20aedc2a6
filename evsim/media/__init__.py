"""Footage in and out: frame sources with honest times, transfer curves, writers.

Names are loaded on first use, so that importing the package loads no decoder.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evsim.media.array import ArraySource, open_stack
    from evsim.media.folder import ImageFilesSource, open_folder
    from evsim.media.frame import Frame, FrameSource, Transfer
    from evsim.media.image import natural_key, read_image
    from evsim.media.opening import open_source
    from evsim.media.selection import Selection, resize
    from evsim.media.source import Source
    from evsim.media.still import CameraMotion, Keyframe, StillImageSource
    from evsim.media.timing import regular_times_ns
    from evsim.media.transfer import from_linear, luma, quantize, to_linear
    from evsim.media.video import VideoSource
    from evsim.media.warning import MediaWarning
    from evsim.media.writing import FrameWriter, open_writer

_MODULE_OF = {
    "array": ("ArraySource", "open_stack"),
    "folder": ("ImageFilesSource", "open_folder"),
    "frame": ("Frame", "FrameSource", "Transfer"),
    "image": ("natural_key", "read_image"),
    "opening": ("open_source",),
    "selection": ("Selection", "resize"),
    "source": ("Source",),
    "still": ("CameraMotion", "Keyframe", "StillImageSource"),
    "timing": ("regular_times_ns",),
    "transfer": ("from_linear", "luma", "quantize", "to_linear"),
    "video": ("VideoSource",),
    "warning": ("MediaWarning",),
    "writing": ("FrameWriter", "open_writer"),
}

__all__ = [
    "ArraySource",
    "CameraMotion",
    "Frame",
    "FrameSource",
    "FrameWriter",
    "ImageFilesSource",
    "Keyframe",
    "MediaWarning",
    "Selection",
    "Source",
    "StillImageSource",
    "Transfer",
    "VideoSource",
    "from_linear",
    "luma",
    "natural_key",
    "open_folder",
    "open_source",
    "open_stack",
    "open_writer",
    "quantize",
    "read_image",
    "regular_times_ns",
    "resize",
    "to_linear",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULE_OF.items():
        if name in names:
            return getattr(importlib.import_module(f"evsim.media.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
