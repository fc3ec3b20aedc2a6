"""BRISQUE: 36 scene statistics of one image and the support vector regression to a quality score."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evsim.errors import FormatError
from evsim.metrics.scene_statistics import (
    asymmetric_fit,
    half_size,
    luminance,
    neighbour_product,
    normalised_luminance,
    require_finite,
    symmetric_fit,
)

FEATURES = 36
_SHIFTS = ((0, 1), (1, 0), (1, 1), (-1, 1))
_GAMMA = 0.05
_RHO = -153.591
# Smallest and largest value of each feature in the training data, which the regression maps to -1 and 1.
_LOWEST = (
    *(0.338, 0.017204, 0.236, -0.123884, 0.000155, 0.001122, 0.244, -0.123586, 0.000152, 0.000975),
    *(0.249, -0.135687, 0.000174, 0.000913, 0.258, -0.143408, 0.000179, 0.000888),
    *(0.471, 0.012809, 0.218, -0.094876, 0.000015, 0.001272, 0.222, -0.115772, 0.000016, 0.001374),
    *(0.227, -0.117188, 0.00003, 0.001122, 0.228, -0.12243, 0.000028, 0.001118),
)
_HIGHEST = (
    *(10.0, 0.806612, 1.642, 0.20293, 0.712298, 0.470257, 1.641, 0.179083, 0.710456, 0.470984),
    *(1.555, 0.100858, 0.684173, 0.534174, 1.561, 0.100486, 0.685696, 0.536508),
    *(3.264, 0.703171, 1.046, 0.187459, 0.442057, 0.40803, 1.042, 0.162604, 0.444362, 0.40243),
    *(0.996, 0.098323, 0.531903, 0.369589, 0.99, 0.098658, 0.530092, 0.370399),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class BrisqueRegression:
    """The trained support vectors; the published ones are a download."""

    support_vectors: NDArray[np.float64]
    """(n, 36), features scaled to [-1, 1]."""
    coefficients: NDArray[np.float64]
    """(n,)."""
    rho: float = _RHO
    """Offset."""
    gamma: float = _GAMMA
    """Width of the radial basis functions."""


def brisque_features(image: ArrayLike) -> NDArray[np.float64]:
    """(36,) statistics of the luma at full and half size: shape and variance, then four products' fits.

    Per product of neighbours: shape, mean, left and right variance. Mittal et al. 2012. Raises InputError for
    what is no image or has no texture.
    """
    level = luminance(image)
    features = _scale_features(level) + _scale_features(half_size(level))
    require_finite(np.array(features), "brisque")
    return np.array(features)


def scaled_features(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Features mapped by the published ranges: values seen in training lie in [-1, 1]."""
    lowest, highest = np.array(_LOWEST), np.array(_HIGHEST)
    return 2 * (features - lowest) / (highest - lowest) - 1


def brisque(image: ArrayLike, regression: BrisqueRegression) -> float:
    """The quality score of one image, about 0 (best) to 100; InputError as in `brisque_features`."""
    distances = np.sum((regression.support_vectors - scaled_features(brisque_features(image))) ** 2, axis=1)
    return float(regression.coefficients @ np.exp(-regression.gamma * distances) - regression.rho)


def load_brisque(path: str | os.PathLike[str]) -> BrisqueRegression:
    """The regression of a LIBSVM model file in text form, as the authors published it ('allmodel').

    Raises FormatError if the file is no epsilon-SVR with radial basis functions over 36 features.
    """
    lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    if "SV" not in lines:
        raise FormatError(path, "no line 'SV'; expected a LIBSVM model in text form")
    start = lines.index("SV")
    header = {key: value for key, _, value in (line.partition(" ") for line in lines[:start])}
    kind = (header.get("svm_type"), header.get("kernel_type"))
    if kind != ("epsilon_svr", "rbf"):
        raise FormatError(path, f"the model is {kind[0]}, {kind[1]}; expected epsilon_svr, rbf")
    rows = [_support_vector(path, number, lines[number]) for number in range(start + 1, len(lines))]
    if not rows or str(len(rows)) != header.get("total_sv"):
        raise FormatError(path, f"{len(rows)} support vectors, the header says {header.get('total_sv')}")
    return BrisqueRegression(
        support_vectors=np.array([vector for _, vector in rows]),
        coefficients=np.array([coefficient for coefficient, _ in rows]),
        rho=_header_number(path, header, "rho"),
        gamma=_header_number(path, header, "gamma"),
    )


def _header_number(path: str | os.PathLike[str], header: Mapping[str, str], name: str) -> float:
    try:
        return float(header[name])
    except (KeyError, ValueError) as error:
        raise FormatError(path, f"{name} is {header.get(name)}, expected a number", place="header") from error


def _support_vector(
    path: str | os.PathLike[str], number: int, line: str
) -> tuple[float, NDArray[np.float64]]:
    """Coefficient and vector of one line; features count from 1, those left out are 0."""
    vector = np.zeros(FEATURES)
    try:
        coefficient, *entries = line.split()
        for entry in entries:
            index, value = entry.split(":")
            if not 1 <= int(index) <= FEATURES:
                raise ValueError(f"feature {index}, expected 1 to {FEATURES}")
            vector[int(index) - 1] = float(value)
        return float(coefficient), vector
    except ValueError as error:
        raise FormatError(path, str(error), place=f"line {number + 1}") from error


def _scale_features(level: NDArray[np.float64]) -> list[float]:
    normalised, _ = normalised_luminance(level, border="zero")
    features = [*symmetric_fit(normalised)]
    for shift in _SHIFTS:
        shape, left, right = asymmetric_fit(neighbour_product(normalised, shift))
        if math.isnan(shape):
            return [math.nan] * (FEATURES // 2)
        scale = math.exp(math.lgamma(2 / shape) - (math.lgamma(1 / shape) + math.lgamma(3 / shape)) / 2)
        features += [shape, (right - left) * scale, left**2, right**2]
    return features
