"""The simulated event sensor: frames and their times in, labelled events out."""

from evsim.sensor.config import SensorConfig
from evsim.sensor.fields import FrameFields, RandomFields
from evsim.sensor.simulator import Simulator

__all__ = ["FrameFields", "RandomFields", "SensorConfig", "Simulator"]
