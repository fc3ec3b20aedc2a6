"""Between pictures and light: the inverse ISP, its per-clip random parameters, and the forward ISP.

`unprocess` takes what a camera stored (sRGB code values) back to the linear light its sensor saw;
`process` and `preview` go the other way, for people to look at.
"""

from evsim.isp.forward import preview, process
from evsim.isp.inverse import camera_light, unprocess
from evsim.isp.mosaic import bayer_plane, demosaic, mosaic_rggb
from evsim.isp.noise import add_noise, frame_noise_key
from evsim.isp.parameters import IspConfig, IspParameters, draw_parameters

__all__ = [
    "IspConfig",
    "IspParameters",
    "add_noise",
    "bayer_plane",
    "camera_light",
    "demosaic",
    "draw_parameters",
    "frame_noise_key",
    "mosaic_rggb",
    "preview",
    "process",
    "unprocess",
]
