"""A camera that moves over a still picture: its motion is the ground truth of the footage."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from evsim.errors import InputError
from evsim.media import CameraMotion, Keyframe, MediaWarning, StillImageSource
from evsim.media.still import MOTION_PATHS

WIDTH, HEIGHT = 400, 300


def ramp() -> np.ndarray:
    """Linear in x and y: its value tells where a pixel was sampled."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    return np.dstack([x, y, np.zeros_like(x)]) / 1000


def waves() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (0.5 + 0.2 * np.sin(x / 20) + 0.2 * np.cos(y / 15)).astype(np.float32)


def source(picture: np.ndarray, motion: CameraMotion, **options: object) -> StillImageSource:
    settings = {"duration_s": 1.0, "fps": 20.0, "size": (100, 80)} | options
    return StillImageSource(picture, motion, **settings)  # type: ignore[arg-type]


MOTIONS = [
    CameraMotion(path=path, amplitude_px=15, rotation_deg=4, zoom=1.3, cycles=2) for path in MOTION_PATHS
]


@pytest.mark.parametrize("motion", MOTIONS, ids=MOTION_PATHS)
@pytest.mark.parametrize(
    # Averaging by area over fractional pixels may shift a sample by 0.05 of a picture pixel.
    ("picture_scale", "tolerance"),
    [(None, 0.05), (1.0, 0.002)],
)
def test_every_pixel_is_where_the_pose_says(
    motion: CameraMotion, picture_scale: float | None, tolerance: float
) -> None:
    clip = source(ramp(), motion, picture_scale=picture_scale)
    y, x = np.mgrid[:80, :100]
    pixels = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    for frame in clip:
        where = clip.pose(frame.t_ns) @ pixels
        sampled = frame.image.reshape(-1, 3)[:, :2].T * 1000
        inside = ((where > 4) & (where < np.array([[WIDTH - 5], [HEIGHT - 5]]))).all(axis=0)
        assert inside.mean() > 0.8
        np.testing.assert_allclose(sampled[:, inside], where[:, inside], rtol=0, atol=tolerance)


@pytest.mark.parametrize("motion", MOTIONS, ids=MOTION_PATHS)
def test_the_camera_never_leaves_the_picture(motion: CameraMotion) -> None:
    clip = source(waves(), motion, fps=200.0)
    corners = np.array([[0, 99, 0, 99], [0, 0, 79, 79], [1, 1, 1, 1]])
    seen = np.stack([clip.pose(round(k * 1e9 / 200)) @ corners for k in range(201)])
    assert seen.min() >= -0.5
    assert (seen.max(axis=(0, 2)) <= [WIDTH - 0.5, HEIGHT - 0.5]).all()
    # The picture is used to its border in at least one direction: no needless magnification.
    slack = np.minimum(seen.min(axis=(0, 2)), [WIDTH, HEIGHT] - seen.max(axis=(0, 2)))
    assert slack.min() < 20


def test_motion_between_times_follows_a_point() -> None:
    clip = source(waves(), MOTIONS[2])
    point = np.array([30.0, 40.0, 1.0])
    moved = clip.motion_between(0, 300_000_000) @ point
    np.testing.assert_allclose(
        clip.pose(300_000_000) @ [*moved, 1.0], clip.pose(0) @ point, rtol=0, atol=1e-9
    )


def test_amplitude_is_in_output_pixels() -> None:
    clip = source(waves(), CameraMotion(path="pan", amplitude_px=15, cycles=0.5))
    shift = clip.motion_between(0, 10**9)
    np.testing.assert_allclose(shift, [[1, 0, -30], [0, 1, 0]], atol=1e-9)


def test_zoom_magnifies() -> None:
    clip = source(waves(), CameraMotion(path="zoom-rotate", zoom=1.5))
    linear = clip.motion_between(0, 500_000_000)[:, :2]
    np.testing.assert_allclose(linear, 1.5 * np.eye(2), atol=1e-9)


