"""NIQE: the distance between the scene statistics of an image and those of pristine images."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.errors import FormatError, InputError
from evsim.files import atomic_output
from evsim.metrics.scene_statistics import (
    asymmetric_fit,
    half_size,
    luminance,
    neighbour_product,
    normalised_luminance,
)

FEATURES = 36
BLOCK = 96
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
_MEAN_KEY, _COVARIANCE_KEY = "mu_pris_param", "cov_pris_param"


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneModel:
    """Mean and covariance of the block features of some images; the published pristine one is a download."""

    mean: NDArray[np.float64]
    """(36,)."""
    covariance: NDArray[np.float64]
    """(36, 36)."""


def niqe_features(image: ArrayLike) -> NDArray[np.float64]:
    """(blocks, 36) features of the 96x96 blocks of the luma (48x48 at half size), column after column.

    The image is cropped at the right and the bottom to whole blocks; a block without texture is NaN. Mittal
    et al. 2013. Raises InputError for what is no image or smaller than a block.
    """
    return _features_and_sharpness(luminance(image))[0]


def fit_scene_model(images: Iterable[ArrayLike], *, sharpness: float = 0.75) -> SceneModel:
    """Model of `images`, from the blocks of at least `sharpness` times an image's sharpest block.

    sharpness: 0.75 is the published rule for pristine images (Mittal et al. 2013), 0 takes every block.
    Raises InputError if fewer than two blocks remain.
    """
    kept = []
    for image in images:
        features, deviations = _features_and_sharpness(luminance(image))
        kept.append(features[deviations >= sharpness * deviations.max()])
    return _model(np.concatenate(kept) if kept else np.empty((0, FEATURES)))


def niqe(image: ArrayLike, pristine: SceneModel) -> float:
    """Distance of the image's statistics from the pristine ones: 0 or more, lower is better.

    Frames of small event cameras hold few blocks (240x180: two), so that the value is very noisy there.
    Raises InputError as `niqe_features`, or if fewer than two blocks have texture.
    """
    found = _model(niqe_features(image))
    difference = found.mean - pristine.mean
    inverse = np.linalg.pinv((found.covariance + pristine.covariance) / 2)
    return math.sqrt(max(0.0, float(difference @ inverse @ difference)))


def load_scene_model(path: str | os.PathLike[str]) -> SceneModel:
    """Read a model from NPZ arrays `mu_pris_param` (36) and `cov_pris_param` (36, 36), else FormatError."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            mean, covariance = (np.asarray(arrays[key], np.float64) for key in (_MEAN_KEY, _COVARIANCE_KEY))
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        expected = f"expected an NPZ file with {_MEAN_KEY} and {_COVARIANCE_KEY}"
        raise FormatError(path, f"{expected} ({error})") from error
    if mean.size != FEATURES or covariance.shape != (FEATURES, FEATURES):
        expected = f"expected {FEATURES} and {(FEATURES, FEATURES)}"
        raise FormatError(path, f"mean of shape {mean.shape}, covariance {covariance.shape}; {expected}")
    return SceneModel(mean=mean.reshape(-1), covariance=covariance)


def save_scene_model(model: SceneModel, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write `model` as `load_scene_model` reads it; InputError if the file exists without `overwrite`."""
    with atomic_output(path, overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        np.savez(stream, mu_pris_param=model.mean[None], cov_pris_param=model.covariance)


def _features_and_sharpness(level: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(blocks, 36) features and (blocks,) mean local deviation at full size."""
    rows, columns = (side // BLOCK for side in level.shape)
    if not rows * columns:
        size = f"{level.shape[1]}x{level.shape[0]}"
        raise InputError(f"niqe: the image is {size} pixels, expected at least {BLOCK}x{BLOCK}")
    level = level[: rows * BLOCK, : columns * BLOCK]
    full, deviation = normalised_luminance(level, border="replicate")
    half, _ = normalised_luminance(half_size(level), border="replicate")
    corners = [(row, column) for column in range(columns) for row in range(rows)]
    features = [
        _block_features(_block(full, corner, BLOCK)) + _block_features(_block(half, corner, BLOCK // 2))
        for corner in corners
    ]
    sharpness = [_block(deviation, corner, BLOCK).mean() for corner in corners]
    return np.array(features), np.array(sharpness)


def _block(image: NDArray[np.float64], corner: tuple[int, int], side: int) -> NDArray[np.float64]:
    row, column = corner[0] * side, corner[1] * side
    return image[row : row + side, column : column + side]


def _block_features(values: NDArray[np.float64]) -> list[float]:
    shape, left, right = _scales(values)
    features = [shape, (left + right) / 2]
    for shift in _SHIFTS:
        shape, left, right = _scales(neighbour_product(values, shift))
        offset = math.nan
        if not math.isnan(shape):
            offset = (right - left) * math.exp(math.lgamma(2 / shape) - math.lgamma(1 / shape))
        features += [shape, offset, left, right]
    return features


def _scales(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Shape, left and right scale of the fitted distribution."""
    shape, left, right = asymmetric_fit(values)
    if math.isnan(shape):
        return math.nan, math.nan, math.nan
    scale = math.exp((math.lgamma(1 / shape) - math.lgamma(3 / shape)) / 2)
    return shape, left * scale, right * scale


def _model(features: NDArray[np.float64]) -> SceneModel:
    complete = features[np.isfinite(features).all(axis=1)]
    if len(complete) < 2:
        raise InputError(
            f"niqe: {len(complete)} of {len(features)} blocks of {BLOCK}x{BLOCK} pixels have texture, "
            "expected at least 2; use larger or more images"
        )
    return SceneModel(mean=np.nanmean(features, axis=0), covariance=np.cov(complete.T))
