"""A data set in the shape of GOPRO_Large_all, cut from real clips or synthetic, for the scripts beside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CLIPS = (
    "train/GOPR0372_07_00",
    "train/GOPR0372_07_01",
    "train/GOPR0374_11_00",
    "train/GOPR0378_13_00",
    "test/GOPR0384_11_00",
    "test/GOPR0385_11_01",
)


def build_tree(root: Path, source: Path | None, size: tuple[int, int], frames: int) -> Path:
    """Write six clips of `frames` PNG of `size` (width, height) under `root`; returns it.

    source: a folder of videos, which are cut in turn; None: a moving texture.
    """
    videos = sorted(path for path in source.iterdir() if path.suffix in (".mp4", ".avi")) if source else []
    for number, clip in enumerate(CLIPS):
        folder = root / clip
        folder.mkdir(parents=True)
        pictures = (
            _cut(videos[number % len(videos)], number // len(videos), size, frames)
            if videos
            else _texture(number, size, frames)
        )
        for index, image in enumerate(pictures, start=1):
            cv2.imwrite(str(folder / f"{index:06d}.png"), image)
    return root


def _cut(video: Path, part: int, size: tuple[int, int], frames: int) -> Iterator[NDArray[Any]]:
    capture = cv2.VideoCapture(str(video))
    read = 0
    while read < (part + 1) * frames:
        decoded, image = capture.read()
        if not decoded:
            raise SystemExit(
                f"{video} has only {read} frames, {(part + 1) * frames} are needed; pass --frames"
            )
        if read >= part * frames:
            yield cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        read += 1


def _texture(seed: int, size: tuple[int, int], frames: int) -> Iterator[NDArray[Any]]:
    noise = np.random.RandomState(seed).randn(size[1], size[0] + 2 * frames, 3)
    texture = cv2.GaussianBlur(noise, (0, 0), 4.0)
    texture = np.clip(120 + 60 * texture / texture.std(), 0, 255).astype(np.uint8)
    for k in range(frames):
        yield np.ascontiguousarray(texture[:, 2 * k : 2 * k + size[0]])