def test_camera_passes_through_its_keyframes() -> None:
    keys = (Keyframe(0.0), Keyframe(0.4, dx=20, dy=-5, rotation_deg=90, zoom=0.5), Keyframe(1.0, dx=3))
    dx, dy, angle, log_zoom = CameraMotion(keyframes=keys).at(np.array(0.4))
    np.testing.assert_allclose([dx, dy, np.degrees(angle), np.exp(log_zoom)], [20, -5, 90, 0.5])


def test_sub_pixel_motion_is_not_quantised() -> None:
    motion = CameraMotion(path="pan", amplitude_px=1, cycles=0.5)
    clip = source(ramp(), motion, fps=1000.0, picture_scale=1.0)
    values = np.array([clip.render(round(k * 1e6))[40, 50, 0] * 1000 for k in range(100)])
    np.testing.assert_allclose(np.diff(values), 0.002, atol=2e-4)


def test_frames_cover_the_duration_and_repeat_exactly() -> None:
    clip = source((waves() * 255).astype(np.uint8), MOTIONS[4])
    first, second = list(clip), list(clip)
    assert [frame.t_ns for frame in first] == [k * 50_000_000 for k in range(21)]
    assert clip.frame_count == 21
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second))
    assert (first[0].image.dtype, first[0].image.shape) == (np.uint8, (80, 100))


def test_float_frames_keep_shades_between_codes() -> None:
    codes = (waves() * 255).astype(np.uint8)
    image = source(codes, MOTIONS[0], dtype=np.float32).render(10**7)
    assert image.dtype == np.float32
    assert np.max(np.abs(image - source(codes, MOTIONS[0]).render(10**7) / 255)) < 1 / 255
    assert len(np.unique(image)) > 1000


def test_fine_detail_is_averaged_not_aliased() -> None:
    checkers = (np.indices((1200, 1600)).sum(axis=0) % 2 * 255).astype(np.uint8)
    image = source(checkers, CameraMotion(amplitude_px=5)).render(0)
    assert np.max(np.abs(image.astype(int) - 128)) <= 26


def test_small_picture_is_enlarged_with_a_warning_and_a_tiny_one_refused() -> None:
    with pytest.warns(MediaWarning, match=r"is enlarged 1\.\d+ times"):
        source(waves(), MOTIONS[0], size=(420, 300))
    with pytest.raises(InputError, match="of 4x4 pixels would be enlarged"):
        source(waves()[:4, :4], MOTIONS[0])


def test_seeing_beyond_the_picture_is_announced() -> None:
    with pytest.warns(MediaWarning, match="sees beyond the picture, which is mirrored"):
        source(waves(), MOTIONS[0], picture_scale=0.1)


def test_picture_file_keeps_its_transfer(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", waves())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip = StillImageSource(tmp_path / "a.npy", duration_s=0.1, fps=10, size=(100, 80))
    assert (clip.transfer, clip.name, clip.kind) == ("linear", str(tmp_path / "a.npy"), "still")
    assert clip.describe()["timing"] == "rendered at 10 frames/s"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"path": "spiral"}, "camera path 'spiral', expected one of pan"),
        ({"amplitude_px": -1}, "amplitude_px = -1, expected at least 0"),
        ({"zoom": 0.5}, "zoom = 0.5, expected at least 1"),
        ({"keyframes": (Keyframe(0.5),)}, "expected at least two"),
        ({"keyframes": (Keyframe(0.5), Keyframe(0.5))}, "increasing time"),
        ({"keyframes": (Keyframe(0), Keyframe(2))}, "times from 0 to 1"),
        ({"keyframes": (Keyframe(0), Keyframe(1, zoom=0))}, "positive zoom"),
    ],
)
def test_impossible_motion_is_refused(wrong: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        CameraMotion(**wrong)


@pytest.mark.parametrize("wrong", [{"duration_s": 0.0}, {"fps": -1.0}, {"size": (0, 5)}])
def test_impossible_footage_is_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match="expected"):
        source(waves(), MOTIONS[0], **wrong)
