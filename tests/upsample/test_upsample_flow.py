"""Flow interpolation against scenes that are known at every time."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
from upsample_scenes import disc_over_background, moving_texture, picture_at, psnr, to_bytes

from evsim.upsample import BlendedPair, MovingPair
from evsim.upsample.dense_flow import dense_flow
from evsim.upsample.flow import FlowInterpolator

SCENES = {
    "translation": (lambda t: moving_texture(t, velocity=(5.3, -3.1)), 42),
    "fast translation": (lambda t: moving_texture(t, velocity=(14, 6)), 40),
    "rotation": (lambda t: moving_texture(t, turn=0.06), 44),
    "both": (lambda t: moving_texture(t, velocity=(4, 2), turn=0.05), 43),
    "disc over background": (lambda t: disc_over_background(t, (9, 4)), 31),
}


@pytest.mark.parametrize("name", SCENES)
def test_known_motion_is_met_far_better_than_by_blending(name):
    scene, least = SCENES[name]
    frame0, frame1 = to_bytes(scene(0)), to_bytes(scene(1))
    flow, blend = FlowInterpolator().prepare(frame0, frame1), BlendedPair(frame0, frame1)
    for fraction in (0.125, 0.5, 0.75):
        reached = psnr(picture_at(flow, fraction), scene(fraction))
        assert reached > least
        assert reached > psnr(picture_at(blend, fraction), scene(fraction)) + 8


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_dark_linear_light_is_matched_as_well_as_code_values(dtype):
    full = 1.0 if dtype == np.float32 else 65535.0

    def dark(time):
        return moving_texture(time, velocity=(6, -2)) / 255 * 0.02

    pair = FlowInterpolator().prepare((dark(0) * full).astype(dtype), (dark(1) * full).astype(dtype))
    assert psnr(picture_at(pair, 0.5) / full / 0.02 * 255, dark(0.5) / 0.02 * 255) > 40


def test_equal_frames_stay_bit_equal():
    image = to_bytes(moving_texture(0))
    pair = FlowInterpolator().prepare(image, image.copy())
    assert all(np.array_equal(picture_at(pair, fraction), image) for fraction in (0.125, 0.3, 0.9))
    assert pair.displacement_px() == 0


def test_resting_parts_beside_a_moving_one_stay_bit_equal():
    frame0, frame1 = (to_bytes(disc_over_background(t, (9, 4))) for t in (0, 1))
    pair = FlowInterpolator().prepare(frame0, frame1)
    y, x = np.mgrid[: frame0.shape[0], : frame0.shape[1]]
    far = np.hypot(x - 74, y - 70) > 56
    assert far.mean() > 0.4
    for fraction in (0.25, 0.5, 0.875):
        assert np.array_equal(picture_at(pair, fraction)[far], frame0[far].astype(np.float32))


def test_a_change_of_light_without_motion_is_blended():
    frame0 = to_bytes(moving_texture(0) * 0.8)
    frame1 = to_bytes(frame0 * 1.1)
    blend = picture_at(BlendedPair(frame0, frame1), 0.4)
    assert np.abs(picture_at(FlowInterpolator().prepare(frame0, frame1), 0.4) - blend).mean() < 0.2


def test_values_stay_within_those_of_the_two_frames():
    frame0, frame1 = (to_bytes(disc_over_background(t, (20, -13))) for t in (0, 1))
    between = picture_at(FlowInterpolator().prepare(frame0, frame1), 0.5)
    assert min(frame0.min(), frame1.min()) <= between.min()
    assert between.max() <= max(frame0.max(), frame1.max())


def test_both_directions_of_time_give_the_same_picture():
    frame0, frame1 = (to_bytes(disc_over_background(t, (9, 4))) for t in (0, 1))
    onward = picture_at(FlowInterpolator().prepare(frame0, frame1), 0.25)
    back = picture_at(FlowInterpolator().prepare(frame1, frame0), 0.75)
    assert np.abs(onward - back).max() < 0.01


def test_colour_moves_as_its_luma_does():
    images = [to_bytes(moving_texture(t, velocity=(5, 3))) for t in (0, 1)]
    grey = picture_at(FlowInterpolator().prepare(*images), 0.5)
    colour = picture_at(
        FlowInterpolator().prepare(*[np.stack([image] * 3, axis=-1) for image in images]), 0.5
    )
    assert np.array_equal(colour, np.stack([grey] * 3, axis=-1))


def test_pictures_asked_for_at_once_are_those_asked_for_one_by_one():
    frame0, frame1 = (to_bytes(disc_over_background(t, (9, 4))) for t in (0, 1))
    for pair in (FlowInterpolator().prepare(frame0, frame1), BlendedPair(frame0, frame1)):
        together = list(pair.pictures([0.25, 0.5, 0.875]))
        for picture, fraction in zip(together, (0.25, 0.5, 0.875), strict=True):
            assert np.array_equal(picture, picture_at(pair, fraction))


def test_the_same_bytes_come_from_any_number_of_threads(monkeypatch):
    monkeypatch.setattr("evsim.kernels.threads.bands.SMALLEST_BAND", 64)
    frame0, frame1 = (to_bytes(disc_over_background(t, (13, -7))) for t in (0, 1))
    before = cv2.getNumThreads()
    results = set()
    try:
        for threads in (1, 2, 5):
            cv2.setNumThreads(threads)
            pair = FlowInterpolator(threads).prepare(frame0, frame1)
            results.add(picture_at(pair, 0.4).tobytes() + np.float64(pair.displacement_px()).tobytes())
    finally:
        cv2.setNumThreads(before)
    assert len(results) == 1


@pytest.mark.parametrize("pair", [FlowInterpolator().prepare, BlendedPair])
def test_pairs_know_their_motion(pair):
    assert isinstance(pair(*[np.zeros((20, 20), np.uint8)] * 2), MovingPair)


def test_flat_and_narrow_pictures_do_not_crash_the_matcher():
    code = (
        "import numpy as np; from evsim.upsample.dense_flow import dense_flow\n"
        "rng = np.random.default_rng(0)\n"
        "for h, w in ((16, 16), (16, 100), (16, 200), (16, 600), (600, 16), (17, 401), (25, 300)):\n"
        "    a = rng.integers(0, 256, (h, w)).astype(np.uint8)\n"
        "    for fast in (False, True):\n"
        "        flow = dense_flow(a, a[::-1].copy(), fast=fast)\n"
        "        assert flow.shape == (h, w, 2) and np.isfinite(flow).all()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_flow_points_from_the_first_picture_to_the_second():
    frame0, frame1 = (to_bytes(moving_texture(t, velocity=(6, -2))) for t in (0, 1))
    flow = dense_flow(frame0, frame1)[20:-20, 20:-20]
    assert np.allclose(np.median(flow, axis=(0, 1)), [6, -2], atol=0.1)
