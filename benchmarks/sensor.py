"""Speed of the simulated sensor on one thread, beside the published figures of the upstream simulators.

    python benchmarks/sensor.py [--runs 5] [--markdown]

Texture: white Gaussian noise, low-passed by a Gaussian of 3 pixels (dense) or 16 pixels (sparse), that moves
by one pixel per frame at 1920 frames per second; uint8. `clean` has neither noise nor filter, `noise` is the
complete sim2real sensor; `esim`, `voltmeter` and `icns` are those models with published values. Through the
public `Simulator.step` with recycled outputs; `fresh` is the same with new memory for the events of every
frame. CPU time of one thread, median frame, best run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evsim.sensor import SensorConfig, Simulator

FRAMES, UNTIMED = 28, 3
FPS = 1920
SIZES = ((346, 260), (1280, 720))
TEXTURES = {"dense": (3.0, 45.0), "sparse": (16.0, 40.0)}
THRESHOLDS = {"contrast_threshold_on": 0.25, "contrast_threshold_off": 0.25}
CONFIGS = {
    "clean": SensorConfig(
        **THRESHOLDS,
        contrast_threshold_spread=0.0,
        cutoff_hz=0.0,
        leak_rate_hz=0.0,
        shot_noise_rate_hz=0.0,
        refractory_period_us=0.0,
    ),
    "noise": SensorConfig(
        **THRESHOLDS,
        model="idslpf",
        contrast_threshold_spread=0.03,
        cutoff_hz=1000.0,
        leak_rate_hz=0.1,
        shot_noise_rate_hz=10.0,
        refractory_period_us=10.0,
        step_rate_hz=FPS,
    ),
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
# Milliseconds per frame on one thread of an AMD EPYC core: v2e without noise and filter; Sim2Real's variant.
UPSTREAM = {
    ("clean", 346, "dense"): 5.0,
    ("clean", 346, "sparse"): 2.2,
    ("clean", 1280, "dense"): 50.0,
    ("clean", 1280, "sparse"): 19.0,
    ("noise", 346, "dense"): 9.0,
    ("noise", 346, "sparse"): 5.4,
    ("noise", 1280, "dense"): 111.0,
    ("noise", 1280, "sparse"): 72.0,
}
# Pixels per second stated for the published programs of the other models: 5 to 6 million.
UPSTREAM_RATE = {"voltmeter": 5.5e6, "icns": 5.5e6}


class Timing(NamedTuple):
    """Median frame of one run: milliseconds and events."""

    milliseconds: float
    events: float


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


def upstream_milliseconds(config: str, size: tuple[int, int], texture: str) -> float | None:
    """What the published program takes per frame, or None where nothing was measured."""
    if config in UPSTREAM_RATE:
        return 1e3 * size[0] * size[1] / UPSTREAM_RATE[config]
    return UPSTREAM.get((config, size[0], texture))


def best(timings: Sequence[Timing]) -> Timing:
    """The fastest of several runs."""
    return min(timings)


def rows(runs: int) -> list[list[str]]:
    """The table's rows, as text."""
    table = []
    for size in SIZES:
        for texture, (sigma, contrast) in TEXTURES.items():
            frames = moving_texture(size, sigma, contrast)
            for noise, config in CONFIGS.items():

                def repeat(
                    clock: Callable[[], float],
                    threads: int,
                    recycle: bool,
                    config: SensorConfig = config,
                    frames: NDArray[np.uint8] = frames,
                ) -> Timing:
                    return best([time_run(config, frames, clock, threads, recycle) for _ in range(runs)])

                one = repeat(time.process_time, 1, True)
                two = repeat(time.perf_counter, 2, True)
                fresh = repeat(time.process_time, 1, False)
                upstream = upstream_milliseconds(noise, size, texture)
                table.append(
                    [
                        f"{size[0]}x{size[1]} {texture}, {noise}",
                        f"{one.milliseconds:.2f}",
                        f"{size[0] * size[1] / one.milliseconds / 1e3:.0f}",
                        f"{one.events / one.milliseconds / 1e3:.0f}",
                        f"{one.events / 1e3:.1f} k",
                        f"{two.milliseconds:.2f}",
                        f"{fresh.milliseconds:.2f}",
                        f"{upstream:.3g}" if upstream else "",
                        f"{upstream / one.milliseconds:.0f}x" if upstream else "",
                    ]
                )
    return table


HEADER = [
    "workload",
    "ms/frame",
    "Mpixel/s",
    "Mevent/s",
    "events/frame",
    "2 threads, wall ms",
    "fresh memory ms",
    "upstream ms",
    "ratio",
]


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
