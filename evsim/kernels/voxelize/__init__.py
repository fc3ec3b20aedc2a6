"""Events to bins of time and pixels: the sum behind every voxel grid, histogram and event frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.kernels.backend import chosen_backend, load_backend
from evsim.kernels.voxelize.arguments import NO_DURATION, Placement, PlaneLayout

__all__ = ["BACKENDS", "Placement", "PlaneLayout", "voxelize"]

BACKENDS = {
    "cpu": "evsim.kernels.voxelize.cpu",
    "gpu": "evsim.kernels.voxelize.gpu",
    "reference": "evsim.kernels.voxelize.reference",
}
INDEX_LIMIT = 2**32


def voxelize(
    t: Any,
    x: Any,
    y: Any,
    p: Any,
    *,
    bins: int,
    ranges: NDArray[np.int64],
    placement: Placement,
    layout: PlaneLayout,
    out: Any,
    accumulate: bool = False,
    deterministic: bool = False,
    threads: int = 1,
    backend: str | None = None,
) -> Any:
    """`out` (planes, H, W) with every event of every window added to its bins and pixels.

    t, x, y, p: the columns, all numpy arrays or all torch tensors (where `out` is too): t sorted numbers;
    x, y whole numbers, or floats, which share an event bilinearly among the four pixels around it and leave
    out those beside the sensor; p > 0 is ON. ranges: (K, 2), window k is the events ranges[k, 0] up to
    ranges[k, 1]; windows may overlap. placement: the bin coordinate, see `Placement`. layout: which plane is
    whose, see `PlaneLayout`; planes must not be shared by windows. out: contiguous; float32 or float64 is
    also the precision of the sum (integers: "nearest" only). accumulate: add to what `out` holds instead of
    overwriting the planes named by `layout`. deterministic: on a GPU, add in order of time instead of with
    atomics (which differ in the last bits from run to run); a CPU always does. threads: of the CPU; the
    result differs from that of one thread by rounding.
    backend: "cpu", "gpu" or "reference", else EVSIM_BACKEND, else by the device of `t`.
    Nothing here has a gradient. Raises InputError for events out of order or outside the sensor, and
    BackendError.
    """
    device = "cpu" if isinstance(t, np.ndarray) else t.device.type
    _, height, width = out.shape
    if bins * height * width * (1 if layout.on == layout.off else 2) >= INDEX_LIMIT:
        raise InputError(f"a grid of {bins} bins of {width}x{height} pixels is too large to index")
    chosen = chosen_backend("voxelize", BACKENDS, backend, device)
    run = load_backend("voxelize", BACKENDS, chosen)
    if chosen != "cpu" and not (placement.duration > 0).all():
        raise InputError(NO_DURATION)
    columns: tuple[Any, ...] = (t, x, y, p)
    target = out
    if chosen != "gpu":
        columns, target = tuple([np.ascontiguousarray(_array(column)) for column in columns]), _array(out)
    run(
        *columns,
        bins=bins,
        ranges=ranges,
        placement=placement,
        layout=layout,
        out=target,
        accumulate=accumulate,
        deterministic=deterministic,
        threads=threads,
    )
    if device not in ("cpu", "cuda") or (device == "cuda" and chosen == "reference"):
        out.copy_(_as_tensor(target))
    return out


def _array(column: Any) -> NDArray[Any]:
    """A numpy array: the same, or the memory of a tensor of the CPU, or a copy of one of another device."""
    return column if isinstance(column, np.ndarray) else column.detach().cpu().numpy()


def _as_tensor(array: NDArray[Any]) -> Any:
    import torch

    return torch.from_numpy(array)
