"""Input that cannot be used is refused with what was found, what was expected and the mend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sensor_scenes import MILLISECOND, ideal, texture

from evsim.configuration import build
from evsim.errors import ConfigError, InputError
from evsim.sensor import FrameFields, RandomFields, SensorConfig, Simulator

SIZE = (6, 4)


def frame(value: Any = 0.5, dtype: Any = np.float32) -> Any:
    return np.full(SIZE[::-1], value, dtype)


def with_one(value: float) -> Any:
    image = frame()
    image[2, 3] = value
    return image


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 6, 3), np.uint8), r"shape \(4, 6, 3\), expected \(4, 6\).*convert colour to grey"),
        (np.zeros((6, 4), np.uint8), r"shape \(6, 4\), expected \(4, 6\) for a sensor of 6x4"),
        (np.zeros(24, np.uint8), r"shape \(24,\), expected \(4, 6\)"),
        (frame(1, np.int32), "frame is int32, expected uint8, uint16, float32 or float64"),
        (frame(0.5, np.float16), "frame is float16"),
        (with_one(np.nan), "1 of 24 frame values cannot be light: value nan at row 2, column 3"),
        (with_one(np.inf), "value inf at row 2, column 3"),
        (with_one(-0.1), "value -0.1.* at row 2, column 3, expected finite numbers >= 0"),
        (with_one(0.5).astype(np.float64) * 1e300, "value 5e\\+299 at row 0"),
    ],
)
def test_frames_that_are_no_light_are_refused(image: Any, message: str) -> None:
    simulator = Simulator(ideal(), SIZE)
    with pytest.raises(InputError, match=message):
        simulator.step(image, 0)


@pytest.mark.parametrize(
    ("t_ns", "message"),
    [
        (5_000_000, "5000000 ns after 5000000 ns, expected times that increase"),
        (4_000_000, "4000000 ns after 5000000 ns"),
        (5_000_900, "5000000 ns and 5000900 ns lie within one microsecond"),
        (5.001e6, r"5001000.0 \(float\), expected whole nanoseconds"),
    ],
)
def test_times_that_do_not_follow_are_refused(t_ns: Any, message: str) -> None:
    simulator = Simulator(ideal(), SIZE)
    simulator.step(frame(), 5_000_000)
    with pytest.raises(InputError, match=message):
        simulator.step(frame(), t_ns)


def test_a_refused_step_changes_nothing() -> None:
    simulator, other = Simulator(ideal(), SIZE), Simulator(ideal(), SIZE)
    for sensor in (simulator, other):
        sensor.step(frame(), 0)
    for image, t_ns in ((with_one(np.nan), 1000), (frame(), 0), (frame(0.9)[:2], 2000)):
        with pytest.raises(InputError):
            simulator.step(image, t_ns)
    ours, theirs = (sensor.step(frame(0.9), MILLISECOND) for sensor in (simulator, other))
    np.testing.assert_array_equal(ours.t, theirs.t)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 4)}, "size = 0x4, expected sides of 1 to 65536"),
        ({"size": (70_000, 4)}, "size = 70000x4"),
        ({"size": 4}, r"size = 4, expected \(width, height\)"),
        ({"threads": 0}, "threads = 0, expected at least 1"),
        (
            {"fields": RandomFields(threshold_on=np.ones((6, 4)))},
            r"threshold_on has shape \(6, 4\), expected \(4, 6\)",
        ),
        ({"fields": RandomFields(threshold_off=np.zeros((4, 6)))}, "threshold_off spans 0.0..0.0"),
    ],
)
def test_sensors_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Simulator(ideal(), **{"size": SIZE, **options})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (FrameFields(leak_jitter=np.zeros((6, 4), np.float32)), r"leak_jitter has shape \(6, 4\)"),
        (FrameFields(shot_uniform=frame(-1.0)), "shot_uniform spans -1.0"),
        (FrameFields(lowpass_bypass=frame(1, bool)), "lowpass_bypass was given to model v2e"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields: FrameFields, message: str) -> None:
    simulator = Simulator(ideal(), SIZE)
    simulator.step(frame(), 0)
    with pytest.raises(InputError, match=message):
        simulator.step(frame(), MILLISECOND, fields=fields)


def test_fields_for_a_divided_interval_are_refused() -> None:
    simulator = Simulator(ideal(step_rate_hz=1000.0), SIZE)
    simulator.step(frame(), 0)
    with pytest.raises(InputError, match="divided into 3 passes"):
        simulator.step(frame(), 3 * MILLISECOND, fields=FrameFields(shot_uniform=frame()))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("contrast_threshold_on", 0.001),
        ("contrast_threshold_off", -1.0),
        ("contrast_threshold_spread", -0.1),
        ("cutoff_hz", -1.0),
        ("leak_rate_hz", float("nan")),
        ("leak_jitter", 1.5),
        ("shot_noise_rate_hz", -1.0),
        ("refractory_period_us", -1.0),
        ("bypass_probability", 1.1),
        ("step_rate_hz", 0.0),
        ("float_full_scale", 0.0),
        ("model", "v3e"),
        ("clock", "wall"),
        ("precision", "float16"),
    ],
)
def test_configuration_out_of_range_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        build(SensorConfig, {field: value})


def test_frames_are_not_modified_and_may_be_read_only() -> None:
    clip = texture(2, SIZE)
    kept = clip.copy()
    clip.flags.writeable = False
    simulator = Simulator(ideal(), SIZE)
    simulator.step(clip[0], 0)
    simulator.step(clip[1][:, ::-1], MILLISECOND)
    np.testing.assert_array_equal(clip, kept)
