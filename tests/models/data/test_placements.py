"""Placements and augmentations: everything in a stretch moves together, and what is done can be undone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from recorded import drawn_events

from evsim.configuration import build, to_tree
from evsim.errors import ConfigError, InputError
from evsim.events import Events
from evsim.models.data.augmentation import AugmentationConfig, Placement, draw_placement
from evsim.models.data.event_augmentation import (
    DropEvents,
    EventAugmentationConfig,
    HotPixels,
    InvertPolarity,
    NoiseEvents,
    Pauses,
    augment_events,
)
from evsim.models.data.stretch import NO_IMAGE, Stretch, TimedFlow, reverse
from evsim.randomness import RandomDraws
from evsim.timed_image import TimedImage

SIZE = (20, 16)
placements = st.builds(
    Placement,
    left=st.integers(0, 8),
    top=st.integers(0, 6),
    width=st.sampled_from([10, 12]),
    height=st.sampled_from([8, 10]),
    flip_x=st.booleans(),
    flip_y=st.booleans(),
    quarter_turns=st.integers(0, 3),
    reverse_time=st.booleans(),
)


def whole(**changes: Any) -> Placement:
    return Placement(left=0, top=0, width=SIZE[0], height=SIZE[1], **changes)


def recorded(seed: int = 5, scale: int = 1, windows: int = 3, labels: bool = False) -> Stretch:
    """Windows of 30 ms between drawn images of `scale` times the sensor's size, half exposed."""
    rs = np.random.RandomState(seed)
    events = drawn_events(seed, 400, SIZE)
    if labels:
        events = replace(events, label=rs.randint(0, 3, 400).astype(np.uint8))
    edges = np.arange(windows + 1) * 90_000.0 / windows
    pictures = [enlarged(rs.randint(0, 256, SIZE[::-1]).astype(np.uint8), scale) for _ in edges]
    images = tuple(TimedImage(image, t, 7_500.0, "blurry") for image, t in zip(pictures, edges))
    flows = tuple(
        TimedFlow(rs.standard_normal((*pictures[0].shape, 2)).astype(np.float32), edges[a], edges[b])
        for a, b in ((0, 1), (1, 0))
    )
    rows = np.searchsorted(events.t, np.stack([edges[:-1], edges[1:]], 1), "right")
    rows[0, 0] = 0
    return Stretch(
        events,
        images,
        rows,
        np.stack([edges[:-1], edges[1:]], 1),
        np.arange(1, windows + 1),
        (float(scale), float(scale)),
        "clip, windows 0 to 2",
        np.arange(windows),
        flows,
    )


def enlarged(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    return np.kron(image, np.ones((scale, scale), np.uint8))


def rendered(events: Events) -> NDArray[np.int64]:
    counts = np.zeros((events.height, events.width, 2), np.int64)
    np.add.at(counts, (events.y, events.x, events.p), 1)
    return counts


def assert_equal(a: Stretch, b: Stretch) -> None:
    for name in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(getattr(a.events, name), getattr(b.events, name))
    if b.events.label is not None:
        np.testing.assert_array_equal(a.events.label, b.events.label)
    assert (a.events.width, a.events.height) == (b.events.width, b.events.height)
    for name in ("rows", "edges_us", "window_images", "opening_images"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.image_scale, a.key, len(a.images), len(a.flows)) == (
        b.image_scale,
        b.key,
        len(b.images),
        len(b.flows),
    )
    for one, other in zip((*a.images, *a.flows), (*b.images, *b.flows)):
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:] == other[1:]


# Placements


@given(placements, st.sampled_from([1, 2, 3]))
def test_what_is_rendered_moves_with_its_events(placement: Placement, scale: int) -> None:
    stretch = recorded(scale=scale)
    moved = placement.stretch(stretch)
    moved.events.validate()
    assert (moved.events.width, moved.events.height) == placement.size
    order = range(len(stretch))[::-1] if placement.reverse_time else range(len(stretch))
    for window, source in enumerate(order):
        wanted = placement.image(rendered(stretch.window(source)))
        if placement.reverse_time:
            wanted = wanted[..., ::-1]
        np.testing.assert_array_equal(rendered(moved.window(window)), wanted)
    # A pixel of the events covers the same pixels of the images as before.
    small = [image.image[::scale, ::scale] for image in stretch.images]
    for image, source in zip(moved.images, small[:: -1 if placement.reverse_time else 1]):
        np.testing.assert_array_equal(image.image, enlarged(placement.image(source), scale))


