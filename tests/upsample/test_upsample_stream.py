"""The stream: counts, times, untouched source frames, cuts, refusals, constant memory."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from upsample_scenes import clip_of, moving_texture, to_bytes

from evsim.configuration import build
from evsim.errors import ConfigError, InputError
from evsim.media.frame import Frame
from evsim.upsample import BlendedPair, UpsampleConfig, adaptive_factor, interpolated_times, upsample


class Blend:
    """The plainest interpolator, without a motion to adapt to."""

    def __init__(self, count=None):
        self.files = {}
        self.pairs, self.count, self.asked = 0, count, []

    def prepare(self, frame0, frame1):
        self.pairs += 1
        return OnlyPictures(BlendedPair(frame0, frame1), self)


class OnlyPictures:
    def __init__(self, pair, owner):
        self.pair, self.owner = pair, owner

    def pictures(self, fractions):
        self.owner.asked.append(list(fractions))
        return list(self.pair.pictures(fractions))[: self.owner.count]


def moving(count, dtype=np.uint8, colour=False):
    images = []
    for k in range(count):
        picture = moving_texture(k, size=(48, 40), velocity=(1.5, 0.5)) / 255
        picture = np.stack([picture, picture**2, 1 - picture], axis=-1) if colour else picture
        full = 1 if dtype == np.float32 else np.iinfo(dtype).max
        images.append((picture * full).round(0 if full > 1 else 6).astype(dtype))
    return clip_of(*images)


def shot_change(count=3):
    first = [to_bytes(moving_texture(k, velocity=(2, 1), seed=3)) for k in range(count)]
    second = [to_bytes(moving_texture(k, velocity=(2, 1), seed=4)) for k in range(count)]
    return clip_of(*first, *second)


@pytest.mark.parametrize("factor", [1, 2, 3, 8])
def test_n_frames_become_n_minus_one_times_factor_plus_one(factor):
    frames = list(upsample(moving(4), UpsampleConfig(factor=factor)))
    assert len(frames) == 3 * factor + 1
    assert [f.source_index for f in frames[::factor]] == [0, 1, 2, 3]
    assert [f.source_index for f in frames].count(None) == 3 * (factor - 1)


def test_a_clip_without_intervals_passes_unchanged():
    assert list(upsample([])) == []
    (source,) = moving(1)
    assert list(upsample([source])) == [source]


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_source_frames_pass_bit_exact_and_interpolated_ones_have_their_type(dtype, colour):
    source = moving(3, dtype, colour)
    copies = [frame.image.copy() for frame in source]
    frames = list(upsample(source, UpsampleConfig(factor=3)))
    assert all(out.image is given.image for out, given in zip(frames[::3], source))
    assert all(np.array_equal(out.image, copy) for out, copy in zip(frames[::3], copies))
    assert {frame.image.dtype for frame in frames} == {np.dtype(dtype)}
    assert {frame.image.shape for frame in frames} == {source[0].image.shape}


def test_interpolated_frames_can_stay_unrounded():
    frames = list(upsample(moving(2), UpsampleConfig(factor=4, interpolated_dtype="float32")))
    assert [f.image.dtype for f in frames] == [np.uint8, *[np.float32] * 3, np.uint8]
    rounded = list(upsample(moving(2), UpsampleConfig(factor=4)))
    for exact, whole in zip(frames[1:4], rounded[1:4]):
        assert np.abs(exact.image * 255 - whole.image).max() <= 0.5 + 1e-4


def test_rounding_is_to_nearest_so_the_mean_does_not_ripple():
    images = [np.full((20, 20), value, np.uint8) for value in (10, 11)]
    frames = list(upsample(clip_of(*images), UpsampleConfig(factor=8)))
    assert [int(f.image[0, 0]) for f in frames] == [10, 10, 10, 10, 10, 11, 11, 11, 11]


def test_times_are_exact_and_increase():
    times = [0, 33_366_667, 66_733_333, 1_000_000_000_000_000_003]
    images = [frame.image for frame in moving(4)]
    source = [Frame(image, t, source_index=k) for k, (image, t) in enumerate(zip(images, times))]
    frames = list(upsample(source, UpsampleConfig(factor=7), interpolator=Blend()))
    for k, frame in enumerate(frames):
        pair, step = divmod(k, 7)
        start, end = times[pair], times[min(pair + 1, 3)]
        assert abs(frame.t_ns - (start + Fraction(step * (end - start), 7))) <= Fraction(1, 2)
        assert isinstance(frame.t_ns, int)
    assert all(a.t_ns < b.t_ns for a, b in pairwise(frames))


@given(st.integers(-(2**62), 2**62), st.integers(1, 2**50), st.integers(1, 64))
def test_interpolated_times_are_the_nearest_nanosecond(start, interval, factor):
    if interval < factor:
        with pytest.raises(InputError, match="no room"):
            interpolated_times(start, start + interval, factor)
        return
    times = interpolated_times(start, start + interval, factor)
    exact = [start + Fraction(k * interval, factor) for k in range(1, factor)]
    assert all(abs(time - ideal) <= Fraction(1, 2) for time, ideal in zip(times, exact))
    assert all(a < b for a, b in pairwise([start, *times, start + interval]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_static_pair_gives_bit_identical_frames(dtype):
    image = moving(1, dtype, True)[0].image
    frames = list(upsample(clip_of(image, image.copy(), image.copy()), UpsampleConfig(factor=8)))
    assert len(frames) == 17
    assert all(np.array_equal(frame.image, image) for frame in frames)


def test_a_detected_cut_holds_the_old_scene_and_flags_the_new():
    source = shot_change()
    frames = list(upsample(source, UpsampleConfig(factor=4)))
    assert [k for k, frame in enumerate(frames) if frame.cut] == [12]
    assert frames[12].image is source[3].image
    assert all(np.array_equal(frame.image, source[2].image) for frame in frames[9:12])
    assert len(frames) == 5 * 4 + 1
    assert not np.array_equal(frames[13].image, source[3].image)


def test_a_cut_marked_by_the_source_is_respected_without_detection():
    source = moving(4)
    source[2] = source[2]._replace(cut=True)
    frames = list(upsample(source, UpsampleConfig(factor=3, detect_cuts=False)))
    assert [k for k, frame in enumerate(frames) if frame.cut] == [6]
    assert all(np.array_equal(frame.image, source[1].image) for frame in frames[4:6])


def test_an_undetected_cut_is_interpolated_where_detection_is_off():
    assert not any(f.cut for f in upsample(shot_change(), UpsampleConfig(factor=2, detect_cuts=False)))


def test_method_none_still_flags_cuts():
    source = shot_change()
    frames = list(upsample(source, UpsampleConfig(method="none")))
    assert [frame.cut for frame in frames] == [False, False, False, True, False, False]
    assert all(out.image is given.image for out, given in zip(frames, source))


def test_a_callable_interpolator_replaces_the_flow():
    blend = Blend()
    source = moving(3)
    frames = list(upsample(source, UpsampleConfig(factor=2), interpolator=blend))
    expected = np.rint((source[0].image.astype(float) + source[1].image) / 2)
    assert blend.pairs == 2
    assert np.abs(frames[1].image - expected).max() <= 1


def test_all_pictures_of_a_pair_are_asked_for_at_once():
    blend = Blend()
    list(upsample(moving(3), UpsampleConfig(factor=4), interpolator=blend))
    assert blend.asked == [[0.25, 0.5, 0.75]] * 2


def test_pictures_are_taken_as_they_are_wanted():
    made = []

    class Lazy(Blend):
        def prepare(self, frame0, frame1):
            pair = BlendedPair(frame0, frame1)

            class Counted:
                def pictures(self, fractions):
                    for picture in pair.pictures(fractions):
                        made.append(picture)
                        yield picture

            return Counted()

    stream = upsample(moving(2), UpsampleConfig(factor=32), interpolator=Lazy())
    for _ in range(4):
        next(stream)
    assert len(made) == 3


def test_an_interpolator_that_gives_too_few_pictures_is_refused():
    with pytest.raises(InputError, match="gave 2 pictures after 7 ns, expected 3"):
        list(upsample(moving(2), UpsampleConfig(factor=4), interpolator=Blend(count=2)))


@pytest.mark.parametrize(
    "size", [(1, 1), (7, 5), (1, 40), (15, 400), (17, 13), (17, 16), (16, 600), (600, 17)]
)
def test_any_image_size_works(size):
    rng = np.random.default_rng(0)
    for shape in ((size[1], size[0]), (size[1], size[0], 3)):
        images = [rng.integers(0, 256, shape).astype(np.uint8) for _ in range(2)]
        frames = list(upsample(clip_of(*images), UpsampleConfig(factor=3, detect_cuts=False)))
        assert [frame.image.shape for frame in frames] == [shape] * 4
        list(upsample(clip_of(*images), UpsampleConfig(factor=2, adaptive=True)))


def test_images_too_small_to_match_are_blended():
    images = [np.full((5, 7), value, np.uint16) for value in (100, 200)]
    frames = list(upsample(clip_of(*images), UpsampleConfig(factor=4)))
    assert [int(frame.image[2, 3]) for frame in frames] == [100, 125, 150, 175, 200]


def test_the_factor_follows_the_motion():
    def count(velocity, **config):
        source = clip_of(*[to_bytes(moving_texture(k, velocity=(velocity, 0))) for k in range(2)])
        return len(list(upsample(source, UpsampleConfig(adaptive=True, **config)))) - 1

    assert count(0) == 1
    assert 5 <= count(5) <= 6
    assert 10 <= count(5, max_displacement_px=0.5) <= 12
    assert count(12, max_factor=4) == 4


@pytest.mark.parametrize(
    ("displacement", "expected"),
    [(0, 1), (1e-12, 1), (0.4, 1), (1, 1), (1.01, 2), (7.5, 8), (1e9, 32), (np.inf, 32)],
)
def test_the_adaptive_factor_is_finite_and_at_least_one(displacement, expected):
    assert adaptive_factor(displacement, 1.0, 32) == expected


def test_an_adaptive_factor_needs_an_interpolator_that_knows_motion():
    with pytest.raises(InputError, match="displacement_px"):
        list(upsample(moving(2), UpsampleConfig(adaptive=True), interpolator=Blend()))


def test_an_interpolator_with_method_none_is_refused():
    with pytest.raises(InputError, match="method 'none'"):
        upsample(moving(2), UpsampleConfig(method="none"), interpolator=Blend())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f._replace(t_ns=0), "increase strictly"),
        (lambda f: f._replace(image=f.image[:-1]), "must agree"),
        (lambda f: f._replace(image=f.image.astype(np.uint16)), "must agree"),
        (lambda f: f._replace(image=f.image.astype(np.float64)), "float64"),
    ],
)
def test_frames_that_do_not_follow_are_refused(change, words):
    source = moving(2)
    source[1] = change(source[1])
    with pytest.raises(InputError, match=words):
        list(upsample(source, UpsampleConfig(factor=2)))


def test_views_and_values_beside_the_nominal_range_are_taken():
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (80, 120, 3)).astype(np.uint8)[::2, ::-1, ::-1]
    colour.flags.writeable = False
    signed = rng.normal(0, 10, (40, 60)).astype(np.float32)
    for image in (colour, signed):
        images = [image, np.roll(image, 2, axis=1), np.roll(image, 4, axis=1)]
        frames = list(upsample(clip_of(*images), UpsampleConfig(factor=2)))
        assert len(frames) == 5
        assert all(np.isfinite(frame.image).all() for frame in frames)


def test_values_that_are_no_light_are_refused():
    source = moving(2, np.float32)
    source[1].image[3, 4] = np.nan
    with pytest.raises(InputError, match="1 values that are NaN"):
        list(upsample(source))


@pytest.mark.parametrize("shape", [(4, 4, 4), (0, 4), (4,)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match="expected"):
        list(upsample([Frame(np.zeros(shape, np.uint8), 0)]))


@pytest.mark.parametrize(
    "fields", [{"factor": 0}, {"max_factor": 0}, {"max_displacement_px": 0.0}, {"cut_threshold": 1.5}]
)
def test_values_out_of_range_are_refused(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        build(UpsampleConfig, fields)


def test_memory_holds_two_source_frames():
    alive: list[weakref.ref] = []

    class Tracked(np.ndarray):
        pass

    def source():
        for k in range(6):
            image = to_bytes(moving_texture(k, size=(48, 40), velocity=(1, 0))).view(Tracked)
            alive.append(weakref.ref(image))
            yield Frame(image, k * 1000, source_index=k)
            del image

    most = 0
    for frame in upsample(source(), UpsampleConfig(factor=2)):
        del frame
        gc.collect()
        most = max(most, sum(image() is not None for image in alive))
    assert most <= 3  # the pair, and the one that the source's own last yield still holds


def test_frames_come_before_the_source_ends():
    def endless():
        for k in range(10**9):
            yield Frame(to_bytes(moving_texture(k, size=(48, 40), velocity=(1, 0))), k * 1000, source_index=k)

    stream = upsample(endless(), UpsampleConfig(factor=2))
    assert [next(stream).source_index for _ in range(5)] == [0, None, 1, None, 2]


def test_importing_the_package_loads_neither_opencv_nor_numba():
    code = "import sys, evsim.upsample; print([m for m in ('cv2', 'numba', 'torch') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
