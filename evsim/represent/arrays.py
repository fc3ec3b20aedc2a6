"""numpy or torch: representations take events of either kind and give arrays of the same kind, on its device.

torch is not imported here: whoever passes a tensor has done so.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from evsim.errors import InputError
from evsim.events import Events


def is_tensor(column: Any) -> bool:
    """True for a torch tensor."""
    return not isinstance(column, np.ndarray) and type(column).__module__.partition(".")[0] == "torch"


def empty(shape: tuple[int, ...], dtype: DTypeLike, like: Any) -> Any:
    """Uninitialised array or tensor of the kind, and on the device, of `like`."""
    if not is_tensor(like):
        return np.empty(shape, dtype)
    torch = sys.modules["torch"]
    return torch.empty(shape, dtype=getattr(torch, np.dtype(dtype).name), device=like.device)


def output(out: Any, shape: tuple[int, ...], dtype: DTypeLike, like: Any) -> Any:
    """`out` if it fits, or a new array of the kind of `like` when it is None.

    Raises InputError for an `out` of another kind, shape or dtype, or one that is not contiguous.
    """
    if out is None:
        return empty(shape, dtype, like)
    if is_tensor(out) != is_tensor(like):
        raise InputError(f"out is a {type(out).__name__} and the events are of {type(like).__name__}")
    if is_tensor(out) and out.device != like.device:
        raise InputError(f"out is on {out.device} and the events are on {like.device}")
    wanted = getattr(sys.modules["torch"], np.dtype(dtype).name) if is_tensor(out) else dtype
    if tuple(out.shape) != shape or out.dtype != wanted:
        raise InputError(
            f"out has shape {tuple(out.shape)} and dtype {out.dtype}, expected {shape} and {np.dtype(dtype)}"
        )
    if not (out.is_contiguous() if is_tensor(out) else out.flags.c_contiguous):
        raise InputError("out is not contiguous; pass a whole array or the leading items of one")
    return out


def numpy_events(events: Events) -> Events:
    """`events` with numpy columns; tensors of the CPU share their memory, others are copied."""
    if not is_tensor(events.t):
        return events
    t, x, y, p, label = (_host(column) for column in (events.t, events.x, events.y, events.p, events.label))
    return Events(t, x, y, p, events.width, events.height, events.t_origin, label)


def _host(column: Any) -> Any:
    return column.detach().cpu().numpy() if is_tensor(column) else column


def same_kind(array: NDArray[Any], like: Any) -> Any:
    """`array` as what `like` is: itself, or a tensor on the device of `like`."""
    return sys.modules["torch"].from_numpy(array).to(like.device) if is_tensor(like) else array


def positions(t: Any, times: ArrayLike, *, right: bool = False) -> NDArray[np.int64]:
    """First index with t >= time (t > time with `right`) for each time, as a numpy array."""
    wanted = np.asarray(times)
    if not is_tensor(t):
        return np.searchsorted(t, wanted, "right" if right else "left")
    torch = sys.modules["torch"]
    borders = torch.from_numpy(np.ascontiguousarray(wanted)).to(t.device)
    return torch.searchsorted(t.contiguous(), borders, right=right).cpu().numpy()


def take(column: Any, index: NDArray[np.int64]) -> NDArray[Any]:
    """column[index] as a numpy array, in one transfer from a GPU."""
    if not is_tensor(column):
        return column[index]
    return column[sys.modules["torch"].from_numpy(index).to(column.device)].cpu().numpy()
