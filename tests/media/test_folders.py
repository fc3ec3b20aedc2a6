"""Image folders, single images, stacks and arrays."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from evsim.errors import InputError
from evsim.media import (
    ArraySource,
    ImageFilesSource,
    MediaWarning,
    Selection,
    natural_key,
    open_folder,
    open_source,
    open_stack,
    read_image,
)

FPS = Selection(fps=10)


def picture(seed: int = 0, dtype: Any = np.uint8, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (6, 8) if channels == 1 else (6, 8, channels)
    return (
        rng.random(shape).astype(dtype) if dtype is np.float32 else rng.integers(0, 256, shape).astype(dtype)
    )


def save(path: Path, rgb: np.ndarray) -> None:
    if path.suffix == ".npy":
        np.save(path, rgb)
        return
    order = rgb if rgb.ndim == 2 else rgb[..., [2, 1, 0, *range(3, rgb.shape[2])]]
    path.write_bytes(cv2.imencode(path.suffix, np.ascontiguousarray(order))[1].tobytes())


@pytest.mark.parametrize(
    ("suffix", "dtype", "channels"),
    [
        (".png", np.uint8, 3),
        (".png", np.uint16, 3),
        (".png", np.uint8, 1),
        (".png", np.uint16, 1),
        (".tif", np.uint16, 3),
        (".tiff", np.float32, 3),
        (".bmp", np.uint8, 3),
        (".ppm", np.uint16, 3),
        (".pfm", np.float32, 3),
        (".npy", np.uint8, 3),
        (".npy", np.uint16, 1),
        (".npy", np.float32, 3),
    ],
)
def test_images_come_back_exactly_in_rgb(tmp_path: Path, suffix: str, dtype: Any, channels: int) -> None:
    frames = [picture(k, dtype, channels) for k in range(3)]
    for k, image in enumerate(frames):
        save(tmp_path / f"{k}{suffix}", image)
    source = open_source(tmp_path, selection=FPS)
    read = [frame.image for frame in source]
    np.testing.assert_array_equal(read, frames)
    assert (source.dtype, source.channels) == (np.dtype(dtype), channels)
    assert source.transfer == ("linear" if dtype is np.float32 else "srgb")


def test_jpeg_is_near_and_in_rgb(tmp_path: Path) -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    save(tmp_path / "a.jpg", red)
    assert np.max(np.abs(read_image(tmp_path / "a.jpg").astype(int) - red)) <= 3


def test_files_are_in_natural_order(tmp_path: Path) -> None:
    for k in (10, 9, 1, 100):
        save(tmp_path / f"frame_{k}.png", np.full((2, 2), k, np.uint8))
    assert [int(frame.image[0, 0]) for frame in open_source(tmp_path, selection=FPS)] == [1, 9, 10, 100]


def test_natural_order_of_mixed_names() -> None:
    names = ["b1", "a10", "a2", "A1", "a02", "7", "a"]
    assert sorted(names, key=natural_key) == ["7", "a", "A1", "a02", "a2", "a10", "b1"]


def test_hidden_files_and_other_files_are_left_alone(tmp_path: Path) -> None:
    save(tmp_path / "a.PNG".lower(), picture())
    save(tmp_path / ".hidden.png", picture(1))
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "sub.png").mkdir()
    assert open_source(tmp_path, selection=FPS).frame_count == 1


def test_images_may_be_in_a_subfolder_imgs(tmp_path: Path) -> None:
    (tmp_path / "imgs").mkdir()
    save(tmp_path / "imgs/a.png", picture())
    (tmp_path / "fps.txt").write_text("25")
    assert open_source(tmp_path).timing == "fps.txt: 25 frames/s"


def test_transfer_can_be_declared(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture())
    assert open_source(tmp_path, selection=FPS, transfer="gamma").transfer == "gamma"
    with pytest.raises(InputError, match="transfer = 'hlg'"):
        open_source(tmp_path, selection=FPS, transfer="hlg")  # type: ignore[arg-type]


def test_transparency_is_dropped_and_counted(tmp_path: Path) -> None:
    opaque = picture(0, channels=4)
    opaque[..., 3] = 255
    holes = opaque.copy()
    holes[0, 0, 3] = 7
    for name, image in (("a", opaque), ("b", holes), ("c", opaque)):
        save(tmp_path / f"{name}.png", image)
    with pytest.warns(MediaWarning, match=r"dropped from 1 of 3 images, first b\.png"):
        read = [frame.image for frame in open_source(tmp_path, selection=FPS)]
    np.testing.assert_array_equal(read[1], holes[..., :3])


def test_opaque_alpha_is_no_cause_for_a_warning(tmp_path: Path) -> None:
    image = picture(0, channels=4)
    image[..., 3] = 255
    save(tmp_path / "a.png", image)
    assert open_source(tmp_path, selection=FPS).channels == 3


def test_different_size_names_the_file_and_both_sizes(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture())
    save(tmp_path / "b.png", picture()[:4])
    with pytest.raises(InputError, match=r"b\.png is 8x4 pixels, the frames before it 8x6"):
        list(open_source(tmp_path, selection=FPS))


def test_different_type_names_the_file_and_both_types(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture())
    save(tmp_path / "b.png", picture(channels=1))
    with pytest.raises(InputError, match=r"b\.png has 1 channels of uint8, the frames before it 3 of uint8"):
        list(open_source(tmp_path, selection=FPS))


@pytest.mark.parametrize(("value", "words"), [(np.nan, "1 values that are NaN"), (-1, "1 negative values")])
def test_unphysical_light_names_the_frame(tmp_path: Path, value: float, words: str) -> None:
    save(tmp_path / "a.npy", picture(0, np.float32))
    bad = picture(1, np.float32)
    bad[2, 3, 1] = value
    save(tmp_path / "b.npy", bad)
    with pytest.raises(InputError, match=rf"b\.npy holds {words}"):
        list(open_source(tmp_path, selection=FPS))


def test_logarithms_may_be_negative() -> None:
    assert len(list(ArraySource(np.full((2, 3, 5), -0.5, np.float32), 1.0, "log"))) == 2


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + b"0" * 50, b"text", None])
def test_damaged_image_is_an_input_error(tmp_path: Path, content: bytes | None) -> None:
    save(tmp_path / "a.png", picture())
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:80] if content is None else content)
    with pytest.raises(InputError, match=r"b\.png cannot be decoded: the file is"):
        list(open_source(tmp_path, selection=FPS))


def test_unsupported_sample_type_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 4), np.int64))
    with pytest.raises(InputError, match=r"a\.npy is int64, expected uint8, uint16 or float32"):
        open_source(tmp_path, selection=FPS)


def test_empty_folder_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "info.txt").write_text("a.png 1\n")
    with pytest.raises(InputError, match="holds no image; expected PNG"):
        open_source(tmp_path)


def test_several_kinds_of_image_are_refused_with_counts(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "a.jpg"):
        save(tmp_path / name, picture())
    with pytest.raises(InputError, match=r"several kinds \(2 PNG, 1 JPEG\)"):
        open_source(tmp_path, selection=FPS)


def test_missing_path_and_single_image_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_source(tmp_path / "nowhere")
    save(tmp_path / "a.png", picture())
    with pytest.raises(InputError, match=r"single image.*evsim simulate image"):
        open_source(tmp_path / "a.png")


def test_a_list_of_files_with_times_of_their_own(tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / f"{k}.png", np.full((2, 2), k, np.uint8))
    source = ImageFilesSource([tmp_path / "2.png", tmp_path / "0.png"], np.array([5, 9]))
    assert [(int(f.image[0, 0]), f.t_ns) for f in source] == [(2, 5), (0, 9)]
    with pytest.raises(InputError, match="3 times for 1 images"):
        ImageFilesSource([tmp_path / "0.png"], np.array([1, 2, 3]))


def test_stack_is_mapped_and_timed_by_its_sidecar(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (400, 100, 100), np.uint8)
    np.save(tmp_path / "a.npy", stack)
    (tmp_path / "a.timestamps.txt").write_text("".join(f"{k}.5\n" for k in range(400)))
    tracemalloc.start()
    try:
        source = open_source(tmp_path / "a.npy")
        for frame, want in zip(source, stack):
            assert np.array_equal(frame.image, want)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert source.frame_count == 400
    assert [frame.t_ns for frame in source][:2] == [500_000_000, 1_500_000_000]
    assert peak < stack.nbytes / 4
    assert (source.kind, source.timing) == ("stack", "a.timestamps.txt")


def test_archive_carries_frames_and_times(tmp_path: Path) -> None:
    stack = picture(0, np.float32)[None].repeat(3, 0)
    np.savez(tmp_path / "a.npz", frames=stack, t_ns=np.array([1, 5, 6]))
    source = open_stack(tmp_path / "a.npz")
    assert ([f.t_ns for f in source], source.transfer) == ([1, 5, 6], "linear")
    np.savez(tmp_path / "b.npz", stack, fps=4)
    assert [f.t_ns for f in open_stack(tmp_path / "b.npz")] == [0, 250_000_000, 500_000_000]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.write_bytes(b"no array"), "is not a readable stack"),
        (lambda p: p.write_bytes(b""), "is not a readable stack"),
        (lambda p: np.save(p, np.zeros((3, 4, 5), np.uint8)), "nothing says when its frames were taken"),
        (lambda p: np.save(p, np.array([{}]), allow_pickle=True), "is not a readable stack"),
    ],
)
def test_unusable_stack_is_an_input_error(tmp_path: Path, make: Any, words: str) -> None:
    make(tmp_path / "a.npy")
    with pytest.raises(InputError, match=words):
        open_source(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("frames", "times", "words"),
    [
        (np.zeros((3, 4), np.uint8), 1.0, r"shape \(3, 4\), expected \(T, H, W\)"),
        (np.zeros((48, 64, 3), np.uint8), 1.0, "one colour image or 48 grey frames"),
        (np.zeros((0, 4, 5), np.uint8), 1.0, "holds no frame"),
        (np.zeros((2, 4, 5), np.int32), 1.0, "is int32, expected uint8"),
        (np.zeros((2, 4, 5), bool), 1.0, "is bool, expected uint8"),
        (np.zeros((2, 4, 5), np.uint8), 0.0, "0.0 frames per second"),
        (
            np.zeros((2, 4, 5), np.uint8),
            np.array([0.0, 0.1]),
            "times are float64 .* expected int64 nanoseconds",
        ),
        (np.zeros((2, 4, 5), np.uint8), np.array([1, 2, 3]), "3 times for 2 frames"),
        (np.zeros((2, 4, 5), np.uint8), np.array([7, 7]), "frame 1 is at 0.000000007 s, not after frame 0"),
    ],
)
def test_unusable_arrays_are_refused(frames: np.ndarray, times: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ArraySource(frames, times)


def test_a_sequence_of_images_is_checked_frame_by_frame() -> None:
    source = ArraySource([np.zeros((4, 5), np.uint8), np.zeros((4, 6), np.uint8)], 1.0)
    with pytest.raises(InputError, match="frame 1 is 6x4 pixels, the frames before it 5x4"):
        list(source)


def test_wide_floats_become_float32() -> None:
    frame = next(iter(ArraySource(np.full((1, 2, 5), 0.5), 1.0, "linear")))
    assert frame.image.dtype == np.float32


@pytest.mark.needs_data
def test_office_zigzag_is_timed_in_microseconds(data: Path) -> None:
    source = open_folder(data / "clips/office_zigzag")
    read = list(source)
    assert [frame.t_ns for frame in read[:3]] == [13_767_000, 18_173_000, 22_580_000]
    assert (len(read), source.width, source.height, source.channels) == (11, 240, 180, 1)
    assert source.timing == "office_zigzag/info.txt"


@pytest.mark.needs_data
@pytest.mark.parametrize("path", ["vid2e_street_346x260/imgs", "vid2e_street_346x260"])
def test_street_takes_fps_from_beside_its_images(data: Path, path: str) -> None:
    source = open_folder(data / "clips" / path)
    assert [frame.t_ns for frame in source] == [k * 40_000_000 for k in range(9)]
    assert (source.width, source.height, source.fps) == (346, 260, 25.0)


@pytest.mark.needs_data
def test_pairs_without_times_need_fps(data: Path) -> None:
    with pytest.raises(InputError, match="pass --fps"):
        open_folder(data / "clips/rife_pairs")
