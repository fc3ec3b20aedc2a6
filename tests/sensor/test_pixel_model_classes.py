"""Configuration classes of pixel models: found by name, also in other packages; written as they ever were."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from importlib import metadata
from typing import Any

import numpy as np
import pytest
from evsim_toy.pixels import ToyConfig
from sensor_scenes import assert_same, texture, times_ns

import evsim
from evsim import plugins
from evsim.chain import SimulationConfig, preset_names, read_preset, resolve
from evsim.configuration import build, field_documentation, to_tree
from evsim.errors import ConfigError, InputError
from evsim.isp import IspConfig
from evsim.sensor import SensorConfig, Simulator
from evsim.sensor.pixel_models import GROUP, configuration_class, model_names
from evsim.sensor.pixels.esim import EsimConfig
from evsim.sensor.pixels.v2e.config import V2eConfig
from evsim.sensor.pixels.voltmeter import VoltmeterConfig
from evsim.upsample import UpsampleConfig

OWN = ["esim", "icns", "idslpf", "v2e", "voltmeter"]
# Written by evsim when one class held the fields of all models.
WRITTEN = (
    '{"model": "voltmeter", "contrast_threshold_on": 0.2, "contrast_threshold_off": 0.2, '
    '"contrast_threshold_spread": 0.03, "cutoff_hz": 0.0, "low_pass": "v2e", "leak_rate_hz": 0.0, '
    '"leak_jitter": 0.1, "leak_rate_spread_decades": 0.1, "shot_noise_rate_hz": 0.001, '
    '"refractory_period_us": 0.0, "bypass_probability": 0.5, "clock": "linear", "precision": "float32", '
    '"input": "linear", "photoreceptor_noise": false, "surround_distance_px": 0.0, '
    '"surround_time_constant_us": 10000.0, "scidvs": false, "scidvs_time_constant_us": 10000.0, '
    '"scidvs_time_constant_spread": 0.5, "scidvs_as_v2e": false, "step_rate_hz": null, "substep": true, '
    '"float_full_scale": 1.0, "latency_us": null, "latency_jitter_us": null, "dead_pixel_fraction": 0.0, '
    '"hot_pixel_fraction": 0.0, "hot_pixel_rate_hz": 100.0, "log_offset": 0.001, "voltmeter_gain": 5.265, '
    '"voltmeter_dark_level": 20.0, "voltmeter_photon_noise": 0.0001, "voltmeter_leak": 1e-07, '
    '"voltmeter_light_leak": 5e-09, "voltmeter_noise_floor": 1e-05, "white_level": 10000.0, '
    '"time_constant_us": 40.0, "noise_rate_on_hz": 0.1, "noise_rate_off_hz": 0.01}'
)


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Pixel models that other packages announce: name -> where the class is."""
    models, installed = {"toy": "evsim_toy.pixels:ToyConfig"}, metadata.entry_points

    def entry_points(**selection: Any) -> Any:
        if selection != {"group": GROUP}:
            return installed(**selection)
        return [metadata.EntryPoint(name, value, GROUP) for name, value in models.items()]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    return models


@pytest.fixture
def no_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(group: str) -> None:
        raise AssertionError("installed packages were searched")

    monkeypatch.setattr(plugins, "announced", refuse)


@pytest.mark.usefixtures("no_metadata")
@pytest.mark.parametrize("name", OWN)
def test_a_model_of_evsim_is_found_without_a_search_of_packages(name: str) -> None:
    config = SensorConfig(model=name)
    assert type(config) is configuration_class(name)
    assert type(build(SensorConfig, {**to_tree(config), "leak_rate_hz": 0})) is type(config)
    simulator = Simulator(config, (4, 3))
    simulator.step(np.zeros((3, 4), np.uint8), 0)
    assert type(Simulator.from_state(simulator.state()).config) is type(config)


@pytest.mark.parametrize("name", OWN)
def test_each_field_of_a_model_is_documented(name: str) -> None:
    kind = configuration_class(name)
    own: set[str] = set()
    for base in kind.__mro__:
        own |= set(field_documentation(base)) if dataclasses.is_dataclass(base) else set()
    assert own == {field.name for field in dataclasses.fields(kind)}


def test_what_is_written_stays_what_it_was() -> None:
    tree = {"model": "voltmeter", "cutoff_hz": 0, "leak_rate_hz": 0.0, "refractory_period_us": 0}
    config = build(SensorConfig, tree)
    assert json.dumps(to_tree(config)) == WRITTEN
    assert build(SensorConfig, json.loads(WRITTEN)) == config
    names = list(json.loads(WRITTEN))
    for name in OWN:
        assert list(to_tree(SensorConfig(model=name))) == names


@pytest.mark.parametrize("preset", preset_names())
def test_a_written_configuration_is_read_back_as_it_was(preset: str) -> None:
    config = resolve(read_preset(preset), 3, "clip").sensor
    again = build(SensorConfig, to_tree(config))
    assert again == config
    assert json.dumps(to_tree(again)) == json.dumps(to_tree(config))


