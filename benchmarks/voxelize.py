"""Speed of voxel grids beside the scatter limit, plain numpy and torch, and what peers are installed.

    python benchmarks/voxelize.py [--runs 9] [--threads 2] [--cases large,small]

Uniform: events anywhere, 1e6. Edges: events on 40 slanted edges that move, 1e7. Times are sorted over 50 ms.
VGA5 is 640x480x5, HD10 is 1280x720x10; float32, signed polarity, linear in time (E2VID rule) unless a line
says otherwise. One thread except where said. Wall and CPU time of the runs after one to warm up, and million
events a second at the minimum. "limit" adds two ready-made values to two ready-made cells of
each event and does nothing else: no representation by two cells in memory can be faster without keeping both
in one cache line (which evsim does where an interval holds an event or more a pixel). Peers that can be
imported are called in their own form of input and their own rule; the first line says which. "two windows at
once" are two threads that share nothing, its rate that of both together: what the machine allows two threads.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator

os.environ["NUMBA_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from evsim.events import Events
from evsim.kernels.threads.pool import ThreadPool
from evsim.represent import voxel_grid, voxel_grids

Call = Callable[[], object]
SIZES = {"VGA5": (640, 480, 5), "HD10": (1280, 720, 10)}
DURATION_US = 50_000
EDGES = 40
CHUNK = 2**16
TWO_WINDOWS = "limit: two windows at once"


def uniform(n: int, width: int, height: int) -> Events:
    """n events anywhere."""
    rng = np.random.default_rng(0)
    return _events(rng, n, rng.integers(0, width, n), rng.integers(0, height, n), width, height)


def edges(n: int, width: int, height: int) -> Events:
    """n events on slanted edges that move."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, DURATION_US, n))
    edge, y = rng.integers(0, EDGES, n), rng.integers(0, height, n)
    begin, slope = rng.uniform(0, width, EDGES), rng.uniform(-0.6, 0.6, EDGES)
    speed = rng.uniform(-1, 1, EDGES) * width / 1e6
    x = (begin[edge] + speed[edge] * t + slope[edge] * y + rng.normal(0, 0.7, n)) % width
    return _events(rng, n, np.minimum(x, width - 1), y, width, height, t)


def _events(
    rng: np.random.Generator,
    n: int,
    x: NDArray[np.generic],
    y: NDArray[np.generic],
    width: int,
    height: int,
    t: NDArray[np.int64] | None = None,
) -> Events:
    times = np.sort(rng.integers(0, DURATION_US, n)) if t is None else t
    polarity = rng.integers(0, 2, n).astype(np.uint8)
    return Events(times + 10**9, x.astype(np.uint16), y.astype(np.uint16), polarity, width, height)


