"""Speed of counts and voxel grids made without a list of events, beside the same made from listed events.

    python benchmarks/sensor_sums.py [--runs 5] [--markdown]

The moving textures and sensors of benchmarks/sensor.py at 1280x720 and 1920 frames per second. Voxel grids:
E2VID rule, 5 bins, each over 8 frames. Listed events are in recycled memory and added to the grid step by
step (`voxel_grid(..., accumulate=True)`), the cheapest way there is; all outputs are allocated before. CPU
time of one thread, median frame, best run; the ways take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ["NUMBA_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from numpy.typing import NDArray
from sensor import CONFIGS, FPS, TEXTURES, UNTIMED, moving_texture

from evsim.represent import event_frame, voxel_grid
from evsim.sensor import EventSum, SensorConfig, Simulator

BINS, FRAMES_PER_WINDOW = 5, 8
SIZE = (1280, 720)
Step = Callable[[Simulator, NDArray[np.uint8], int, int], None]


class Ways:
    """The ways that are compared, each a function of (simulator, frame, its time, its number)."""

    def __init__(self) -> None:
        self.grid = np.zeros((BINS, *SIZE[::-1]), np.float32)
        self.counts = np.zeros((2, *SIZE[::-1]), np.int32)

    def list_only(self, simulator: Simulator, frame: NDArray[np.uint8], t_ns: int, k: int) -> None:
        """Events, and nothing done with them."""
        simulator.step(frame, t_ns)

    def list_voxels(self, simulator: Simulator, frame: NDArray[np.uint8], t_ns: int, k: int) -> None:
        """Events, then added to a voxel grid."""
        events = simulator.step(frame, t_ns)
        if k % FRAMES_PER_WINDOW == 1:
            self.grid[:] = 0
        if len(events):
            voxel_grid(events, BINS, window=_window(k), out=self.grid, accumulate=True)

    def direct_voxels(self, simulator: Simulator, frame: NDArray[np.uint8], t_ns: int, k: int) -> None:
        """A voxel grid without events."""
        if k % FRAMES_PER_WINDOW == 1:
            self.grid[:] = 0
        simulator.add(frame, t_ns, EventSum.voxels(self.grid, _window(k)))

    def list_counts(self, simulator: Simulator, frame: NDArray[np.uint8], t_ns: int, k: int) -> None:
        """Events, then counted."""
        event_frame(simulator.step(frame, t_ns), kind="counts", out=self.counts)

    def direct_counts(self, simulator: Simulator, frame: NDArray[np.uint8], t_ns: int, k: int) -> None:
        """Counts without events."""
        simulator.count(frame, t_ns, out=self.counts)


def _window(k: int) -> tuple[float, float]:
    """Microseconds of the window that frame k, counted from 0, belongs to."""
    first = (k - 1) // FRAMES_PER_WINDOW * FRAMES_PER_WINDOW
    return _time_ns(first) / 1000, _time_ns(first + FRAMES_PER_WINDOW) / 1000


def _time_ns(k: int) -> int:
    return round(k * 10**9 / FPS)


def time_run(config: SensorConfig, frames: NDArray[np.uint8], step: Step) -> float:
    """Milliseconds of the median frame of one pass over the clip with a new simulator."""
    simulator = Simulator(config, SIZE, seed=1, threads=1, recycle=True)
    spent = []
    for k, frame in enumerate(frames):
        before = time.process_time()
        step(simulator, frame, _time_ns(k), k)
        spent.append(time.process_time() - before)
    return 1e3 * statistics.median(spent[UNTIMED:])


HEADER = ["workload", "events", "events, voxels", "direct voxels", "ratio"]
HEADER += ["events, counts", "direct counts", "ratio"]


def rows(runs: int) -> list[list[str]]:
    """The table's rows, as text; milliseconds per frame."""
    ways = Ways()
    steps = [ways.list_only, ways.list_voxels, ways.direct_voxels, ways.list_counts, ways.direct_counts]
    table = []
    for texture, (sigma, contrast) in TEXTURES.items():
        frames = moving_texture(SIZE, sigma, contrast)
        for name, config in CONFIGS.items():
            best = np.min([[time_run(config, frames, step) for step in steps] for _ in range(runs)], axis=0)
            events, listed, direct, counted, counts = best
            cells = [f"{events:.2f}", f"{listed:.2f}", f"{direct:.2f}", f"{listed / direct:.1f}x"]
            cells += [f"{counted:.2f}", f"{counts:.2f}", f"{counted / counts:.1f}x"]
            table.append([f"{texture}, {name}", *cells])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="runs per row; the best counts")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    arguments = parser.parse_args()
    table = [HEADER, *rows(arguments.runs)]
    if arguments.markdown:
        table.insert(1, ["---"] + ["---:"] * (len(HEADER) - 1))
        for line in table:
            print("| " + " | ".join(line) + " |")
        return
    widths = [max(map(len, column)) for column in zip(*table)]
    for line in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths)))


if __name__ == "__main__":
    main()