def test_a_class_makes_configurations_of_its_own_model_only() -> None:
    assert EsimConfig(log_offset=0.01) == SensorConfig(model="esim", log_offset=0.01)
    assert type(SensorConfig()) is V2eConfig
    assert build(EsimConfig, {"log_offset": 0.01}) == EsimConfig(log_offset=0.01)
    with pytest.raises(TypeError, match="cutoff_hz"):
        EsimConfig(cutoff_hz=3.0)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"model = 'icns' for EsimConfig, expected 'esim'; SensorConfig\("):
        dataclasses.replace(EsimConfig(), model="icns")
    with pytest.raises(ConfigError, match=r"sensor\.model = 'icns'"):
        build(EsimConfig, {"model": "icns"}, "sensor")


def test_configurations_are_replaced_copied_and_pickled() -> None:
    config = SensorConfig(model="voltmeter", voltmeter_gain=4.0, cutoff_hz=0.0)
    changed = dataclasses.replace(config, voltmeter_gain=3.0)
    assert type(changed) is VoltmeterConfig
    assert to_tree(changed) == {**to_tree(config), "voltmeter_gain": 3.0}
    for again in (
        pickle.loads(pickle.dumps(config)),
        copy.deepcopy(config),
        dataclasses.replace(config),
        SensorConfig(**vars(config)),
    ):
        assert again == config
        assert hash(again) == hash(config)
        assert to_tree(again) == to_tree(config)


def test_a_field_of_no_model_is_named_with_its_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown field 'sensor\.cutof_hz' \(did you mean 'cutoff_hz'\?\)"):
        build(SensorConfig, {"cutof_hz": 3.0}, "sensor")
    with pytest.raises(ConfigError, match=r"unknown field 'sensor\.switched_off'"):
        build(SensorConfig, {"switched_off": ["cutoff_hz"]}, "sensor")


@pytest.mark.usefixtures("announced")
def test_a_model_of_another_package_simulates_a_clip() -> None:
    frames, times = texture(4, (20, 12)).astype(np.uint8), times_ns(4)
    overrides = ["sensor.model=toy", "sensor.step_dn=20", "isp.variant=none", "upsample.method=none"]
    events = evsim.simulate(frames, times, preset="ideal", overrides=overrides)
    change = np.diff(frames.astype(np.int64), axis=0)
    interval, y, x = np.nonzero(np.abs(change) >= 20)
    assert len(interval) > 20
    np.testing.assert_array_equal(events.t, np.array(times[1:])[interval] // 1000)
    np.testing.assert_array_equal(events.y, y)
    np.testing.assert_array_equal(events.x, x)
    np.testing.assert_array_equal(events.p, change[interval, y, x] > 0)
    config = SimulationConfig(
        upsample=UpsampleConfig(method="none"), isp=IspConfig(variant="none"), sensor=ToyConfig(step_dn=20.0)
    )
    assert_same(evsim.simulate(frames, times, config=config), events)


@pytest.mark.usefixtures("announced")
def test_a_model_of_another_package_is_like_any_other() -> None:
    assert model_names() == sorted([*OWN, "toy"])
    config = SensorConfig(model="toy", step_dn=5.0, leak_rate_hz=0.0)
    assert type(config) is ToyConfig
    written = to_tree(config)
    assert written["step_dn"] == 5.0
    assert "cutoff_hz" not in written  # only models of the first layout hold each other's fields
    assert build(SensorConfig, written) == config
    with pytest.raises(ConfigError, match=r"step_dn with model v2e.*used by toy"):
        SensorConfig(model="v2e", step_dn=5.0)
    with pytest.raises(ConfigError, match=r"cutoff_hz = 3.0 with model toy.*used by idslpf, v2e"):
        SensorConfig(model="toy", cutoff_hz=3.0)
    with pytest.raises(ConfigError, match=r"'tov' \(did you mean 'toy'\?\), expected one of esim, .*toy"):
        SensorConfig(model="tov")
    frames, times = texture(3, (20, 12)), times_ns(3)
    simulator = Simulator(config, (20, 12), threads=2)
    simulator.step(frames[0], times[0])
    simulator.step(frames[1], times[1])
    resumed = Simulator.from_state(simulator.state())
    assert_same(resumed.step(frames[2], times[2]), simulator.step(frames[2], times[2]))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "evsim_toy.pixels:ToyPixels",
            "expected a subclass of evsim.sensor.SensorConfig whose field model is 'other'",
        ),
        ("evsim_toy.pixels:ToyConfig", "whose field model is 'other'"),
        ("evsim_toy.pixels:Nothing", "cannot be loaded"),
    ],
)
def test_what_is_announced_and_is_no_pixel_model_is_named(
    value: str, said: str, announced: dict[str, str]
) -> None:
    announced["other"] = value
    with pytest.raises(InputError, match=said):
        SensorConfig(model="other")
