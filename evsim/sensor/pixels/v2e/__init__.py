"""v2e's pixel: lin-log photoreceptor with a first-order low-pass, or Sim2Real's stochastic variant."""

from evsim.sensor.pixels.v2e.config import V2eConfig

PIXEL_MODEL = V2eConfig
