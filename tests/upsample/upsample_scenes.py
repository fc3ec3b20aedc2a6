"""Synthetic scenes whose picture at any time is known in closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evsim.media.frame import Frame
from evsim.upsample import PreparedPair


def texture(x: NDArray[np.float64], y: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """A sum of random plane waves of 8 to 60 pixels, in 30..225, at any real coordinates."""
    rng = np.random.default_rng(seed)
    picture = np.zeros(np.broadcast(x, y).shape)
    for _ in range(24):
        wavelength, direction, phase = (
            rng.uniform(8, 60),
            rng.uniform(0, 2 * np.pi),
            rng.uniform(0, 2 * np.pi),
        )
        picture += np.sin(2 * np.pi / wavelength * (x * np.cos(direction) + y * np.sin(direction)) + phase)
    return np.clip(127.5 + picture * 18, 30, 225)


def moving_texture(
    time: float,
    size: tuple[int, int] = (160, 136),
    velocity: tuple[float, float] = (0.0, 0.0),
    turn: float = 0.0,
    seed: int = 0,
) -> NDArray[np.float64]:
    """The texture at `time` (intervals), shifted by velocity * time and turned by turn * time (radians)."""
    width, height = size
    y, x = np.mgrid[:height, :width].astype(float)
    x, y = x - width / 2 - velocity[0] * time, y - height / 2 - velocity[1] * time
    cosine, sine = np.cos(turn * time), np.sin(turn * time)
    return texture(cosine * x + sine * y, cosine * y - sine * x, seed)


def disc_over_background(time: float, velocity: tuple[float, float]) -> NDArray[np.float64]:
    """A textured disc of radius 28 crossing a resting background."""
    background = moving_texture(0, seed=1)
    disc = moving_texture(time, velocity=velocity, seed=2)
    y, x = np.mgrid[: background.shape[0], : background.shape[1]]
    distance = np.hypot(x - 70 - velocity[0] * time, y - 68 - velocity[1] * time)
    share = np.clip(28.5 - distance, 0, 1)
    return background + share * (disc - background)


def to_bytes(picture: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The picture as 8-bit code values."""
    return np.rint(picture).astype(np.uint8)


def clip_of(*images: NDArray, interval_ns: int = 40_000_000, start_ns: int = 7) -> list[Frame]:
    """Frames of these images at equal distances."""
    return [Frame(image, start_ns + k * interval_ns, source_index=k) for k, image in enumerate(images)]


def psnr(image: NDArray, reference: NDArray) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 255."""
    error = np.mean((np.asarray(image, float) - np.asarray(reference, float)) ** 2)
    return float(10 * np.log10(255**2 / error))


def picture_at(pair: PreparedPair, fraction: float) -> NDArray:
    """The one picture of a prepared pair at a fraction of the way."""
    (picture,) = pair.pictures([fraction])
    return picture
