"""Events to colours, alone and over images."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.events import Events
from evsim.view import STYLES, overlay, render_events


def events_at(*rows: tuple[float, float, int], width: int = 5, height: int = 4) -> Events:
    """Events (x, y, polarity), one microsecond apart."""
    x, y, p = np.array(rows).reshape(-1, 3).T
    kind = np.uint16 if (x % 1 == 0).all() else np.float32
    t = np.arange(len(rows), dtype=np.int64)
    return Events(t, x.astype(kind), y.astype(kind), p.astype(np.uint8), width, height)


def test_prevailing_polarity_decides_the_colour() -> None:
    events = events_at((0, 0, 1), (4, 3, 0), (2, 1, 1), (2, 1, 0), (3, 2, 0), (3, 2, 0), (3, 2, 1))
    picture = render_events(events)
    style = STYLES["red-blue"]
    assert picture.dtype == np.uint8
    assert picture.shape == (4, 5, 3)
    assert tuple(picture[0, 0]) == style.on
    assert tuple(picture[3, 4]) == style.off
    assert tuple(picture[2, 3]) == style.off
    assert tuple(picture[1, 2]) == style.background
    assert (picture == 255).all(axis=-1).sum() == 4 * 5 - 3


def test_grey_style_is_grey_and_background_can_be_chosen() -> None:
    events = events_at((1, 1, 1), (2, 2, 0))
    grey = render_events(events, "grey")
    assert (grey[..., 0] == grey[..., 1]).all()
    assert [int(grey[1, 1, 0]), int(grey[0, 0, 0]), int(grey[2, 2, 0])] == [255, 128, 0]
    assert tuple(render_events(events, background=(1, 2, 3))[0, 0]) == (1, 2, 3)


def test_full_colour_needs_as_many_events_as_asked() -> None:
    picture = render_events(
        events_at((0, 0, 1), (1, 0, 1), (1, 0, 1), (2, 0, 1), (2, 0, 1), (2, 0, 1)), full_at=2
    )
    half = (np.array(STYLES["red-blue"].on) + 255) / 2
    np.testing.assert_allclose(picture[0, 0], half, atol=0.5)
    assert tuple(picture[0, 1]) == tuple(picture[0, 2]) == STYLES["red-blue"].on


def test_sub_pixel_events_count_for_their_pixel() -> None:
    picture = render_events(events_at((1.9, 2.1, 1)))
    assert tuple(picture[2, 1]) == STYLES["red-blue"].on


def test_no_events_give_the_background() -> None:
    for style in STYLES.values():
        assert (render_events(Events.empty(3, 2), background=style.background) == style.background).all()


@pytest.mark.parametrize(("x", "y"), [(5, 0), (0, 4), (-0.5, 0)])
def test_events_outside_the_sensor_are_refused(x: float, y: float) -> None:
    events = events_at((x, y, 1))
    with pytest.raises(InputError, match="5x4"):
        render_events(events)


def test_unknown_style_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'red-blue'"):
        render_events(Events.empty(3, 2), "red-bleu")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_overlay_keeps_the_image_where_nothing_happened(dtype: type) -> None:
    codes = np.arange(20, dtype=np.uint8).reshape(4, 5) * 10
    image: NDArray[np.generic] = codes
    if dtype is np.uint16:
        image = codes.astype(np.uint16) * 257
    if dtype is np.float32:
        image = codes / np.float32(255)
    before = image.copy()
    picture = overlay(image, events_at((2, 2, 1), (3, 3, 0)))
    assert tuple(picture[2, 2]) == STYLES["red-blue"].on
    assert tuple(picture[3, 3]) == STYLES["red-blue"].off
    picture[2, 2] = codes[2, 2]
    picture[3, 3] = codes[3, 3]
    np.testing.assert_array_equal(picture, np.repeat(codes[..., None], 3, axis=2))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("shape", [(8, 10), (2, 3), (4, 5)], ids=["larger", "halved", "equal"])
def test_overlay_enlarges_the_smaller_of_image_and_events(shape: tuple[int, int]) -> None:
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape) * 3
    picture = overlay(image, events_at((4, 1, 1)))
    height, width = max(4, shape[0]), max(5, shape[1])
    assert picture.shape == (height, width, 3)
    for row in range(height):
        for column in range(width):
            wanted = (image[row * shape[0] // height, column * shape[1] // width],) * 3
            if (row * 4 // height, column * 5 // width) == (1, 4):
                wanted = STYLES["red-blue"].on
            assert tuple(picture[row, column]) == wanted, (row, column)


def test_overlay_blends_and_refuses_another_proportion() -> None:
    image = np.full((4, 5, 3), 100, np.uint8)
    blended = overlay(image, events_at((0, 0, 1)), opacity=0.5)
    np.testing.assert_allclose(blended[0, 0], (np.array(STYLES["red-blue"].on) + 100) / 2, atol=0.5)
    with pytest.raises(InputError, match="resize"):
        overlay(image[:2], events_at((0, 0, 1)))
