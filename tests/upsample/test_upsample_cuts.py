"""Cut detection: every join is found, nothing within a shot is."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from upsample_scenes import moving_texture, to_bytes

from evsim.upsample import UpsampleConfig
from evsim.upsample.cuts import CutDetector, scene_similarity

THRESHOLD = UpsampleConfig().cut_threshold
FILM_CUTS = [30, 76, 137, 187, 242]
"""Frames of bikes.mp4 that begin another shot, found by looking at them."""


def cuts_of(images):
    detector = CutDetector(THRESHOLD)
    return [k for k, image in enumerate(images) if detector.cut_before(image)]


def read_video(path, step=1):
    video = cv2.VideoCapture(str(path))
    images = []
    while True:
        arrived, image = video.read()
        if not arrived:
            return images[::step]
        images.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def shot(seed, size=(320, 240), count=2, velocity=(3.0, 2.0)):
    return [to_bytes(moving_texture(k, size=size, velocity=velocity, seed=seed)) for k in range(count)]


@pytest.mark.parametrize("size", [(320, 240), (160, 136), (64, 48)])
def test_joins_of_scenes_are_found(size):
    for seeds in itertools.permutations(range(3), 2):
        images = shot(seeds[0], size, velocity=(0.5, 0.2)) + shot(seeds[1], size, velocity=(0.5, 0.2))
        assert cuts_of(images) == [2]


@pytest.mark.parametrize("shift", [10, 40, 90, 140])
def test_a_fast_pan_is_no_cut(shift):
    wide = to_bytes(moving_texture(0, size=(500, 240)))
    assert scene_similarity(wide[:, :320], wide[:, shift : 320 + shift]) > 0.7


@pytest.mark.parametrize("gain", [0.25, 0.5, 1.3, 2.0])
def test_exposure_steps_are_no_cut(gain):
    first, second = shot(5)
    assert scene_similarity(first, np.clip(second * gain, 0, 255).astype(np.uint8)) > 0.7


@pytest.mark.parametrize("light", [1.0, 0.1])
def test_noise_is_no_cut_and_hides_none(light):
    rng = np.random.default_rng(0)

    def noisy(image):
        return np.clip(image * light + rng.normal(0, 20 * light, image.shape), 0, 255).astype(np.uint8)

    (first, second), (other, _) = shot(5), shot(6)
    assert scene_similarity(noisy(first), noisy(second)) > 0.7
    assert scene_similarity(noisy(first), noisy(other)) < THRESHOLD


def test_noise_alone_shows_no_scene_to_cut():
    rng = np.random.default_rng(0)
    images = [np.clip(rng.normal(8, 3, (240, 320)), 0, 255).astype(np.uint8) for _ in range(4)]
    assert cuts_of(images) == []


def test_a_flicker_of_a_blank_wall_is_no_cut():
    assert cuts_of([np.full((60, 80), value, np.uint8) for value in (20, 200, 0, 255)]) == []


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_every_image_type_is_judged_alike(dtype):
    full = 1.0 if dtype == np.float32 else 65535.0
    images = [(image / 255 * 0.05 * full).astype(dtype) for image in shot(1) + shot(2)]
    assert cuts_of(images) == [2]
    assert cuts_of([np.stack([image] * 3, axis=-1) for image in images]) == [2]


def test_a_small_object_crossing_is_no_cut():
    first, second = shot(3)
    second = second.copy()
    second[40:160, 100:220] = 10
    assert scene_similarity(first, second) > 0.6


@pytest.mark.needs_data
def test_a_film_is_cut_where_its_shots_change(data):
    assert cuts_of(read_video(data / "clips" / "bikes.mp4")) == FILM_CUTS


@pytest.mark.needs_data
@pytest.mark.parametrize("name", ["tree.avi", "bigbuckbunny.mp4", "vid2e_street_346x260/video.mp4"])
def test_single_shots_have_no_cuts_even_across_gaps(data, name):
    images = read_video(data / "clips" / name)
    assert cuts_of(images) == []
    assert cuts_of(images[::3]) == []


@pytest.mark.needs_data
def test_joins_of_real_clips_are_found(data):
    names = ["tree.avi", "bigbuckbunny.mp4", "bikes.mp4", "vid2e_street_346x260/video.mp4"]
    pictures = [read_video(data / "clips" / name)[-1] for name in names]
    for first, second in itertools.permutations(pictures, 2):
        resized = cv2.resize(second, first.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert scene_similarity(first, resized) < THRESHOLD
