"""Speed of the simulated sensor, beside the published figures of the upstream simulators.

    python benchmarks/sensor.py [--runs 5] [--markdown] [--size 1280x720] [--workloads clean,noise]

Texture: `RandomState(0)`, white Gaussian noise, low-passed by a Gaussian of 3 pixels (dense) or 16 pixels
(sparse), that moves by one pixel per frame at 1920 frames per second; uint8. `clean` has neither noise nor
filter; `noise` has random low-pass, leak, shot noise and mismatch, `sim2real` a dead time as well; `exact` is
the low-pass in closed form; `esim`, `voltmeter` and `icns` are those models with published values. Through
the public `Simulator.step`; CPU time of one thread with recycled outputs, median frame, best run. `fresh` is
the same with new memory for the events of every frame, all kept; `2 threads` is wall time. `2 clips at once`
is what two threads gain that simulate a clip each and share nothing: what the machine allows.

Bytes per pixel: what a pass has to read and write of frame and state, and 34 bytes for each event (its key
written, counted, moved and read again, and the five columns). State counts as read whole and written where
its cache lines change. The share is that traffic in the measured time, over the bandwidth of copying arrays
as large as the state, measured in the same run.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.kernels.threads.pool import ThreadPool
from evsim.sensor import SensorConfig, Simulator

FRAMES, UNTIMED = 28, 3
FPS = 1920
SIZES = ((346, 260), (1280, 720))
TEXTURES = {"dense": (3.0, 45.0), "sparse": (16.0, 40.0)}
EVENT_BYTES = 34
LINE = 64
RARELY_READ = ("last_event", "rising")
"""Planes that are read only where they may change."""
THRESHOLDS = {"contrast_threshold_on": 0.25, "contrast_threshold_off": 0.25}
SILENT = {
    "contrast_threshold_spread": 0.0,
    "leak_rate_hz": 0.0,
    "shot_noise_rate_hz": 0.0,
    "refractory_period_us": 0.0,
}
NOISE: dict[str, Any] = {
    "model": "idslpf",
    "contrast_threshold_spread": 0.03,
    "cutoff_hz": 1000.0,
    "leak_rate_hz": 0.1,
    "shot_noise_rate_hz": 10.0,
    "step_rate_hz": FPS,
}
CONFIGS = {
    "clean": SensorConfig(**THRESHOLDS, **SILENT, cutoff_hz=0.0),
    "noise": SensorConfig(**THRESHOLDS, **NOISE, refractory_period_us=0.0),
    "sim2real": SensorConfig(**THRESHOLDS, **NOISE, refractory_period_us=10.0),
    "exact": SensorConfig(**THRESHOLDS, **SILENT, cutoff_hz=1000.0, low_pass="exact"),
    "esim": SensorConfig(model="esim", **THRESHOLDS, contrast_threshold_spread=0.0, refractory_period_us=0.0),
    "voltmeter": SensorConfig(model="voltmeter"),
    "icns": SensorConfig(
        model="icns",
        contrast_threshold_on=0.4,
        contrast_threshold_off=0.4,
        contrast_threshold_spread=0.01,
        refractory_period_us=100.0,
    ),
}
# Milliseconds per frame of one thread on a quiet machine: v2e without noise and filter; Sim2Real's variant.
UPSTREAM = {
    ("clean", 346, "dense"): 5.0,
    ("clean", 346, "sparse"): 2.2,
    ("clean", 1280, "dense"): 53.0,
    ("clean", 1280, "sparse"): 20.0,
    ("noise", 346, "dense"): 9.0,
    ("noise", 346, "sparse"): 5.4,
    ("noise", 1280, "dense"): 106.0,
    ("noise", 1280, "sparse"): 68.0,
}
# Pixels per second stated for the published programs of the other models: 5 to 6 million.
UPSTREAM_RATE = {"voltmeter": 5.5e6, "icns": 5.5e6}


class Timing(NamedTuple):
    """Median frame of one run: milliseconds and events."""

    milliseconds: float
    events: float


class Traffic(NamedTuple):
    """Bytes per pixel: of the state, and read and written in a pass, without events."""

    state: float
    touched: float


def moving_texture(size: tuple[int, int], sigma: float, contrast: float) -> NDArray[np.uint8]:
    """uint8 (FRAMES, H, W): windows of one texture, each a column further."""
    width, height = size
    noise = np.random.RandomState(0).standard_normal((height, width + FRAMES))
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in noise.shape), indexing="ij"))
    smooth = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-2 * (np.pi * sigma * frequency) ** 2)).real
    smooth = (smooth - smooth.mean()) / smooth.std()
    texture = np.clip(110 + contrast * smooth, 0, 255).astype(np.uint8)
    return np.stack([texture[:, k : k + width] for k in range(FRAMES)])


def time_run(
    config: SensorConfig,
    frames: NDArray[np.uint8],
    clock: Callable[[], float],
    threads: int,
    recycle: bool,
) -> Timing:
    """One pass over the clip with a new simulator."""
    simulator = Simulator(
        config, (frames.shape[2], frames.shape[1]), seed=1, threads=threads, recycle=recycle
    )
    spent, events, kept = [], [], []
    for k, frame in enumerate(frames):
        t_ns = round(k * 10**9 / FPS)
        before = clock()
        found = simulator.step(frame, t_ns)
        spent.append(clock() - before)
        events.append(len(found))
        if not recycle:
            kept.append(found)
    return Timing(1e3 * statistics.median(spent[UNTIMED:]), statistics.mean(events[UNTIMED:]))


def time_pair(config: SensorConfig, frames: NDArray[np.uint8]) -> float:
    """Wall milliseconds of the median frame when two threads simulate a clip each, at the same time."""
    size = (frames.shape[2], frames.shape[1])
    pair = [Simulator(config, size, seed=seed, threads=1, recycle=True) for seed in (1, 2)]
    pool, spent = ThreadPool(2), []
    for k, frame in enumerate(frames):
        calls = [functools.partial(simulator.step, frame, round(k * 10**9 / FPS)) for simulator in pair]
        before = time.perf_counter()
        pool.run(calls)
        spent.append(time.perf_counter() - before)
    return 1e3 * statistics.median(spent[UNTIMED:])


def best(timings: Sequence[Timing]) -> Timing:
    """The fastest of several runs."""
    return min(timings)


def traffic(config: SensorConfig, frames: NDArray[np.uint8]) -> Traffic:
    """What a pass reads and writes, found by comparing the state before and after one."""
    shape = frames.shape[1:]
    simulator = Simulator(config, shape[::-1], seed=1, threads=1)
    for k in range(UNTIMED):
        simulator.step(frames[k], round(k * 10**9 / FPS))
    before = full_planes(simulator, shape)
    simulator.step(frames[UNTIMED], round(UNTIMED * 10**9 / FPS))
    after = full_planes(simulator, shape)
    state = touched = frames.itemsize * frames[0].size
    state -= touched
    for name, plane in after.items():
        state += plane.nbytes
        lines = len(plane.tobytes()) // LINE
        old, new = (
            np.frombuffer(p.tobytes(), np.uint8, lines * LINE).reshape(lines, LINE)
            for p in (before[name], plane)
        )
        changed = int((old != new).any(axis=1).sum())
        touched += LINE * (changed + (changed if name in RARELY_READ else lines))
    return Traffic(state / frames[0].size, touched / frames[0].size)


def full_planes(simulator: Simulator, shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """The planes of the state that have an entry for every pixel."""
    pixels = simulator.state()["pixels"]
    return {
        name: plane
        for name, plane in pixels.items()
        if isinstance(plane, np.ndarray) and plane.shape == shape
    }


def copy_bandwidth(size: int) -> float:
    """Bytes read and written per second when arrays of so many bytes are copied."""
    source, target = np.ones(size, np.uint8), np.empty(size, np.uint8)
    times = []
    for _ in range(20):
        before = time.process_time()
        for _ in range(4):
            np.copyto(target, source)
        times.append((time.process_time() - before) / 4)
    return 2 * size / min(times)


def upstream_milliseconds(config: str, size: tuple[int, int], texture: str) -> float | None:
    """What the published program takes per frame, or None where nothing was measured."""
    if config in UPSTREAM_RATE:
        return 1e3 * size[0] * size[1] / UPSTREAM_RATE[config]
    return UPSTREAM.get((config, size[0], texture))


def row(name: str, size: tuple[int, int], texture: str, frames: NDArray[np.uint8], runs: int) -> list[str]:
    """One workload of the table, as text."""
    config, pixels = CONFIGS[name], size[0] * size[1]

    def repeat(clock: Callable[[], float], threads: int, recycle: bool) -> Timing:
        return best([time_run(config, frames, clock, threads, recycle) for _ in range(runs)])

    one = repeat(time.process_time, 1, True)
    wall = repeat(time.perf_counter, 1, True).milliseconds
    two = repeat(time.perf_counter, 2, True).milliseconds
    pair = min(time_pair(config, frames) for _ in range(runs))
    fresh = repeat(time.process_time, 1, False).milliseconds
    moved = traffic(config, frames)
    touched = moved.touched + EVENT_BYTES * one.events / pixels
    bandwidth = touched * pixels / one.milliseconds * 1e3
    share = bandwidth / copy_bandwidth(max(1, round(moved.state * pixels)))
    upstream = upstream_milliseconds(name, size, texture)
    return [
        f"{size[0]}x{size[1]} {texture}, {name}",
        f"{one.milliseconds:.2f}",
        f"{fresh:.2f}",
        f"{two:.2f}",
        f"{wall / two:.2f}x",
        f"{2 * wall / pair:.2f}x",
        f"{pixels / one.milliseconds / 1e3:.0f}",
        f"{one.events / one.milliseconds / 1e3:.0f}",
        f"{one.events / 1e3:.1f} k",
        f"{moved.state:.0f}",
        f"{touched:.0f}",
        f"{100 * share:.0f} %",
        f"{upstream:.3g}" if upstream else "",
        f"{upstream / one.milliseconds:.0f}x" if upstream else "",
    ]


HEADER = [
    "workload",
    "ms/frame",
    "fresh memory",
    "2 threads, wall",
    "2 threads",
    "2 clips at once",
    "Mpixel/s",
    "Mevent/s",
    "events/frame",
    "state B/px",
    "touched B/px",
    "of copy bandwidth",
    "upstream ms",
    "ratio",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="runs per row; the best counts")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--size", default="", help="one size only, such as 1280x720")
    parser.add_argument("--workloads", default=",".join(CONFIGS), help="some of " + ",".join(CONFIGS))
    arguments = parser.parse_args()
    table = [HEADER]
    for size in SIZES:
        if arguments.size in ("", f"{size[0]}x{size[1]}"):
            for texture, (sigma, contrast) in TEXTURES.items():
                frames = moving_texture(size, sigma, contrast)
                for name in arguments.workloads.split(","):
                    table.append(row(name, size, texture, frames, arguments.runs))
                    print(table[-1][0], table[-1][1], "ms", file=sys.stderr, flush=True)
    bandwidths = [copy_bandwidth(megabytes * 1_000_000) / 1e9 for megabytes in (8, 32)]
    note = "copy bandwidth, read and written: {:.0f} GB/s for 8 MB, {:.0f} GB/s for 32 MB".format(*bandwidths)
    if arguments.markdown:
        table.insert(1, ["---"] + ["---:"] * (len(HEADER) - 1))
        for line in table:
            print("| " + " | ".join(line) + " |")
    else:
        widths = [max(map(len, column)) for column in zip(*table)]
        for line in table:
            print("  ".join(cell.rjust(width) for cell, width in zip(line, widths)))
    print(f"\n{note}")


if __name__ == "__main__":
    main()
