"""The simulated event sensor: frames and their times in, labelled events out."""

from evsim.sensor.batch import SimulatorBatch
from evsim.sensor.config import SensorConfig
from evsim.sensor.fields import FrameFields, RandomFields
from evsim.sensor.simulator import Simulator
from evsim.sensor.sums import EventSum

__all__ = ["EventSum", "FrameFields", "RandomFields", "SensorConfig", "Simulator", "SimulatorBatch"]
