"""Events as images and tensors: voxel grids by name, frames, surfaces, stacks, integrated log intensity."""

from evsim.represent.exposure import eger, egers
from evsim.represent.frames import event_frame, event_frames, polarity_frames, time_surface
from evsim.represent.integration import integrate, to_display
from evsim.represent.normalization import NORMALIZATIONS, normalize
from evsim.represent.rules import VOXEL_RULES, VoxelRule
from evsim.represent.stacks import EvinrStack, evinr_stack, stacked_histogram
from evsim.represent.targets import TargetVoxels, frames_to_voxel, reverse_time, target_voxels
from evsim.represent.voxels import placement_in_window, voxel_grid, voxel_grids

__all__ = [
    "NORMALIZATIONS",
    "VOXEL_RULES",
    "EvinrStack",
    "TargetVoxels",
    "VoxelRule",
    "eger",
    "egers",
    "event_frame",
    "event_frames",
    "evinr_stack",
    "frames_to_voxel",
    "integrate",
    "normalize",
    "placement_in_window",
    "polarity_frames",
    "reverse_time",
    "stacked_histogram",
    "target_voxels",
    "time_surface",
    "to_display",
    "voxel_grid",
    "voxel_grids",
]
