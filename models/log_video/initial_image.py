"""A first image in closed form: the L0 that, added to the events' levels, leaves the least gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft


def initial_image(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 (H, W) of mean 0: the image L0 for which L0 + levels has the least total variation over time.

    Pixel edges decouple: the gradient of L0 across an edge is minus the median over time of that of the
    levels. The image of these gradients is their least-squares integral (Neumann border), solved by cosine
    transforms. levels: float32 (T, H, W).
    """
    rows = -np.median(np.diff(levels, axis=1), axis=0)
    columns = -np.median(np.diff(levels, axis=2), axis=0)
    divergence = np.zeros(levels.shape[1:], np.float32)
    divergence[:-1] += rows
    divergence[1:] -= rows
    divergence[:, :-1] += columns
    divergence[:, 1:] -= columns
    laplacian = second_difference(levels.shape[1])[:, None] + second_difference(levels.shape[2])
    laplacian[0, 0] = 1.0
    spectrum = -fft.dctn(divergence, norm="ortho") / laplacian
    spectrum[0, 0] = 0.0
    return np.asarray(fft.idctn(spectrum, norm="ortho"), np.float32)


def second_difference(count: int) -> NDArray[np.float32]:
    """float32 (count,): eigenvalues of minus the second difference under the DCT-II (Neumann border)."""
    return (2.0 - 2.0 * np.cos(np.pi * np.arange(count) / count)).astype(np.float32)
