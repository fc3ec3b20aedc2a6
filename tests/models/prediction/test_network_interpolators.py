"""Networks that interpolate as methods of the upsample stage: by name, with weights, in frames' units."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from announced import installed

from evsim import models
from evsim.errors import ConfigError, InputError
from evsim.media import Frame
from evsim.models.prediction.interpolation import NETWORKS, named_files
from evsim.upsample import BlendedPair, UpsampleConfig, make_interpolator, upsample

TOY = """
import torch
from dataclasses import dataclass
from torch import nn
import numpy as np
from evsim.models.prediction.frames import FramePredictor
from evsim.models.prediction.needs import Needs
from evsim.models.registry import NetworkEntry

@dataclass(frozen=True, kw_only=True)
class GainConfig:
    start: float = 0.5

@dataclass(frozen=True, kw_only=True)
class GainOptions:
    flow_weights: str | None = None
    squared: bool = False

class Gain(nn.Module):
    name = "gain"
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.gain = nn.Parameter(torch.tensor([config.start]))

class First:
    def __init__(self, parts):
        self.gain = float(parts.network.gain.detach()) ** (2 if parts.options.squared else 1)
        if parts.options.flow_weights:
            parts.files.load("gain", parts.options.flow_weights)
    def between(self, frame0, frame1, fractions, events):
        return np.stack([frame0 * np.float32(self.gain)] * len(fractions))

GAIN = NetworkEntry(
    name="gain", summary="", paper="", licence="", roles=("interpolate",), config=GainConfig, create=Gain,
    needs=Needs(frames=True), options=GainOptions, predictor=lambda parts: FramePredictor(First(parts)),
)
EVENTFUL = NetworkEntry(
    name="eventful", summary="", paper="", licence="", roles=("interpolate",),
    needs=Needs(frames=True, events=True, weights="none"),
)
"""


@pytest.fixture
def weights(tmp_path: Path) -> Iterator[Path]:
    """Weights of a toy network that halves the first frame, and of another one that keeps it, beside them."""
    points = {"gain": "toy_gain:GAIN", "eventful": "toy_gain:EVENTFUL"}
    with installed(tmp_path / "site", "toy_gain", TOY, evsim_networks=points):
        models.save(models.create("gain"), tmp_path / "half.safetensors")
        models.save(models.create("gain", start=1.0), tmp_path / "one.safetensors")
        yield tmp_path / "half.safetensors"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3)])
def test_blending_is_a_method_like_any_network(dtype: type, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.random(shape).astype(np.float32) for _ in range(2)]
    if dtype != np.float32:
        frames = [(frame * np.iinfo(dtype).max).astype(dtype) for frame in frames]
    interpolator = make_interpolator(UpsampleConfig(method="blend"))
    assert interpolator is not None
    assert interpolator.files == {}
    fractions = [0.25, 0.5, 0.75]
    found = list(interpolator.prepare(*frames).pictures(fractions))
    expected = list(BlendedPair(*frames).pictures(fractions))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert found[0].dtype == np.float32


def test_an_adaptive_factor_follows_the_motion() -> None:
    ground = np.random.default_rng(0).integers(0, 256, (8, 12)).astype(np.uint8)
    wide = np.kron(ground, np.ones((8, 8), np.uint8))
    frames = [
        Frame(np.ascontiguousarray(wide[:, 4 * k : 4 * k + 80]), k * 10**7, source_index=k) for k in range(2)
    ]
    config = UpsampleConfig(method="blend", adaptive=True, detect_cuts=False)
    assert 4 <= len(list(upsample(frames, config))) - 1 <= 6


def test_a_network_is_loaded_with_its_parts_and_says_which_files_those_were(weights: Path) -> None:
    flow = weights.with_name("one.safetensors")
    config = UpsampleConfig(
        method="gain", weights=str(weights), part_weights={"flow": str(flow)}, options={"squared": True}
    )
    interpolator = make_interpolator(config)
    assert interpolator is not None
    assert interpolator.files == {"network": sha256(weights), "flow": sha256(flow)}
    frame = np.full((4, 4), 200, np.uint8)
    (picture,) = interpolator.prepare(frame, frame).pictures([0.5])
    assert picture == pytest.approx(50)
    again = make_interpolator(UpsampleConfig(method="gain", weights=str(weights)))
    assert again is not None
    assert again.files == {"network": sha256(weights)}


def test_what_a_network_does_not_know_is_refused(weights: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown field 'options.cubed'"):
        make_interpolator(UpsampleConfig(method="gain", weights=str(weights), options={"cubed": 1}))
    with pytest.raises(InputError):
        make_interpolator(UpsampleConfig(method="gain", weights=str(weights.with_name("absent.pth"))))
    with pytest.raises(ConfigError, match=r"both given; leave out one"):
        config = UpsampleConfig(method="gain", part_weights={"flow": "a"}, options={"flow_weights": "b"})
        make_interpolator(config)


def test_networks_that_need_events_are_no_methods_of_upsampling(weights: Path) -> None:
    assert {"blend", "gain"} <= set(NETWORKS.names())
    with pytest.raises(ConfigError, match="method = 'eventful'"):
        UpsampleConfig(method="eventful")


def test_files_are_called_by_what_they_are() -> None:
    files = {"/a/net.pth": "1", "/b/flow.pth": "2", "/c/vgg16.pth": "3"}
    assert named_files(files, {"flow": "/b/flow.pth"}, True) == {
        "network": "1",
        "flow": "2",
        "vgg16.pth": "3",
    }
    assert named_files({"/b/flow.pth": "2"}, {"flow": "/b/flow.pth"}, False) == {"flow": "2"}