def cells(events: Events, bins: int) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Index of the earlier cell of each event, and the values for it and for the cell one bin later."""
    tau = (events.t - events.t[0]) * ((bins - 1) / (events.t[-1] - events.t[0]))
    low = np.minimum(tau.astype(np.int64), bins - 2)
    sign = events.p.astype(np.float64) * 2 - 1
    index = (low * events.height + events.y) * events.width + events.x
    late = (sign * (tau - low)).astype(np.float32)
    return index, sign.astype(np.float32) - late, late


@numba.njit(nogil=True)
def add_two(index: NDArray, left: NDArray, right: NDArray, plane: int, out: NDArray) -> None:
    """The limit: two additions for each event."""
    for k in range(index.shape[0]):
        out[index[k]] += left[k]
        out[index[k] + plane] += right[k]


def torch_one_shot(events: Events, bins: int) -> torch.Tensor:
    """index_add_ over all events at once."""
    t, x, y, p = (torch.from_numpy(column) for column in (events.t, events.x, events.y, events.p))
    tau = (t - t[0]).double() * ((bins - 1) / (int(t[-1]) - int(t[0])))
    low = tau.floor().clamp(max=bins - 2)
    share = (tau - low).float()
    sign = p.float() * 2 - 1
    index = (low.long() * events.height + y.long()) * events.width + x.long()
    out = torch.zeros(bins * events.height * events.width)
    out.index_add_(0, index, sign * (1 - share))
    return out.index_add_(0, index + events.height * events.width, sign * share)


def torch_chunked(events: Events, bins: int) -> torch.Tensor:
    """index_add_ in chunks that stay in cache, int32 indices."""
    plane = events.height * events.width
    scale = (bins - 1) / int(events.t[-1] - events.t[0])
    out = torch.zeros(bins * plane)
    for begin in range(0, len(events), CHUNK):
        part = events[begin : begin + CHUNK]
        tau = torch.from_numpy(part.t - events.t[0]).double().mul_(scale)
        low = tau.floor().clamp_(max=bins - 2)
        share = tau.sub_(low).float()
        index = low.int().mul_(events.height).add_(torch.from_numpy(part.y).int())
        index.mul_(events.width).add_(torch.from_numpy(part.x).int())
        sign = torch.from_numpy(part.p).float().mul_(2).sub_(1)
        late = share.mul_(sign)
        out.index_add_(0, index, sign.sub_(late))
        out.index_add_(0, index.add_(plane), late)
    return out


def add_at(events: Events, bins: int) -> NDArray[np.float32]:
    """numpy.add.at twice."""
    index, left, right = cells(events, bins)
    out = np.zeros(bins * events.height * events.width, np.float32)
    np.add.at(out, index, left)
    np.add.at(out, index + events.height * events.width, right)
    return out


PEERS = ("tonic", "eventcv", "dv_processing")
WITHOUT = "aedat, expelliarmus, hdf5plugin and rosbags (read and write files only)"
"""Packages of the extras `formats` and `test` that have nothing to compare with."""


def describe_peers() -> str:
    """Which peers are measured, which are not installed and which make no representation."""
    here = [name for name in PEERS if importlib.util.find_spec(name)]
    absent = [name for name in PEERS if name not in here]
    return (
        f"Peers measured: {', '.join(here) or 'none'}. Not installed: {', '.join(absent) or 'none'}. "
        f"Without voxel grids: {WITHOUT}."
    )


def peers(events: Events, bins: int) -> dict[str, Call]:
    """Representations of installed packages, input prepared outside the clock."""
    found: dict[str, Call] = {}
    if importlib.util.find_spec("tonic"):
        from tonic.functional import to_voxel_grid_numpy

        structured = events.to_structured()
        size = (events.width, events.height, 2)
        found["tonic"] = lambda: to_voxel_grid_numpy(structured.copy(), size, bins)
    if importlib.util.find_spec("eventcv"):
        import eventcv

        columns = np.stack([events.x, events.y, events.t, events.p], 1).astype(np.uint64)
        stream = eventcv.from_numpy(columns, sensor_size=(events.width, events.height), time_unit="us")
        found["eventcv"] = lambda: stream.voxel(bins=bins)
    if importlib.util.find_spec("dv_processing"):
        import dv_processing

        store = dv_processing.EventStore()
        for t, x, y, p in zip(
            events.t.tolist(), events.x.tolist(), events.y.tolist(), (events.p > 0).tolist()
        ):
            store.push_back(t, x, y, p)

        def accumulate() -> object:
            surface = dv_processing.EdgeMapAccumulator((events.width, events.height))
            surface.accept(store)
            return surface.generateFrame()

        found["dv-processing (one edge map, no bins)"] = accumulate
    return found


def variants(events: Events, bins: int, threads: int) -> dict[str, Call]:
    """What is compared on large windows."""
    plane = events.height * events.width
    out = np.empty((bins, events.height, events.width), np.float32)
    index, left, right = cells(events, bins)
    index32, total = index.astype(np.uint32), np.zeros(out.size, np.float32)
    pool, others = ThreadPool(2), (out, np.empty_like(out))
    both = [functools.partial(voxel_grid, events, bins, out=other) for other in others]
    return {
        "evsim": lambda: voxel_grid(events, bins),
        "evsim, out=": lambda: voxel_grid(events, bins, out=out),
        f"evsim, out=, {threads} threads": lambda: voxel_grid(events, bins, out=out, threads=threads),
        TWO_WINDOWS: lambda: pool.run(both),
        "evsim, split polarity": lambda: voxel_grid(events, bins, polarity="split"),
        "limit: two cells, index ready": lambda: add_two(index32, left, right, plane, total),
        "numpy.add.at": lambda: add_at(events, bins),
        "torch index_add_, chunks of 2^16": lambda: torch_chunked(events, bins),
        "torch index_add_, at once": lambda: torch_one_shot(events, bins),
        **peers(events, bins),
    }


def small_variants(events: Events) -> dict[str, Call]:
    """What is compared on one window of few events."""
    out = np.zeros((5, events.height, events.width), np.float32)
    return {
        "out=": lambda: voxel_grid(events, 5, out=out),
        "out=, accumulate=True": lambda: voxel_grid(events, 5, out=out, accumulate=True),
        "limit: out.fill(0)": lambda: out.fill(0),
    }


def batch_variants(events: Events, count: int) -> dict[str, Call]:
    """Windows of equal length that cover the stream, in one call and in one call each."""
    starts = events.t[0] + np.arange(count) * (DURATION_US // count)
    windows = np.stack([starts, starts + DURATION_US // count], 1)
    out = np.zeros((count, 5, events.height, events.width), np.float32)
    parts = [events.between(*window) for window in windows]
    return {
        "one call": lambda: voxel_grids(events, 5, windows, out=out),
        "one call each": lambda: [voxel_grid(part, 5, out=place) for part, place in zip(parts, out)],
    }


def measure(
    calls: dict[str, Call], runs: int, inner: int = 1
) -> Iterator[tuple[str, list[float], list[float]]]:
    """Wall and CPU seconds of each call, taken in turns: other load on the machine falls on all alike."""
    wall: dict[str, list[float]] = {name: [] for name in calls}
    busy: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(runs + 1):
        for name, call in calls.items():
            begin, begin_busy = time.perf_counter(), time.process_time()
            for _ in range(inner):
                call()
            if run:
                wall[name].append((time.perf_counter() - begin) / inner)
                busy[name].append((time.process_time() - begin_busy) / inner)
    for name in calls:
        yield name, wall[name], busy[name]


def table(case: str, rows: Iterable[tuple[str, list[float], list[float]]], n: int, unit: str) -> None:
    """Print one table; n is the number of events of one call."""
    factor = {"ms": 1e3, "us": 1e6}[unit]
    print(
        f"\n{case}\n\n| variant | wall min {unit} | wall median | CPU min | Mevent/s, wall | Mevent/s, CPU |"
    )
    print("|---|---|---|---|---|---|")
    for name, wall, busy in rows:
        done = 2 * n if name == TWO_WINDOWS else n
        times = (min(wall) * factor, statistics.median(wall) * factor, min(busy) * factor)
        rates = (done / min(wall) / 1e6, done / min(busy) / 1e6)
        print(
            f"| {name} | {' | '.join(f'{t:.2f}' for t in times)} | {' | '.join(f'{r:.0f}' for r in rates)} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cases", default="large,small", help="large, small or both (default)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_peers())
    for kind, n in (("uniform", 10**6), ("edges", 10**7)) if "large" in arguments.cases else ():
        for label, (width, height, bins) in SIZES.items():
            events = (uniform if kind == "uniform" else edges)(n, width, height)
            index, left, right = cells(events, bins)
            exact = np.bincount(index, left, bins * height * width)
            exact += np.bincount(index + height * width, right, bins * height * width)
            worst = np.abs(voxel_grid(events, bins).reshape(-1) - exact).max()
            case = f"{n:.0e} events, {kind}, {label} (largest difference from a float64 sum {worst:.1e})"
            # Some calls in a row, as in use: after another variant the caches and the second thread are cold.
            rows = measure(variants(events, bins, arguments.threads), arguments.runs, 20 if n <= 10**6 else 1)
            table(case, rows, n, "ms")
    if "small" not in arguments.cases:
        return
    for width, height in ((240, 180), (346, 260), (640, 480)):
        for n in (1000, 10_000):
            rows = measure(small_variants(uniform(n, width, height)), arguments.runs, 300)
            table(f"{n} events, {width}x{height}x5", rows, n, "us")
    rows = measure(batch_variants(uniform(320_000, 240, 180), 32), arguments.runs, 5)
    table("32 windows of 10000 events, 240x180x5", rows, 320_000, "us")


if __name__ == "__main__":
    main()
