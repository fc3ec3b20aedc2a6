"""Events as images and tensors: voxel grids, event frames, polarity frames, integrated log intensity."""

from evsim.represent.frames import event_frame, polarity_frames
from evsim.represent.integration import integrate, to_display
from evsim.represent.voxels import VOXEL_RULES, voxel_grid

__all__ = ["VOXEL_RULES", "event_frame", "integrate", "polarity_frames", "to_display", "voxel_grid"]