@given(placements)
def test_flows_lead_to_the_same_brightness_before_and_after(placement: Placement) -> None:
    """Brightness is a smooth pattern that moves; the moved flow leads from one moved image to the other."""
    placement = replace(placement, reverse_time=False)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]].astype(np.float64)

    def pattern(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        return 3 * x + 50 * y  # linear, so that it is known between pixels

    flow = np.stack([np.full(x.shape, 1.25), 0.5 + 0 * y], -1).astype(np.float32)
    first, second = pattern(x, y), pattern(x - 1.25, y - 0.5)
    moved, before, after = placement.flow(flow), placement.image(first), placement.image(second)
    slope = after[0, 1] - after[0, 0], after[1, 0] - after[0, 0]
    there = after + slope[0] * moved[..., 0] + slope[1] * moved[..., 1]
    np.testing.assert_allclose(there, before, atol=1e-4)


@pytest.mark.parametrize("change", [{"flip_x": True}, {"flip_y": True}, {"quarter_turns": 2}])
def test_doing_it_twice_undoes_it(change: dict[str, Any]) -> None:
    stretch, placement = recorded(scale=2), whole(**change)
    once = placement.stretch(stretch)
    assert not np.array_equal(once.events.x, stretch.events.x) or change == {"flip_y": True}
    assert_equal(placement.stretch(once), stretch)


def test_four_quarter_turns_undo_themselves() -> None:
    stretch = recorded(scale=2)
    turned = stretch
    for _ in range(4):
        size = turned.events.width, turned.events.height
        turned = Placement(left=0, top=0, width=size[0], height=size[1], quarter_turns=1).stretch(turned)
    assert_equal(turned, stretch)
    corner = Events.empty(3, 2)
    corner = replace(corner, t=np.array([0]), x=np.uint16([2]), y=np.uint16([0]), p=np.uint8([1]))
    once = Placement(left=0, top=0, width=3, height=2, quarter_turns=1).events(corner)
    assert (int(once.x[0]), int(once.y[0]), once.width, once.height) == (0, 0, 2, 3)


@given(begin=st.floats(0, 1e9), length=st.floats(1, 1e6))
def test_time_reversed_twice_is_as_it_was(begin: float, length: float) -> None:
    events = Events.empty(4, 4, labels=True)
    times = np.arange(np.ceil(begin), np.floor(begin + length), max(1, length / 9)).astype(np.int64)
    n = len(times)
    events = replace(
        events,
        t=times,
        x=np.arange(n, dtype=np.uint16) % 4,
        y=np.zeros(n, np.uint16),
        p=np.arange(n, dtype=np.uint8) % 2,
        label=np.zeros(n, np.uint8),
    )
    stretch = Stretch(
        events, (), np.array([[0, n]]), np.array([[begin, begin + length]]), np.array([NO_IMAGE])
    )
    backwards = reverse(stretch)
    backwards.events.validate()
    again = reverse(backwards)
    assert again.events.t.tolist() == times.tolist()
    np.testing.assert_allclose(again.edges_us, stretch.edges_us, atol=1e-6)


def test_reversed_time_has_the_other_polarity_and_the_images_of_the_other_end() -> None:
    stretch = recorded(labels=True)
    backwards = reverse(stretch)
    assert_equal(reverse(backwards), stretch)
    assert backwards.events.t.tolist() == (90_000 - stretch.events.t[::-1]).tolist()
    assert backwards.events.p.tolist() == (1 - stretch.events.p[::-1]).tolist()
    assert backwards.edges_us.tolist() == stretch.edges_us.tolist()
    # The exposure of the last image, 82.5 ms to 90 ms, has become one from 0 to 7.5 ms.
    assert [image.t_us for image in backwards.images] == [7_500, 37_500, 67_500, 97_500]
    for window in range(3):
        for found, wanted in (
            (backwards.window_image(window), stretch.opening_image(2 - window)),
            (backwards.opening_image(window), stretch.window_image(2 - window)),
        ):
            assert found is not None
            assert wanted is not None
            np.testing.assert_array_equal(found.image, wanted.image)
    # What led from 0 to 30 ms leads from 90 to 60 ms: what was the forward flow is the backward one.
    assert [flow[1:] for flow in backwards.flows] == [(60_000, 90_000), (90_000, 60_000)]
    np.testing.assert_array_equal(backwards.flows[1].flow, stretch.flows[0].flow)


def test_crops_that_halve_a_pixel_of_an_image_are_refused_and_never_drawn() -> None:
    odd = Placement(left=3, top=2, width=8, height=8)
    with pytest.raises(InputError, match=r"left = 3 pixels of the events are 3/2 .* in multiples of 2"):
        odd.scaled((0.5, 0.5))
    assert Placement(left=4, top=2, width=8, height=8).scaled((0.5, 1.5)) == Placement(
        left=2, top=3, width=4, height=12
    )
    config = AugmentationConfig(crop=(8, 8))
    drawn = {
        (found.left, found.top)
        for k in range(200)
        for found in [draw_placement(config, SIZE, RandomDraws(0, str(k), "test"), (1 / 2, 1 / 3))]
    }
    assert drawn == {(left, top) for left in range(0, 13, 2) for top in range(0, 9, 3)}


def test_every_turn_is_drawn_and_nothing_new_moves_what_was_drawn_before() -> None:
    def drawn(**changes: Any) -> list[Placement]:
        config = AugmentationConfig(crop=(8, 8), flip_y=0.5, **changes)
        return [draw_placement(config, SIZE, RandomDraws(0, str(k), "test")) for k in range(300)]

    plain, varied = drawn(), drawn(quarter_turns=0.75, reverse_time=0.5)
    assert [replace(found, quarter_turns=0, reverse_time=False) for found in varied] == plain
    turns = [found.quarter_turns for found in varied]
    assert all(60 < turns.count(turn) < 90 for turn in range(4))
    assert 120 < sum(found.reverse_time for found in varied) < 180
    validated = AugmentationConfig(crop=(8, 8), quarter_turns=1.0, reverse_time=1.0, flip_y=1.0)
    assert draw_placement(validated.without_draws(), SIZE, RandomDraws(0, "", "")) == Placement(
        left=6, top=4, width=8, height=8
    )
    with pytest.raises(ConfigError, match="expected a square"):
        AugmentationConfig(crop=(8, 9), quarter_turns=0.5)
    with pytest.raises(InputError, match="quarter turns of 20x16"):
        draw_placement(AugmentationConfig(quarter_turns=0.5), SIZE, RandomDraws(0, "", ""))


def test_fields_that_came_later_are_written_only_where_they_are_set() -> None:
    assert set(to_tree(AugmentationConfig())) == {"crop", "random_crop", "flip_x", "flip_y"}
    config = AugmentationConfig(quarter_turns=0.5, crop=(8, 8), events=EventAugmentationConfig(drop=0.1))
    assert build(AugmentationConfig, to_tree(config)) == config


# Events alone


def test_events_are_left_out_at_a_drawn_rate() -> None:
    stretch = recorded()
    shares = []
    for k in range(60):
        found = DropEvents(0.4)(stretch, RandomDraws(0, str(k), "test"))
        shares.append(1 - len(found.events) / len(stretch.events))
        for window in range(3):
            assert set(found.window(window).t) <= set(stretch.window(window).t)
    assert min(shares) < 0.06 < 0.34 < max(shares) < 0.5


@pytest.mark.parametrize("augmentation", [NoiseEvents(50.0), HotPixels(0.02, 900.0)])
def test_added_events_are_in_order_inside_and_in_their_windows(augmentation: Any) -> None:
    stretch = recorded(labels=True)
    found = augmentation(stretch, RandomDraws(3, "", "test"))
    found.events.validate()
    assert len(found.events) > len(stretch.events)
    for window, (begin, end) in enumerate(found.edges_us):
        inside = found.window(window).t
        assert inside.tolist() == found.events.t[(found.events.t > begin) & (found.events.t <= end)].tolist()


def test_noise_has_the_rate_that_it_is_told() -> None:
    stretch = recorded()
    added = [
        len(NoiseEvents(100.0)(stretch, RandomDraws(0, str(k), "test")).events) - len(stretch.events)
        for k in range(200)
    ]
    # A Poisson number whose mean is uniform between 0 and 100 Hz x 320 pixels x 90 ms = 2880.
    assert abs(np.mean(added) - 1440) < 200
    assert abs(np.std(added) - 2880 / 12**0.5) < 120


def test_hot_pixels_are_few_and_of_one_polarity_each() -> None:
    nothing = recorded()
    nothing = replace(nothing, events=nothing.events[:0], rows=0 * nothing.rows)
    found = HotPixels(0.02, 2000.0)(nothing, RandomDraws(3, "", "test")).events
    pixels = {(int(x), int(y)) for x, y in zip(found.x, found.y)}
    assert 1 <= len(pixels) <= 0.02 * SIZE[0] * SIZE[1]
    assert len({(int(x), int(y), int(p)) for x, y, p in zip(found.x, found.y, found.p)}) == len(pixels)
    assert 0.6 < len(found) / (len(pixels) * 2000 * 0.09) < 1.4


def test_polarity_is_inverted_and_back() -> None:
    stretch, invert, draws = recorded(), InvertPolarity(1.0), RandomDraws(0, "", "")
    once = invert(stretch, draws)
    assert once.events.p.tolist() == (1 - stretch.events.p).tolist()
    assert_equal(invert(once, draws), stretch)
    kept = [
        InvertPolarity(0.5)(stretch, RandomDraws(0, str(k), "")).events is stretch.events for k in range(99)
    ]
    assert 30 < sum(kept) < 70


def test_a_pause_repeats_the_image_and_has_no_events() -> None:
    stretch = replace(recorded(windows=4), flows=())
    found = Pauses(begin=1.0, stay=0.0)(stretch, RandomDraws(0, "", ""))  # shows, pauses, shows, pauses
    found.events.validate()
    assert [len(found.window(k)) for k in (1, 3)] == [0, 0]
    assert found.edges_us.tolist() == stretch.edges_us.tolist()
    for window, source, delay in ((0, 0, 0), (2, 1, 22_500)):
        assert found.window(window).t.tolist() == (stretch.window(source).t + delay).tolist()
        assert found.window(window).x.tolist() == stretch.window(source).x.tolist()
        for image in (found.window_image(window), found.window_image(window + 1)):
            assert image is not None
            np.testing.assert_array_equal(image.image, stretch.images[source + 1].image)
    assert [image.t_us for image in found.images] == stretch.edges_us[:, 0].tolist() + [90_000]
    assert found.opening_images.tolist() == [0, 1, 2, 3]
    assert found.window_images.tolist() == [1, 2, 3, 4]
    assert_equal(Pauses(begin=0.0, stay=0.9)(stretch, RandomDraws(0, "", "")), stretch)


def test_augmentations_draw_from_streams_of_their_own() -> None:
    stretch = recorded()
    noise = EventAugmentationConfig(noise_rate_hz=20.0)
    draws, others = RandomDraws(1, "", ""), RandomDraws(1, "", "")
    alone = augment_events(noise, stretch, draws)
    assert augment_events(EventAugmentationConfig(), stretch, others) is stretch
    assert draws.fraction() == others.fraction()
    both = augment_events(replace(noise, invert_polarity=1.0), stretch, RandomDraws(1, "", ""))
    assert both.events.t.tolist() == alone.events.t.tolist()
    assert both.events.p.tolist() == (1 - alone.events.p).tolist()
    with pytest.raises(ConfigError, match=r"drop = 1\.5"):
        EventAugmentationConfig(drop=1.5)


# What a stretch refuses


def test_windows_and_images_must_match_the_events() -> None:
    stretch = recorded()
    with pytest.raises(InputError, match="windows reach outside the 400 events"):
        replace(stretch, rows=stretch.rows + 100)
    with pytest.raises(InputError, match="window_images name other than the 3 images"):
        replace(stretch, images=stretch.images[:3])
    with pytest.raises(InputError, match=r"edges_us has shape \(2, 2\), expected \(3, 2\)"):
        replace(stretch, edges_us=stretch.edges_us[:2])
    with pytest.raises(InputError, match="clip, windows 0 to 2: image 0 is 20x16, expected 40x32"):
        replace(stretch, image_scale=(2.0, 2.0))
