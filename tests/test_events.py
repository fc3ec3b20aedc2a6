"""The event stream: columns, slices, windows, validation, conversion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsim.errors import InputError
from evsim.events import Events


def make_events(n: int = 5, *, width: int = 8, height: int = 6, labels: bool = True) -> Events:
    rs = np.random.RandomState(n)
    return Events(
        np.sort(rs.randint(0, 1000, n)).astype(np.int64),
        rs.randint(0, width, n).astype(np.uint16),
        rs.randint(0, height, n).astype(np.uint16),
        rs.randint(0, 2, n).astype(np.uint8),
        width,
        height,
        label=rs.randint(0, 3, n).astype(np.uint8) if labels else None,
    ).validate()


@given(times=st.lists(st.integers(-(2**40), 2**40)), window=st.tuples(st.integers(), st.integers()))
def test_window_is_half_open(times: list[int], window: tuple[int, int]) -> None:
    t0, t1 = (max(-(2**62), min(2**62, t)) for t in window)
    t = np.sort(np.array(times, np.int64))
    zeros = np.zeros(len(t), np.uint16)
    events = Events(t, zeros, zeros, zeros.astype(np.uint8), 1, 1)
    assert events.between(t0, t1).t.tolist() == [time for time in sorted(times) if t0 <= time < t1]


def test_slices_share_memory_and_keep_every_column() -> None:
    events = make_events(20)
    part = events[3:9]
    assert np.shares_memory(part.t, events.t)
    for name in ("t", "x", "y", "p", "label"):
        assert np.array_equal(getattr(part, name), getattr(events, name)[3:9])
    assert (part.width, part.height) == (8, 6)


def test_an_integer_index_is_refused() -> None:
    with pytest.raises(TypeError, match="events\\[i:i \\+ 1\\]"):
        make_events()[2]


def test_events_cannot_be_reassigned() -> None:
    with pytest.raises(AttributeError):
        make_events().t = np.zeros(1, np.int64)


def test_structured_round_trip_has_the_dtype_of_tonic() -> None:
    events = make_events(30, labels=False)
    array = events.to_structured()
    assert array.dtype.names == ("x", "y", "t", "p")
    assert [array.dtype[name].name for name in "xytp"] == ["int16", "int16", "int64", "bool"]
    back = Events.from_structured(array, width=8, height=6)
    for name in "txyp":
        assert np.array_equal(getattr(back, name), getattr(events, name))


def test_signed_polarity_becomes_zero_and_one() -> None:
    array = np.array([(1, 2, 3, -1), (1, 2, 4, 1)], [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "i1")])
    assert Events.from_structured(array, width=4, height=4).p.tolist() == [0, 1]


def test_negative_coordinates_do_not_wrap_into_uint16() -> None:
    array = np.array([(-1, 2, 3, 1)], [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "i1")])
    with pytest.raises(InputError, match=r"x spans -1\.\.-1, expected 0\.\.3"):
        Events.from_structured(array, width=4, height=4)


def test_missing_field_is_named() -> None:
    array = np.zeros(2, [("x", "i2"), ("y", "i2"), ("t", "i8")])
    with pytest.raises(InputError, match=r"missing \['p'\]"):
        Events.from_structured(array, width=4, height=4)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("t", np.array([3, 2, 5], np.int64), "not sorted: event 1 is at 2 us after 3 us"),
        ("t", np.array([1.0, 2.0, 3.0]), "column t is float64, expected int64"),
        (
            "x",
            np.array([0, 9, 1], np.uint16),
            "1 of 3 events lie outside the sensor of 8x6: event 1 has x = 9",
        ),
        ("y", np.array([0, np.nan, 1], np.float32), "event 1 has y = nan"),
        ("y", np.array([0, 1], np.uint16), r"column y has shape \(2,\), expected \(3,\)"),
        ("p", np.array([0, 1, 255], np.uint8), "polarity reaches 255"),
        ("label", np.array([0, 1, 7], np.uint8), "label reaches 7"),
    ],
)
def test_validation_names_column_row_and_value(column: str, value: np.ndarray, message: str) -> None:
    columns = {
        "t": np.arange(3, dtype=np.int64),
        "x": np.zeros(3, np.uint16),
        "y": np.zeros(3, np.uint16),
        "p": np.zeros(3, np.uint8),
        "label": np.zeros(3, np.uint8),
    }
    with pytest.raises(InputError, match=message):
        Events(**{**columns, column: value}, width=8, height=6).validate()


def test_concatenation_restores_the_whole() -> None:
    events = make_events(40)
    parts = [events[:13], events[13:13], events[13:]]
    whole = Events.concatenate(parts)
    for name in ("t", "x", "y", "p", "label"):
        assert np.array_equal(getattr(whole, name), getattr(events, name))


def test_overlapping_parts_are_refused() -> None:
    events = make_events(40)
    with pytest.raises(InputError, match="parts overlap"):
        Events.concatenate([events[20:], events[:20]])
    with pytest.raises(InputError, match="no events to concatenate"):
        Events.concatenate([])


def test_the_empty_stream_is_valid() -> None:
    empty = Events.empty(4, 3, labels=True).validate()
    assert len(empty) == 0
    assert empty.duration_us == 0
    assert len(empty.between(0, 10)) == 0
    assert len(Events.concatenate([empty, empty])) == 0
